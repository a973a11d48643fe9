"""The interface of a storage, and the loop that drives a change through it.

A `Store` holds all sessions of one place (a file, a Redis namespace). It loads snapshots and writes
plans, atomically, and keeps a few indexes; what the session means is decided by the state machine.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    SessionState,
    Status,
    decode_header,
)
from triggers_core.exceptions import InvalidArgument, UnknownSchema
from triggers_core.texts import short_repr

logger: logging.Logger = logging.getLogger(__name__)

MOST: Final = 1 << 31
"""Numbers of events lie below it, and so do the amounts that a listing is asked for."""

_PAGE: Final = 500  # sessions read at a time by `all_sessions`

_T = TypeVar("_T")

Clock = Callable[[], float]
"""Returns seconds since 1970."""


class Due(msgspec.Struct, frozen=True):
    """An instance that the sweep should look after."""

    uid: str
    instance: str


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the fleet index. Times are in seconds since 1970."""

    uid: str
    generation: str
    state: SessionState
    failed: int
    """Instances that failed and were neither replayed nor skipped."""
    unstarted: int
    under_way: int
    events: int
    created_at: float
    updated_at: float
    waiting_since: float | None
    """When the session began to wait for events, with nothing under way."""
    counts: dict[str, list[int]] = {}
    """Task → its instances by status, in the order of `records.STATUSES`."""


def summarise(uid: str, header: Header) -> SessionSummary:
    """The fleet index's line for a session."""
    return SessionSummary(
        uid=uid,
        generation=header.generation,
        state=header.state,
        failed=header.total(Status.FAILED),
        unstarted=header.total(Status.UNSTARTED),
        under_way=header.total(Status.SCHEDULED, Status.RUNNING),
        events=header.events,
        created_at=header.created_at,
        updated_at=header.updated_at,
        waiting_since=header.waiting_since,
        counts=header.counts,
    )


def drive(
    command: Command[_T], uid: str, rules: Rules, load: Callable[[Query], Snapshot]
) -> Plan[_T]:
    """Drive a change to its plan: load what it asks for until it returns one.

    :raises UnknownSchema: the session cannot be read; names it.
    """
    steps = command.decide(uid, rules)
    try:
        query = next(steps)
        while True:
            query = steps.send(load(query))
    except StopIteration as done:
        plan: Plan[_T] = done.value
        return plan
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__


class Store:
    """Base of every storage's store. All methods are safe to call from several threads.

    A subclass keeps these promises, which `triggers_core.testing.StorageContract` checks: a commit
    is atomic and durable when `commit` returns; two commits to one session are serial; `due` and
    the other listings never miss what is committed.
    """

    key: ClassVar[str] = ""
    """The storage's key in the registry, for messages."""

    in_this_process: ClassVar[bool] = False
    """Whether its sessions live in the memory of the process, where no other one can see them."""

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

    def together(self, work: Callable[[], _T]) -> _T:
        """Run `work`, which makes many commits in this thread; a storage may write them in one go.

        They are durable when this returns, and in the order in which they were made before. What
        `work` raises is raised; the commits that it had made by then are kept.

        Meant for a store that nobody else uses, such as a backtest's: others may have to wait.
        """
        return work()

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

    def due(self, limit: int = 100) -> list[Due]:
        """The instances whose time has come, earliest first; at most `limit` (`check_limit`)."""
        raise NotImplementedError

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        """The instances whose time lies more than `seconds` ahead, farthest first.

        The sweep looks there, seldom, for times that a wrong clock has written.
        """
        raise NotImplementedError

    def next_due(self) -> float | None:
        """Seconds until the next instance is due (negative: overdue); None when none will be."""
        raise NotImplementedError

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


def all_sessions(store: Store) -> Iterator[SessionSummary]:
    """Every session of a store, by uid, read page by page."""
    after = ""
    while page := store.sessions(limit=_PAGE, after=after):
        yield from page
        after = page[-1].uid


def readable_header(uid: str, record: bytes) -> Header | None:
    """A session's header, for listings; None, and a warning, when it cannot be read.

    Sessions of a newer version, and damaged ones, must not hide the others.
    """
    try:
        return decode_header(record)
    except UnknownSchema as error:
        logger.warning("%s", error.of(uid))
        return None


def may_wait(header: Header, configuration: Configuration, trigger: str) -> bool:
    """Whether any instance can be waiting for the trigger; if not, a storage need not look."""
    for task in configuration.listeners.get(trigger, ()):
        if header.count(task.name, Status.UNSTARTED):
            return True
    return False


def check_limit(limit: object, what: str = "limit") -> int | None:
    """Return how many a listing may answer with, at most; None for all.

    :raises InvalidArgument: it is no whole number, or a negative one.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidArgument(f"{what}: expected a whole number from 0 on, got {short_repr(limit)}")
    return min(limit, MOST)


def check_window(start: object, limit: object) -> tuple[int, int | None]:
    """Return the window of a listing of events: the number of the first, and how many at most.

    :raises InvalidArgument: one is no whole number, or a negative one.
    """
    first = check_limit(start, "start")
    if first is None:
        raise InvalidArgument("start: expected a whole number from 0 on, got None")
    return first, check_limit(limit)


def check_age(older_than: object, resolved_only: bool = True) -> float:
    """Return the age, in seconds, from which on `Store.prune` erases sessions.

    A negative one counts only along with ``resolved_only=False``, which says "all of them".

    :raises InvalidArgument: it is no finite number, or negative while unresolved sessions stay.
    """
    if (
        not isinstance(older_than, int | float)
        or isinstance(older_than, bool)
        or not math.isfinite(older_than)
    ):
        raise InvalidArgument(
            f"older_than: expected a number of seconds, got {short_repr(older_than)}"
        )
    if older_than < 0 and resolved_only:
        raise InvalidArgument(
            f"older_than: expected 0 seconds or more, got {short_repr(older_than)}; to erase all"
            " sessions, whatever their age, say resolved_only=False as well"
        )
    return float(older_than)


def prunable(header: Header, before: float, resolved_only: bool) -> bool:
    """Whether `Store.prune` may erase a session."""
    if header.updated_at > before:
        return False
    unresolved = header.total(Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING, Status.FAILED)
    return not (resolved_only and unresolved)


def fleet_order(
    summaries: Sequence[SessionSummary], failed: bool, waiting: bool, limit: int | None
) -> list[SessionSummary]:
    """Filter and sort summaries the way `Store.sessions` promises."""
    chosen = [
        each
        for each in summaries
        if not (failed or waiting)
        or (failed and each.failed)
        or (waiting and each.waiting_since is not None)
    ]

    def position(each: SessionSummary) -> tuple[Any, ...]:
        if not (failed or waiting):
            return (each.uid,)
        since = each.waiting_since if waiting and each.waiting_since is not None else float("inf")
        return (-each.failed if failed else 0, since, each.uid)

    return sorted(chosen, key=position)[:limit]
