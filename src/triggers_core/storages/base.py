"""The interface of a storage: `Store`.

A `Store` holds all sessions of one place (a file, a Redis namespace). It loads snapshots and writes
plans, atomically, and keeps a few indexes; what the session means is decided by the state machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.engine.waits import event_spans
from triggers_core.exceptions import CannotJoin, UnknownSchema
from triggers_core.storages.arguments import MOST, check_limit
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
    failed_in,
    group_failed,
    group_waiting,
)
from triggers_core.storages.summaries import SessionSummary, comes, in_coming_order

_PAGE: Final = 500  # sessions read at a time by `all_sessions`

_T = TypeVar("_T")

Clock = Callable[[], float]
"""Returns seconds since 1970."""


class Due(msgspec.Struct, frozen=True):
    """An instance that the sweep should look after."""

    uid: str
    instance: str


class Store:
    """Base of every storage's store. All methods are safe to call from several threads.

    A subclass keeps these promises, which `triggers_core.testing.StorageContract` checks: a commit
    is atomic and durable when `commit` returns; two commits to one session are serial; `due` and
    the other listings never miss what is committed.

    Methods that have no default raise `NotImplementedError`; ``docs/writing-a-storage.md`` lists
    them, and says what each field of a query and a plan asks of a storage.
    """

    key: ClassVar[str] = ""
    """The storage's key in the registry, for messages."""

    in_this_process: ClassVar[bool] = False
    """Whether its sessions live in the memory of the process, where no other one can see them."""

    awaits: ClassVar[bool] = False
    """Whether it is used in an event loop, by its awaitable methods alone; see `AwaitedStore`."""

    def __init__(self, clock: Clock = time.time) -> None:
        self.clock = clock

    @property
    def place(self) -> str:
        """Where the sessions are, in words, for logs and messages; no password in it.

        For example ``the SQLite file /srv/shop/triggers.db``.
        """
        return f"the storage {self.key!r}"

    @property
    def exists(self) -> bool:
        """Whether there is anything at `place` yet; looks, and creates nothing.

        False for a file that the first commit will create, for example: whoever only wants to look
        has the wrong place, most likely. A server is there (True), whether or not it has sessions.
        """
        return True

    def set_up(self) -> bool:
        """Make what sessions are kept in, such as tables or a file, or bring it up to date.

        The first commit does that, too, unless the storage was told not to. Any number of processes
        may try at the same time.

        :returns: whether there was anything to do; False for a storage that needs no set-up.
        """
        return False

    def set_up_sql(self) -> str | None:
        """The statements of `set_up`, for those who keep their migrations elsewhere; else None."""
        return None

    def now(self) -> float:
        """The clock that stamps what is stored, in seconds since 1970."""
        return self.clock()

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[_T], rules: Rules) -> Plan[_T]:
        """Decide a change on the session's current state and write it, atomically.

        :returns: the plan as written, times stamped. Its `outcome` is the command's answer.
        :raises: whatever the command raises, and then nothing is written.
        """
        raise NotImplementedError

    async def acommit(self, uid: str, command: Command[_T], rules: Rules) -> Plan[_T]:
        """As `commit`, for stores that are awaited (`awaits`); all others are called in threads."""
        raise NotImplementedError

    async def aload(self, uid: str, query: Query) -> Snapshot:
        """As `load`, for stores that are awaited (`awaits`); all others are called in threads."""
        raise NotImplementedError

    def together(self, work: Callable[[], _T]) -> _T:
        """Run `work`, which makes many commits in this thread; a storage may write them in one go.

        They are durable when this returns, and in the order in which they were made before. What
        `work` raises is raised; the commits that it had made by then are kept.

        Meant for a store that nobody else uses, such as a backtest's: others may have to wait.
        """
        return work()

    # -- transactions of the application ----------------------------------------------------------

    def joined(self, connection: object) -> Store:
        """The same sessions within a transaction of the application's.

        What the answer commits becomes durable when, and if, whoever opened the transaction commits
        it; what it reads includes what the transaction has written so far. It is used in one
        thread, like the connection. Its `when_committed` calls back after that commit.

        :param connection: what the application has its transaction in, as the storage's own
            documentation lists: a driver's connection, an ORM's session.
        :raises CannotJoin: this storage is in no database that an application could share, or not
            in that of the connection, or the connection is of a kind unknown to it.
        """
        raise CannotJoin(
            f"{self.place} cannot be part of a transaction of the application: only storages in a"
            " database that the application shares can (postgres, django)"
        )

    def transaction(self) -> AbstractContextManager[Any]:
        """One transaction for everything that this thread commits within.

        At the end of the block all of it is stored, or nothing if the block raises. What this
        thread reads within includes what it has written. Until the end, others wait who want to
        change the same sessions (or, in SQLite, any): so it is to be short, and nothing in it may
        wait for them. Hooks and dispatch follow the end.

        A commit that is refused within leaves nothing; whoever catches that goes on. A block within
        a block belongs to the outer one, and is stored with it; of one that raises, nothing is
        stored, even if the outer one goes on.

        :returns: a context manager; its value is what the storage's documentation says, such as the
            connection.
        :raises CannotJoin: the storage cannot do that.
        :raises StorageError: at the end: nothing is stored.

        Example::

            with store.transaction():
                get_trigger_manager("order:1").fire("merged", {"into": "order:2"})
                get_trigger_manager("order:2").fire("mergedFrom", {"order": "order:1"})
        """
        raise CannotJoin(
            f"{self.place} cannot make several commits one: storages in a database can (sqlite,"
            " postgres, django)"
        )

    def in_thread(self, call: Callable[[], _T]) -> Awaitable[_T] | None:
        """Make a call for a coroutine, in a thread that the store's connections belong to.

        The context variables are those of the coroutine. It is awaited for what the call returns or
        raises.

        :returns: None, when any thread will do: the application has some.

        Example::

            def in_thread(self, call):
                return sync_to_async(call, thread_sensitive=True)()  # as Django's have to be
        """
        return None

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is within `transaction`: what another one does is no part of that."""
        return False

    def when_committed(self, callback: Callable[[], None]) -> None:
        """Call back once everything that this thread has committed here is durable.

        At once, unless a transaction is open around it. Callbacks come in the order in which they
        were given, after the commit; after a roll-back, none does. If the process dies before, none
        does either: the sweep makes up for what was to be dispatched.
        """
        callback()

    def follow_up(self) -> None:
        """Call back now for what has been committed, where a thread of the store's would do it.

        For whoever wants to wait for what follows, or to end the process.
        """

    def load(self, uid: str, query: Query) -> Snapshot:
        """Read a part of a session, consistently; `Snapshot.header` is None when there is none."""
        raise NotImplementedError

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        """A session's instances, by task name and number.

        :param statuses: only those in one of these.
        :param task: only those of this task.
        :param unresolved_logs: only those that logged a warning or worse, not marked as resolved.
        """
        raise NotImplementedError

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        """A session's events from number `start` on, in order.

        :raises InvalidArgument: a negative number, or none at all (`check_window`).
        """
        raise NotImplementedError

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        """Some of a session's events; unknown numbers are left out.

        Costs what these events cost, however many others there are.
        """
        raise NotImplementedError

    def payloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        """The encoded kwargs of events, by number; unknown numbers are left out."""
        events = self.events_by_number(uid, numbers)
        return {number: bytes(event.payload) for number, event in events.items()}

    def delete(self, uid: str) -> bool:
        """Erase a session; whether there was one. A message about it is stale from then on."""
        raise NotImplementedError

    # -- the fleet --------------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        """The instances whose time has come, earliest first; at most `limit` (`check_limit`).

        :param within: also those whose time comes within so many seconds.
        """
        raise NotImplementedError

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        """What falls due by itself from now on: instances that are held back, and deadlines.

        Whatever is under way falls due as well, when its lease ends: that is not among them. Those
        that cannot be read are left out.

        :param within: seconds ahead to look.
        :returns: uids and unstarted instances, the next ones first (`in_coming_order`).

        Example::

            [(uid, each.name) for uid, each in store.coming(3600)]  # [("order:1", "t_remind#0")]
        """
        amount, names = check_limit(limit), dict[str, list[str]]()
        for each in self.due(limit=MOST, within=within):
            names.setdefault(each.uid, []).append(each.instance)
        found = list[tuple[str, Instance]]()
        for uid, wanted in names.items():
            with suppress(UnknownSchema):
                snapshot = self.load(uid, Query(instances=tuple(wanted)))
                found += [
                    (uid, each)
                    for each in snapshot.instances.values()
                    if comes(each, snapshot.now, within)
                ]
        return in_coming_order(found)[:amount]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        """The instances whose time lies more than `seconds` ahead, farthest first.

        The sweep looks there, seldom, for times that a wrong clock has written.
        """
        raise NotImplementedError

    def next_due(self) -> float | None:
        """Seconds until the next instance is due (negative: overdue); None when none will be."""
        raise NotImplementedError

    def watch_due(self, callback: Callable[[], None]) -> None:
        """Call back, from now on, when another process has stored what falls due soon.

        For sweeps, which look every few seconds anyway: a storage may miss what it should have told
        of, tell of what it need not, or hear nothing ever, as by default. `engine.due_times` says
        what soon is (`due_soon`).

        :param callback: returns at once; called from any thread. With one that is given already,
            this sees to it that it still works: sweeps call this each time they look.
        """

    def unwatch_due(self, callback: Callable[[], None]) -> None:
        """Do not call back any more, from a moment after this on; unknown ones are no error."""

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        """The fleet index.

        :param failed: sessions with failed instances, most first.
        :param waiting: sessions that wait, longest first. With both: either. With neither: all, by
            uid.
        :param after: only sessions with a greater uid; for reading all of them page by page.
        :raises InvalidArgument: a negative limit (`check_limit`).
        """
        raise NotImplementedError

    # Read from the listings above; a storage whose sessions are many has indexes for them.

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        """The waiting sessions, grouped by what they lack; most sessions first.

        :param most: how many sessions to count for each; what it costs depends on that and on how
            many groups there are, not on how many sessions. Of very many groups (`MOST_COUNTED`), a
            storage may leave some out.
        :raises InvalidArgument: a negative limit (`check_limit`).

        Example::

            [(each.missing, each.sessions) for each in store.waiting_groups()]  # [(("packed",), 3)]
        """
        waiting = self.sessions(waiting=True)
        groups = group_waiting(((each.missing, each.waiting_since) for each in waiting), most)
        return groups[: check_limit(limit)]

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        """The sessions of one of `waiting_groups`; those that wait longest first.

        :param missing: what the group lacks.
        :param after: only those that began to wait then or later, in seconds since 1970: for
            reading page by page. The last ones of a page may come again with the next.
        """
        wanted, amount = tuple(missing), check_limit(limit)
        return [
            each
            for each in self.sessions(waiting=True)
            if each.missing == wanted and (each.waiting_since or 0.0) >= after
        ][:amount]

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        """The failed instances, grouped by task and type of error; most instances first.

        Reads the index of failed instances, and no others.
        """
        amount = check_limit(limit)
        return group_failed(self._failed(None, None))[:amount]

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        """The failed instances of all sessions, those that failed first first.

        :param task: only those of this task.
        :param error: only those that failed of this type of error.
        :param after: only those behind this one: for reading page by page, while others are
            replayed.
        """
        amount = check_limit(limit)
        found = sorted(self._failed(task, error), key=lambda each: each.position)
        if after is not None:
            found = [each for each in found if each.position > after.position]
        return found[:amount]

    def _failed(self, task: str | None, error: str | None) -> list[FailedInstance]:
        found: list[FailedInstance] = []
        for session in self.sessions(failed=True):
            with suppress(UnknownSchema):
                instances = self.instances(session.uid, statuses=(Status.FAILED,), task=task)
                found += failed_in(session.uid, instances, task, error)
        return found

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        """The sessions that have recorded an event under an id of the application's.

        :returns: uid and number of the event, by uid; None: the storage has no index that tells.
        """
        return None

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse] | None:
        """The configurations that sessions have, by address.

        :param after: only addresses greater than this one; for reading page by page.
        :param most: how many sessions to count for each; what it costs depends on that, and not on
            how many there are.
        :returns: None: the storage has no index that tells.
        """
        return None

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary] | None:
        """The sessions that have one configuration, by uid; closed ones included.

        :param address: its `Configuration.hash`.
        :param after: only sessions with a greater uid; for reading page by page.
        :returns: None: the storage has no index that tells.
        """
        return None

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        """Erase sessions without a commit for `older_than` seconds.

        :param resolved_only: keep those with unresolved instances.
        :returns: how many were erased.
        :raises InvalidArgument: an age that nobody can mean (`check_age`).
        """
        raise NotImplementedError

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a named lease over the whole store; False while another owner has it.

        One that would last longer than the `seconds` asked for was written by a wrong clock: it is
        free. So all who share a lease ask for the same time.
        """
        raise NotImplementedError

    def release_lease(self, name: str, owner: str) -> None:
        """Give a named lease back, if `owner` has it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files and connections; the store may be used again and then reopens them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def taken_events(store: Store, uid: str, instance: Instance) -> dict[int, Event]:
    """The events within the spans of an instance (`waits.event_spans`), by number."""
    found: dict[int, Event] = {}
    single: list[int] = []
    for first, last in event_spans(instance):
        if first == last:
            single.append(first)
        else:
            found |= {each.number: each for each in store.events(uid, first, last - first + 1)}
    return found | store.events_by_number(uid, single) if single else found


def all_sessions(store: Store) -> Iterator[SessionSummary]:
    """Every session of a store, by uid, read page by page."""
    after = ""
    while page := store.sessions(limit=_PAGE, after=after):
        yield from page
        after = page[-1].uid
