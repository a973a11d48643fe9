"""The storage `memory`: the reference for all others, and for tests. Gone with the process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from heapq import nsmallest
from typing import Any, ClassVar, Final, TypeVar

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.names import instance_name, split_instance_name
from triggers_core.engine.protocol import Change, Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.engine.waits import event_spans, is_moment, moment_key
from triggers_core.exceptions import InvalidSetting, NestedCommit, UnknownSchema
from triggers_core.storages import due_order
from triggers_core.storages.arguments import check_age, check_limit, check_window
from triggers_core.storages.base import Clock, Due, Store
from triggers_core.storages.driving import add_due, drive
from triggers_core.storages.groups import MOST_COUNTED, ConfigurationInUse, group_by_configuration
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.summaries import (
    SessionSummary,
    fleet_order,
    prunable,
    readable_header,
    summarise,
)

T = TypeVar("T")

_DECISIONS: Final = 100  # at one change, while something within it commits others

Key = tuple[str, int]
"""Task name and number of an instance."""


class _Session:
    """One session's records, encoded as every other storage keeps them."""

    def __init__(self) -> None:
        self.header = b""
        self.events: list[bytes] = []
        self.event_ids: dict[str, int] = {}
        self.instances: dict[Key, bytes] = {}
        self.unstarted: dict[str, set[Key]] = {}
        self.waiting_for: dict[str, set[Key]] = {}
        self.due_order: due_order.DueOrder = []

    def write(self, written: _Written) -> None:
        self.header = written.header or self.header
        if written.events:
            # By number: what an interrupted write has appended already is replaced.
            del self.events[written.first :]
            for event_id, record in written.events:
                self.event_ids[event_id] = len(self.events)
                self.events.append(record)
        for change, record in written.instances:
            self._index(change)
            self.instances[change.instance.task, change.instance.number] = record

    def _index(self, change: Change) -> None:
        key = (change.instance.task, change.instance.number)
        for wait in change.waits_before - change.waits_after:
            if is_moment(wait):
                due_order.discard(self.due_order, (wait, *key))
            else:
                self.waiting_for.setdefault(wait, set()).discard(key)
        for wait in change.waits_after - change.waits_before:
            if is_moment(wait):
                due_order.add(self.due_order, (wait, *key))
            else:
                self.waiting_for.setdefault(wait, set()).add(key)
        unstarted = self.unstarted.setdefault(key[0], set())
        if change.instance.status is Status.UNSTARTED:
            unstarted.add(key)
        else:
            unstarted.discard(key)


class _Written:
    """A plan as it will be kept: encoded, so that writing it cannot fail."""

    __slots__ = (
        "config",
        "config_before",
        "configuration",
        "events",
        "first",
        "header",
        "instances",
    )

    def __init__(self, plan: Plan[Any]) -> None:
        self.header = None if plan.header is None else encode_record(plan.header)
        self.config = self.config_before = ""
        """The addresses of another configuration that the session gets, and of its last one."""
        self.configuration: Configuration | None = None
        """That configuration, if no other session has it."""
        self.events = [(event.id, encode_record(event)) for event in plan.events]
        self.first = plan.events[0].number if plan.events else 0
        self.instances = [(change, encode_record(change.instance)) for change in plan.changes]


