"""The storage `memory`: the reference for all others, and for tests. Gone with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from typing import ClassVar

from triggers_core.commands import has_unresolved_logs
from triggers_core.configuration import EMPTY, Configuration
from triggers_core.names import split_instance_name
from triggers_core.protocol import Change, Need, Plan, Rules, Slice
from triggers_core.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.storages.base import (
    Clock,
    Decides,
    Due,
    SessionSummary,
    Store,
    decide,
    fleet_order,
    prunable,
    summarise,
)
from triggers_core.storages.session import SessionStorage

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

    def write(self, plan: Plan) -> None:
        header = None if plan.header is None else encode_record(plan.header)
        events = [(event.id, encode_record(event)) for event in plan.events]
        instances = [(change, encode_record(change.instance)) for change in plan.changes]
        # Nothing above touched the session, nothing below can fail: all of it or none.
        self.header = header or self.header
        for event_id, record in events:
            self.event_ids[event_id] = len(self.events)
            self.events.append(record)
        for change, record in instances:
            self._index(change)
            self.instances[change.instance.task, change.instance.number] = record

    def _index(self, change: Change) -> None:
        key = (change.instance.task, change.instance.number)
        for trigger in change.wanted - change.wants:
            self.waiting_for[trigger].discard(key)
        for trigger in change.wants - change.wanted:
            self.waiting_for.setdefault(trigger, set()).add(key)
        unstarted = self.unstarted.setdefault(key[0], set())
        if change.instance.status is Status.UNSTARTED:
            unstarted.add(key)
        else:
            unstarted.discard(key)


class MemoryStore(Store):
    """Sessions in dictionaries, behind one lock."""

    key: ClassVar[str] = "memory"

    def __init__(self, clock: Clock = time.time) -> None:
        super().__init__(clock)
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._configurations: dict[str, Configuration] = {}
        self._due: dict[tuple[str, str], float] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    @property
    def place(self) -> str:
        return "the memory of this process"

    def commit(self, uid: str, command: Decides, rules: Rules) -> Plan:
        with self._lock:
            plan = decide(command, uid, rules, lambda need: self.load(uid, need))
            if plan.empty:
                return plan
            plan.stamp(self.clock())
            configuration = plan.configuration
            if configuration is not None and configuration.hash not in self._configurations:
                stored = Configuration.decoded(configuration.encoded)
                self._configurations[configuration.hash] = stored
            session = self._sessions.get(uid) or _Session()
            session.write(plan)
            self._sessions[uid] = session
            for change in plan.changes:
                self._index_due(uid, change.instance)
            return plan

    def _index_due(self, uid: str, instance: Instance) -> None:
        if instance.due_at is None:
            self._due.pop((uid, instance.name), None)
        else:
            self._due[uid, instance.name] = instance.due_at

    def load(self, uid: str, need: Need) -> Slice:
        with self._lock:
            now, session = self.clock(), self._sessions.get(uid)
            if session is None:
                return Slice(now=now)
            header = decode_header(session.header)
            keys: dict[Key, None] = {}
            for trigger in need.triggers:
                keys.update(dict.fromkeys(session.waiting_for.get(trigger, ())))
            for task in need.unstarted:
                keys.update(dict.fromkeys(session.unstarted.get(task, ())))
            keys.update((split_instance_name(name), None) for name in need.instances)
            instances = {
                instance.name: instance
                for instance in (
                    decode_instance(session.instances[key])
                    for key in keys
                    if key in session.instances
                )
            }
            taken = [
                number
                for name in (need.instances if need.payloads else ())
                if name in instances
                for numbers in instances[name].taken.values()
                for number in numbers
            ]
            return Slice(
                now=now,
                header=header,
                configuration=self._configurations.get(header.config, EMPTY),
                instances=instances,
                known={
                    event_id: decode_event(session.events[session.event_ids[event_id]])
                    for event_id in need.event_ids
                    if event_id in session.event_ids
                },
                events=[decode_event(record) for record in session.events]
                if need.all_events
                else [],
                payloads=self.payloads(uid, taken),
            )

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        with self._lock:
            session = self._sessions.get(uid)
            records = sorted(session.instances.items()) if session else []
        found = [decode_instance(record) for key, record in records if task in (None, key[0])]
        return [
            instance
            for instance in found
            if (statuses is None or instance.status in statuses)
            and (not unresolved_logs or has_unresolved_logs(instance))
        ]

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        with self._lock:
            session = self._sessions.get(uid)
            end = None if limit is None else start + limit
            return [decode_event(each) for each in session.events[start:end]] if session else []

    def payloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        with self._lock:
            session = self._sessions.get(uid)
            events = session.events if session else []
            return {
                number: bytes(decode_event(events[number]).payload)
                for number in numbers
                if 0 <= number < len(events)
            }

    def delete(self, uid: str) -> bool:
        with self._lock:
            for key in [key for key in self._due if key[0] == uid]:
                del self._due[key]
            return self._sessions.pop(uid, None) is not None

    def due(self, limit: int = 100) -> list[Due]:
        with self._lock:
            now = self.clock()
            overdue = sorted((at, *key) for key, at in self._due.items() if at <= now)
        return [Due(uid, instance) for _, uid, instance in overdue[:limit]]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        with self._lock:
            after = self.clock() + seconds
            ahead = sorted(((at, *key) for key, at in self._due.items() if at > after), reverse=True)
        return [Due(uid, instance) for _, uid, instance in ahead[:limit]]

    def next_due(self) -> float | None:
        with self._lock:
            return min(self._due.values()) - self.clock() if self._due else None

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        with self._lock:
            summaries = [summarise(uid, header) for uid, header in self._headers() if uid > after]
        return fleet_order(summaries, failed, waiting, limit)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        with self._lock:
            before = self.clock() - older_than
            old = [
                uid for uid, header in self._headers() if prunable(header, before, resolved_only)
            ]
            return sum(self.delete(uid) for uid in old)

    def _headers(self) -> list[tuple[str, Header]]:
        return [(uid, decode_header(session.header)) for uid, session in self._sessions.items()]

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        with self._lock:
            holder, until = self._leases.get(name, (owner, 0.0))
            if holder != owner and until > self.clock():
                return False
            self._leases[name] = (owner, self.clock() + seconds)
            return True

    def release_lease(self, name: str, owner: str) -> None:
        with self._lock:
            if self._leases.get(name, ("", 0.0))[0] == owner:
                del self._leases[name]


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
