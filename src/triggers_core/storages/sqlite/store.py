"""The storage `sqlite`: one file, many processes, no service. The embedded default."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakValueDictionary

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
    number_in_id,
)
from triggers_core.engine.waits import AFTER_MOMENTS, BEFORE_MOMENTS, event_spans
from triggers_core.exceptions import InvalidSetting, StorageError, UnknownSchema
from triggers_core.storages.base import (
    Clock,
    Due,
    SessionSummary,
    Store,
    add_due,
    check_age,
    check_window,
    drive,
    may_wait,
    prunable,
    readable_header,
)
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
    failed_at,
    group_text,
)
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import fleet
from triggers_core.storages.sqlite.file import SqliteFile, Synchronous, check_synchronous
from triggers_core.storages.sqlite.place import check_path
from triggers_core.storages.sqlite.schema import EVENT_BITS, VERSION, address_key

T = TypeVar("T")

_T = TypeVar("_T")

_CHUNK: Final = 500  # bound parameters in one statement; SQLite's oldest limit is 999

_HEADER: Final = "SELECT id, header FROM sessions WHERE uid = ?"
_SET_HEADER: Final = "UPDATE sessions SET header = ? WHERE id = ?"
_SET_GROUP: Final = "UPDATE sessions SET header = ?, missing = ? WHERE id = ?"
_SET_SESSION: Final = (
    "UPDATE sessions SET header = ?, missing = ?, failed = ?, waiting_since = ? WHERE id = ?"
)
_CONFIG_OF: Final = "SELECT id, config, header FROM sessions WHERE uid = ?"
_SET_CONFIG: Final = "UPDATE sessions SET config = ? WHERE id = ?"
_DROP_CONFIG: Final = (
    "DELETE FROM configurations WHERE hash = ? AND coalesce(kept, 0) = 0"
    " AND NOT EXISTS (SELECT 1 FROM sessions WHERE config = ?)"
)
_ADD_SESSION: Final = (
    "INSERT INTO sessions (header, missing, failed, waiting_since, uid) VALUES (?, ?, ?, ?, ?)"
)
_WAITING: Final = (
    "SELECT i.record FROM waits w JOIN instances i"
    " ON i.session = w.session AND i.task = w.task AND i.number = w.number"
    " WHERE w.session = ? AND w.trigger = ?"
)
# CROSS: along the first index, in its order. Whoever reads it stops where it has enough.
_DUE: Final = (
    "SELECT w.trigger, i.record FROM waits w CROSS JOIN instances i"
    " ON i.session = w.session AND i.task = w.task AND i.number = w.number"
    " WHERE w.session = ? AND w.trigger > ? AND w.trigger < ? AND i.status = 'unstarted'"
    " ORDER BY w.trigger, w.task, w.number"
)
_INSTANCE: Final = "SELECT record FROM instances WHERE session = ? AND task = ? AND number = ?"
_UNSTARTED: Final = (
    "SELECT record FROM instances WHERE session = ? AND task = ? AND status = 'unstarted'"
)
_NUMBER_OF_ID: Final = "SELECT number FROM event_ids WHERE session = ? AND id = ?"
_ADD_EVENT_ID: Final = "INSERT INTO event_ids (session, id, number) VALUES (?, ?, ?)"
_EVENTS: Final = "SELECT record FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?"
_ADD_EVENT: Final = "INSERT INTO events (key, record) VALUES (?, ?)"
_ADD_INSTANCE: Final = (
    "INSERT INTO instances (status, logs, due_at, record, session, task, number)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SET_INSTANCE: Final = (
    "UPDATE instances SET status = ?, logs = ?, due_at = ?, record = ?"
    " WHERE session = ? AND task = ? AND number = ?"
)
_SET_FAILED: Final = (
    "UPDATE instances SET error = ?, failed_at = ? WHERE session = ? AND task = ? AND number = ?"
)
_ADD_WAIT: Final = "INSERT INTO waits (session, trigger, task, number) VALUES (?, ?, ?, ?)"
_DROP_WAIT: Final = (
    "DELETE FROM waits WHERE session = ? AND trigger = ? AND task = ? AND number = ?"
)


class SqliteStore(Store):
    """Every session of one file. Safe between threads and processes; survives `kill -9`.

    `SqliteStore.shared` gives a process one store a file.
    """

    key: ClassVar[str] = "sqlite"
    _open: ClassVar[WeakValueDictionary[tuple[str, str], SqliteStore]] = WeakValueDictionary()
    _opening: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Synchronous = "FULL",
        clock: Clock = time.time,
    ) -> None:
        super().__init__(clock)
        self.file: SqliteFile = SqliteFile(path, synchronous)
        self._configurations = ConfigurationCache()

    @property
    def place(self) -> str:
        return f"the SQLite file {self.file.path}"

    @property
    def exists(self) -> bool:
        try:
            return os.path.getsize(self.file.path) > 0
        except OSError:
            return False

    def set_up(self) -> bool:
        before = self._version()
        self.file.write(lambda connection: (None, False))
        return before != VERSION

    def _version(self) -> int:
        """The version of the tables, as the file's header has it; 0 when there are none."""
        try:
            with open(self.file.path, "rb") as file:
                return int.from_bytes(file.read(64)[60:], "big")
        except OSError:
            return 0

    @classmethod
    def _renew_lock(cls) -> None:
        cls._opening = threading.Lock()

    @classmethod
    def shared(cls, path: str | os.PathLike[str], synchronous: Synchronous = "FULL") -> SqliteStore:
        """The process's store for a file, opened on first use."""
        key = (os.path.realpath(check_path(path)), check_synchronous(synchronous))
        with cls._opening:
            store = cls._open.get(key)
            if store is None:
                store = cls._open[key] = cls(path, synchronous)
            return store

    def close(self) -> None:
        self.file.close()

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        def work(connection: sqlite3.Connection) -> tuple[Plan[T], bool]:
            found = _Found()
            plan = drive(
                command, uid, rules, lambda query: self._load(connection, uid, query, found)
            )
            if plan.empty:
                return plan, False
            plan.stamp(self.clock())
            self._save(connection, uid, plan, found)
            return plan, True

        return self.file.write(work)

    def together(self, work: Callable[[], _T]) -> _T:
        raised: BaseException | None = None
        try:
            with self.file.transaction():
                try:
                    return work()
                except BaseException as error:  # the commits that it has made are kept
                    raised = error
        except StorageError:
            if raised is None:
                raise  # else it tore one of them, and none is
        raise raised

    def transaction(self) -> AbstractContextManager[None]:
        return self.file.transaction()

    @property
    def in_transaction(self) -> bool:
        return self.file.held is not None and self.file.outer() is not None

    def when_committed(self, callback: Callable[[], None]) -> None:
        transaction = None if self.file.held is None else self.file.outer()
        if transaction is None:
            callback()
        else:
            transaction.callbacks.append(callback)

    def load(self, uid: str, query: Query) -> Snapshot:
        def work(connection: sqlite3.Connection) -> Snapshot:
            return self._load(connection, uid, query, _Found())

        try:
            return self.file.read(work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def _load(
        self, connection: sqlite3.Connection, uid: str, query: Query, found: _Found
    ) -> Snapshot:
        row = connection.execute(_HEADER, (uid,)).fetchone()
        if row is None:
            return Snapshot(now=self.clock())
        session, header = row[0], decode_header(row[1])
        found.session, found.config = session, header.config
        records: list[tuple[bytes]] = []
        configuration = self._configuration(connection, header)
        snapshot = Snapshot(now=self.clock(), header=header, configuration=configuration)
        if query.moments is not None:
            moments = (session, BEFORE_MOMENTS, AFTER_MOMENTS)
            with closing(connection.execute(_DUE, moments)) as rows:
                index = ((key, decode_instance(record)) for key, record in rows)
                add_due(snapshot, index, query.moments)
        for trigger in query.triggers:
            if may_wait(header, configuration, trigger):
                records += connection.execute(_WAITING, (session, trigger)).fetchall()
        for name in query.instances:
            key = (session, *split_instance_name(name))
            records += connection.execute(_INSTANCE, key).fetchall()
        for task in query.unstarted:
            records += connection.execute(_UNSTARTED, (session, task)).fetchall()
        for (record,) in records:
            instance = decode_instance(record)
            snapshot.instances[instance.name] = instance
        for event_id in query.event_ids:
            event = self._event(connection, session, event_id)
            if event is not None:
                snapshot.known[event_id] = event
        if query.all_events:
            snapshot.events = self._events(connection, session, 0, -1)
        if query.numbers:
            snapshot.numbered = self._numbered(connection, session, query.numbers)
        if query.payloads:
            asked = [snapshot.instances[n] for n in query.instances if n in snapshot.instances]
            spans = [span for instance in asked for span in event_spans(instance)]
            snapshot.numbered |= self._within(connection, session, spans)
        return snapshot

    def _event(self, connection: sqlite3.Connection, session: int, event_id: str) -> Event | None:
        number = number_in_id(event_id)
        if number is None:
            row = connection.execute(_NUMBER_OF_ID, (session, event_id)).fetchone()
            if row is None:
                return None
            number = row[0]
        found = self._events(connection, session, number, 1)
        return found[0] if found and found[0].id == event_id else None

    def _configuration(self, connection: sqlite3.Connection, header: Header) -> Configuration:
        if not header.config:
            return EMPTY
        configuration = self._configurations.get(header.config)
        if configuration is None:
            select = "SELECT body FROM configurations WHERE hash = ?"
            row = connection.execute(select, (header.config,)).fetchone()
            if row is None:
                raise UnknownSchema(f"its configuration {header.config} is missing")
            configuration = Configuration.decoded(row[0])
            self._configurations.put(header.config, configuration)
        return configuration

    def _save(
        self, connection: sqlite3.Connection, uid: str, plan: Plan[Any], found: _Found
    ) -> None:
        execute, header, session = connection.execute, plan.header, found.session
        if plan.configuration is not None:
            insert = "INSERT OR IGNORE INTO configurations (hash, body, kept) VALUES (?, ?, 0)"
            execute(insert, (plan.configuration.hash, plan.configuration.encoded))
        if header is not None:
            session = self._save_header(connection, uid, plan, header, session)
            if header.config != found.config:
                execute(_SET_CONFIG, (address_key(header.config), session))
                if found.config:
                    execute(_DROP_CONFIG, (found.config, address_key(found.config)))
        assert session is not None
        for event in plan.events:
            execute(_ADD_EVENT, ((session << EVENT_BITS) + event.number, encode_record(event)))
            if event.id[:1] != "~":  # those that Triggers generates hold the event's number
                execute(_ADD_EVENT_ID, (session, event.id, event.number))
        for change in plan.changes:
            instance = change.instance
            task, number = instance.task, instance.number
            row = (
                instance.status.value,
                instance.has_open_logs,
                instance.due_at,
                encode_record(instance),
                session,
                task,
                number,
            )
            execute(_ADD_INSTANCE if change.before is None else _SET_INSTANCE, row)
            if instance.status is Status.FAILED and change.before is not Status.FAILED:
                key = (session, task, number)
                execute(_SET_FAILED, (instance.error, failed_at(instance), *key))
            for trigger in change.waits_before - change.waits_after:
                execute(_DROP_WAIT, (session, trigger, task, number))
            for trigger in change.waits_after - change.waits_before:
                execute(_ADD_WAIT, (session, trigger, task, number))

    def _save_header(
        self,
        connection: sqlite3.Connection,
        uid: str,
        plan: Plan[Any],
        header: Header,
        session: int | None,
    ) -> int:
        values = (encode_record(header), group_text(header.missing))
        if session is not None and not plan.fleet_changed:
            if header.missing == (plan.group_before or ()):  # its index is left alone
                connection.execute(_SET_HEADER, (values[0], session))
            else:
                connection.execute(_SET_GROUP, (*values, session))
            return session
        index = (header.total(Status.FAILED), header.waiting_since)
        if session is not None:
            connection.execute(_SET_SESSION, (*values, *index, session))
            return session
        added = connection.execute(_ADD_SESSION, (*values, *index, uid)).lastrowid
        assert added is not None
        return added

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        conditions, values = ["s.uid = ?"], [uid]
        if unresolved_logs:
            conditions.append("i.logs = 1")
        if statuses is not None:
            conditions.append(f"i.status IN ({', '.join('?' * len(statuses))})")
            values += [status.value for status in statuses]
            if set(statuses) == {Status.FAILED}:
                conditions.append("i.status = 'failed'")  # as a constant: the index is partial
        if task is not None:
            conditions.append("i.task = ?")
            values.append(task)
        select = (
            "SELECT i.record FROM sessions s JOIN instances i ON i.session = s.id"
            f" WHERE {' AND '.join(conditions)} ORDER BY i.task, i.number"
        )
        found = self.file.read(lambda c: c.execute(select, values).fetchall())
        try:
            return [decode_instance(record) for (record,) in found]
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)

        def work(connection: sqlite3.Connection) -> list[Event]:
            row = connection.execute(_HEADER, (uid,)).fetchone()
            amount = -1 if limit is None else limit
            return self._events(connection, row[0], start, amount) if row else []

        try:
            return self.file.read(work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        numbers = list(numbers)

        def work(connection: sqlite3.Connection) -> dict[int, Event]:
            row = connection.execute(_HEADER, (uid,)).fetchone()
            return self._numbered(connection, row[0], numbers) if row else {}

        try:
            return self.file.read(work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def _events(
        self, connection: sqlite3.Connection, session: int, start: int, limit: int
    ) -> list[Event]:
        keys = _key(session, start), _key(session + 1, 0) - 1
        rows = connection.execute(_EVENTS, (*keys, limit)).fetchall()
        return [decode_event(record) for (record,) in rows]

    def _numbered(
        self, connection: sqlite3.Connection, session: int, numbers: Iterable[int]
    ) -> dict[int, Event]:
        found: dict[int, Event] = {}
        # A number out of range would be another session's key.
        keys = sorted({_key(session, each) for each in numbers if 0 <= each < 1 << EVENT_BITS})
        for begin in range(0, len(keys), _CHUNK):
            chunk = keys[begin : begin + _CHUNK]
            select = f"SELECT record FROM events WHERE key IN ({', '.join('?' * len(chunk))})"
            for (record,) in connection.execute(select, chunk).fetchall():
                event = decode_event(record)
                found[event.number] = event
        return found

    def _within(
        self, connection: sqlite3.Connection, session: int, spans: list[tuple[int, int]]
    ) -> dict[int, Event]:
        """The events of some spans: one statement for each, and one for all single numbers."""
        single = [first for first, last in spans if first == last]
        found = self._numbered(connection, session, single) if single else {}
        for first, last in spans:
            if first < last:
                keys = _key(session, first), min(_key(session, last), _key(session + 1, 0) - 1)
                for (record,) in connection.execute(_EVENTS, (*keys, -1)).fetchall():
                    event = decode_event(record)
                    found[event.number] = event
        return found

    def delete(self, uid: str) -> bool:
        return self.file.write(lambda connection: (self._delete(connection, uid), True))

    def _delete(self, connection: sqlite3.Connection, uid: str) -> bool:
        # By columns alone: a session whose records nobody can read can be erased.
        row = connection.execute(_CONFIG_OF, (uid,)).fetchone()
        if row is None:
            return False
        session, key, header = row
        for table in ("event_ids", "instances", "waits"):
            connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
        keys = _key(session, 0), _key(session + 1, 0) - 1
        connection.execute("DELETE FROM events WHERE key BETWEEN ? AND ?", keys)
        connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
        if key is not None:
            with suppress(UnknownSchema):  # which one it had, nobody can tell then; it stays
                connection.execute(_DROP_CONFIG, (decode_header(header).config, key))
        return True

    # -- the fleet --------------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return fleet.due(self.file, self.clock() + within, limit)

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        now = self.clock()
        return fleet.coming(self.file, now, now + within, limit)

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return fleet.due_after(self.file, self.clock() + seconds, limit)

    def next_due(self) -> float | None:
        due_at = fleet.first_due(self.file)
        return None if due_at is None else due_at - self.clock()

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        return fleet.sessions(self.file, failed, waiting, limit, after)

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        return fleet.waiting_groups(self.file, limit, most)

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        return fleet.waiting_for(self.file, missing, limit, after)

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return fleet.failed_groups(self.file, limit)

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        return fleet.failed_instances(self.file, task, error, limit, after)

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        return fleet.find_event(self.file, event_id, limit)

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        return fleet.configurations_in_use(self.file, limit, after, most)

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        return fleet.sessions_with(self.file, address, limit, after)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        before = self.clock() - check_age(older_than, resolved_only)
        select = "SELECT uid, header FROM sessions WHERE uid > ? ORDER BY uid LIMIT ?"
        erased, after, amount = 0, "", 1000
        while True:
            rows = self.file.read(partial(_rows, select, (after, amount)))
            for uid, record in rows:
                header = readable_header(uid, record)
                if header is not None and prunable(header, before, resolved_only):
                    # One short transaction each: a long one would keep every other writer waiting.
                    erased += self._prune(uid, before, resolved_only)
            if len(rows) < amount:
                return erased
            after = rows[-1][0]

    def _prune(self, uid: str, before: float, resolved_only: bool) -> bool:
        def work(connection: sqlite3.Connection) -> tuple[bool, bool]:
            row = connection.execute(_HEADER, (uid,)).fetchone()
            still = row is not None and prunable(decode_header(row[1]), before, resolved_only)
            return still and self._delete(connection, uid), True

        try:
            return self.file.write(work)
        except UnknownSchema:
            return False  # a newer version has written to it since

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        # One that ends later than its holder (or whoever asks now) asks for was written by a clock
        # that was ahead.
        upsert = (
            "INSERT INTO leases (name, owner, until, seconds)"
            " VALUES (:name, :owner, :until, :seconds)"
            " ON CONFLICT (name) DO UPDATE SET owner = :owner, until = :until, seconds = :seconds"
            " WHERE owner = :owner OR until <= :now"
            " OR until > :now + max(coalesce(leases.seconds, 0), :seconds)"
        )
        now = self.clock()
        values = {
            "name": name,
            "owner": owner,
            "until": now + seconds,
            "seconds": seconds,
            "now": now,
        }
        return self.file.write(lambda c: (c.execute(upsert, values).rowcount > 0, True))

    def release_lease(self, name: str, owner: str) -> None:
        drop = "DELETE FROM leases WHERE name = ? AND owner = ?"
        self.file.write(lambda c: (c.execute(drop, (name, owner)) and None, True))


class _Found:
    """What a change has found of its session."""

    __slots__ = ("config", "session")

    def __init__(self) -> None:
        self.session: int | None = None
        self.config = ""


if hasattr(os, "register_at_fork"):  # another thread of the parent may have held it
    os.register_at_fork(after_in_child=SqliteStore._renew_lock)


def _rows(select: str, values: tuple[Any, ...], connection: sqlite3.Connection) -> list[Any]:
    return connection.execute(select, values).fetchall()


def _key(session: int, number: int) -> int:
    return (session << EVENT_BITS) + number


class SqliteStorage(SessionStorage):
    """One session in a SQLite file.

    Example::

        storage = storage_backends.get("sqlite", "applicant:42", path="triggers.db")
    """

    def __init__(
        self,
        uid: str,
        path: str | os.PathLike[str] = "triggers.db",
        synchronous: Synchronous = "FULL",
    ) -> None:
        """Open a session; the file is opened on first use.

        :param uid: the session's uid.
        :param path: the file, on a local disk; created when missing.
        :param synchronous: ``FULL`` survives a power cut; ``NORMAL`` survives the crash of every
            process, and a power cut may take back the last commits (SQLite's own guarantee in WAL).
        """
        super().__init__(uid, self.open_store(path=path, synchronous=synchronous))

    @classmethod
    def open_store(
        cls, path: str | os.PathLike[str] = "triggers.db", synchronous: Synchronous = "FULL"
    ) -> SqliteStore:
        return SqliteStore.shared(path, synchronous)

    @classmethod
    def open_scratch(cls, **options: Any) -> Store:
        return cls.open_store(**{"synchronous": "NORMAL", **options})

    @classmethod
    def options_from_text(cls, text: str) -> dict[str, Any]:
        path = text.partition(":")[2]
        if not path:  # never the file of the default, which may be an application's
            raise InvalidSetting("expected TYPE:VALUE, such as sqlite:triggers.db")
        return {"path": path}