class MemoryStore(Store):
    """Sessions in dictionaries, behind one lock.

    An exception out of a signal handler may interrupt a write between any two steps. So every write
    is noted first, as something that can be done twice; what was interrupted is done by the next
    one who comes in. Until it is noted, nothing has happened.
    """

    key: ClassVar[str] = "memory"
    in_this_process: ClassVar[bool] = True

    def __init__(self, clock: Clock = time.time) -> None:
        super().__init__(clock)
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._configurations: dict[str, Configuration] = {}
        self._users: dict[str, set[str]] = {}
        """Address of a configuration → the sessions that have it: it goes with the last one."""
        self._serial = 0
        self._unfinished: tuple[Callable[..., None], tuple[Any, ...]] | None = None
        self._due: dict[tuple[str, str], float] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    @property
    def place(self) -> str:
        return "the memory of this process"

    @property
    def exists(self) -> bool:
        return bool(self._sessions)

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        with self._lock:
            if self._unfinished is not None:
                self._heal()
            for _ in range(_DECISIONS):
                serial = self._serial
                plan = drive(command, uid, rules, partial(self._load, uid))
                if plan.empty:
                    return plan
                if serial == self._serial:  # else a signal handler has committed meanwhile
                    break
            else:
                raise NestedCommit(
                    f"{uid}: each time that this change is decided on, something within it (a"
                    " before_commit hook?) changes the storage: plan.fire adds to the same change"
                )
            self._carry_out(uid, plan)
            return plan

    def _carry_out(self, uid: str, plan: Plan[Any]) -> None:
        plan.stamp(self.clock())
        written = _Written(plan)
        if plan.configuration is not None:
            self._replace_configuration(uid, written, plan.configuration)
        self._write(self._save, uid, written)

    def _replace_configuration(
        self, uid: str, written: _Written, configuration: Configuration
    ) -> None:
        session = self._sessions.get(uid)
        if session is not None:
            written.config_before = decode_header(session.header).config
        written.config = configuration.hash
        if configuration.hash not in self._configurations:
            written.configuration = Configuration.decoded(configuration.encoded)

    def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        self._serial += 1
        self._unfinished = change, arguments  # from here on it is stored, whatever interrupts it
        change(*arguments)
        self._unfinished = None

    def _heal(self) -> None:
        """Do what an interrupted write has left undone."""
        if self._unfinished is None:
            return
        frame = sys._getframe(1)
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code is MemoryStore._write.__code__ and frame.f_locals["self"] is self:
                raise NestedCommit("a signal handler cannot use this storage while it is written")
        change, arguments = self._unfinished
        self._write(change, *arguments)

    def _save(self, uid: str, written: _Written) -> None:
        session = self._sessions.get(uid) or _Session()
        session.write(written)
        self._sessions[uid] = session
        if written.config != written.config_before:
            if written.configuration is not None:
                self._configurations[written.config] = written.configuration
            self._users.setdefault(written.config, set()).add(uid)
            self._let_go(uid, written.config_before)
        for change, _ in written.instances:
            instance = change.instance
            if instance.due_at is None:
                self._due.pop((uid, instance.name), None)
            else:
                self._due[uid, instance.name] = instance.due_at

    def _let_go(self, uid: str, address: str) -> None:
        """A session no longer has the configuration: forget that, if it was the last one."""
        users = self._users.get(address)
        if users is not None:
            users.discard(uid)
            if not users:
                self._configurations.pop(address, None)
                self._users.pop(address, None)

    def load(self, uid: str, query: Query) -> Snapshot:
        with self._lock:
            self._heal()
            try:
                return self._load(uid, query)
            except UnknownSchema as error:
                raise error.of(uid) from error.__cause__

    def _load(self, uid: str, query: Query) -> Snapshot:
        now, session = self.clock(), self._sessions.get(uid)
        if session is None:
            return Snapshot(now=now)
        header = decode_header(session.header)
        snapshot = Snapshot(now=now, header=header, configuration=self._configuration(header))
        if query.moments is not None:
            add_due(snapshot, _index(session, moment_key(query.moments)), query.moments)
        keys: dict[Key, None] = {}
        for trigger in query.triggers:
            keys.update(dict.fromkeys(session.waiting_for.get(trigger, ())))
        for task in query.unstarted:
            keys.update(dict.fromkeys(session.unstarted.get(task, ())))
        for name in query.instances:
            keys[split_instance_name(name)] = None
        for key in keys:
            record = session.instances.get(key)
            if record is not None:
                instance = decode_instance(record)
                snapshot.instances[instance.name] = instance
        for event_id in query.event_ids:
            if event_id in session.event_ids:
                event = decode_event(session.events[session.event_ids[event_id]])
                snapshot.known[event_id] = event
        if query.all_events:
            snapshot.events = [decode_event(record) for record in session.events]
        if query.numbers:
            snapshot.numbered = _events(session, query.numbers)
        if query.payloads:
            for name in query.instances:
                if name in snapshot.instances:
                    for first, last in event_spans(snapshot.instances[name]):
                        for number, record in enumerate(session.events[first : last + 1], first):
                            snapshot.numbered[number] = decode_event(record)
        return snapshot

    def _configuration(self, header: Header) -> Configuration:
        if not header.config:
            return EMPTY
        try:
            return self._configurations[header.config]
        except KeyError:
            raise UnknownSchema(f"its configuration {header.config} is missing") from None

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        with self._lock:
            self._heal()
            session = self._sessions.get(uid)
            records = sorted(session.instances.items()) if session else []
        try:
            found = [decode_instance(record) for key, record in records if task in (None, key[0])]
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__
        return [
            instance
            for instance in found
            if (statuses is None or instance.status in statuses)
            and (not unresolved_logs or instance.has_open_logs)
        ]

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)
        with self._lock:
            self._heal()
            session = self._sessions.get(uid)
            end = None if limit is None else start + limit
            records = session.events[start:end] if session else []
        try:
            return [decode_event(record) for record in records]
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        with self._lock:
            self._heal()
            session = self._sessions.get(uid)
            try:
                return _events(session, numbers) if session else {}
            except UnknownSchema as error:
                raise error.of(uid) from error.__cause__

    def delete(self, uid: str) -> bool:
        with self._lock:
            self._heal()
            session = self._sessions.get(uid)
            if session is None:
                return False
            header = readable_header(uid, session.header)
            self._write(self._erase, uid, None if header is None else header.config)
            return True

    def _erase(self, uid: str, address: str | None) -> None:
        session = self._sessions.get(uid)
        if session is not None:
            for task, number in session.instances:
                self._due.pop((uid, instance_name(task, number)), None)
            self._sessions.pop(uid, None)
        for each in list(self._users) if address is None else [address]:
            self._let_go(uid, each)

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        most = check_limit(limit)
        with self._lock:
            self._heal()
            now = self.clock() + within
            due = ((at, *key) for key, at in self._due.items() if at <= now)
            overdue = nsmallest(len(self._due) if most is None else most, due)
        return [Due(uid, instance) for _, uid, instance in overdue]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        most = check_limit(limit)
        with self._lock:
            self._heal()
            after = self.clock() + seconds
            ahead = sorted(
                ((at, *key) for key, at in self._due.items() if at > after), reverse=True
            )
        return [Due(uid, instance) for _, uid, instance in ahead[:most]]

    def next_due(self) -> float | None:
        with self._lock:
            self._heal()
            return min(self._due.values()) - self.clock() if self._due else None

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        with self._lock:
            self._heal()
            summaries = [summarise(uid, header) for uid, header in self._headers() if uid > after]
        return fleet_order(summaries, failed, waiting, limit)

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        limit = check_limit(limit)
        with self._lock:
            self._heal()
            found = [
                (uid, session.event_ids[event_id])
                for uid, session in self._sessions.items()
                if event_id in session.event_ids
            ]
        return sorted(found)[:limit]

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        limit = check_limit(limit)
        with self._lock:
            self._heal()
            return group_by_configuration(self._headers(), limit, after, most)

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        with self._lock:
            self._heal()
            found = [
                summarise(uid, header)
                for uid, header in self._headers()
                if uid > after and header.config == address
            ]
        return sorted(found, key=lambda each: each.uid)[:limit]

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        older_than = check_age(older_than, resolved_only)
        with self._lock:
            self._heal()
            before = self.clock() - older_than
            old = [
                uid for uid, header in self._headers() if prunable(header, before, resolved_only)
            ]
            return sum(self.delete(uid) for uid in old)

    def _headers(self) -> list[tuple[str, Header]]:
        found = (
            (uid, readable_header(uid, session.header)) for uid, session in self._sessions.items()
        )
        return [(uid, header) for uid, header in found if header is not None]

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        with self._lock:
            holder, until = self._leases.get(name, (owner, 0.0))
            now = self.clock()
            # One that ends far later than anybody asks for was taken by a clock that was ahead.
            if holder != owner and now < until <= now + 2 * seconds:
                return False
            self._leases[name] = (owner, now + seconds)
            return True

    def release_lease(self, name: str, owner: str) -> None:
        with self._lock:
            if self._leases.get(name, ("", 0.0))[0] == owner:
                del self._leases[name]


def _index(session: _Session, latest: str) -> Iterator[tuple[str, Instance | None]]:
    """What falls due up to a moment, as `add_due` takes it; then the next, which it only names."""
    for key, task, number in due_order.entries(session.due_order):
        record = session.instances.get((task, number)) if key <= latest else None
        yield key, None if record is None else decode_instance(record)


def _events(session: _Session, numbers: Iterable[int]) -> dict[int, Event]:
    return {
        number: decode_event(session.events[number])
        for number in numbers
        if 0 <= number < len(session.events)
    }


class MemoryStorage(SessionStorage):
    """One session in memory.

    Example::

        store = MemoryStore()
        storage = storage_backends.get("memory", "order:1", store=store)
    """

    def __init__(self, uid: str, store: MemoryStore | None = None) -> None:
        """Open a session.

        :param uid: the session's uid.
        :param store: where its sessions live; a new one when not given.
        """
        super().__init__(uid, store or self.open_store())

    @classmethod
    def open_store(cls, clock: Clock = time.time) -> MemoryStore:
        return MemoryStore(clock)

    @classmethod
    def options_from_text(cls, text: str) -> dict[str, Any]:
        if ":" in text:  # its clock is nothing to be typed
            raise InvalidSetting("the storage 'memory' takes no value: --storage memory")
        return {}
