"""The storage `sqlite`: one file, many processes, no service. The embedded default."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
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
from triggers_core.exceptions import InvalidSetting, UnknownSchema
from triggers_core.storages.base import (
    Clock,
    Due,
    SessionSummary,
    Store,
    check_age,
    check_limit,
    check_window,
    drive,
    fleet_order,
    may_wait,
    prunable,
    readable_header,
    summarise,
)
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite.batch import Batch
from triggers_core.storages.sqlite.file import SqliteFile, Synchronous, check_synchronous
from triggers_core.storages.sqlite.place import check_path
from triggers_core.storages.sqlite.schema import EVENT_BITS, address_key

T = TypeVar("T")

_T = TypeVar("_T")

_CHUNK: Final = 500  # bound parameters in one statement; SQLite's oldest limit is 999

_HEADER: Final = "SELECT id, header FROM sessions WHERE uid = ?"
_SET_HEADER: Final = "UPDATE sessions SET header = ? WHERE id = ?"
_SET_SESSION: Final = "UPDATE sessions SET header = ?, failed = ?, waiting_since = ? WHERE id = ?"
_CONFIG_OF: Final = "SELECT id, config, header FROM sessions WHERE uid = ?"
_SET_CONFIG: Final = "UPDATE sessions SET config = ? WHERE id = ?"
_DROP_CONFIG: Final = (
    "DELETE FROM configurations WHERE hash = ? AND coalesce(kept, 0) = 0"
    " AND NOT EXISTS (SELECT 1 FROM sessions WHERE config = ?)"
)
_ADD_SESSION: Final = (
    "INSERT INTO sessions (header, failed, waiting_since, uid) VALUES (?, ?, ?, ?)"
)
_WAITING: Final = (
    "SELECT i.record FROM waits w JOIN instances i"
    " ON i.session = w.session AND i.task = w.task AND i.number = w.number"
    " WHERE w.session = ? AND w.trigger = ?"
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
        self._batch = Batch()
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
        batch = self._batch if self._batch.connection is not None else None

        def work(connection: sqlite3.Connection) -> tuple[Plan[T], bool]:
            found = _Found()
            plan = drive(
                command, uid, rules, lambda query: self._load(connection, uid, query, found)
            )
            if plan.empty:
                return plan, False
            plan.stamp(self.clock())
            if batch is not None:
                batch.half_written = True  # should it be torn away in here
            self._save(connection, uid, plan, found)
            if batch is not None:
                batch.half_written = False
            return plan, True

        return self.file.write(work) if batch is None else batch.commit(work)

    def together(self, work: Callable[[], _T]) -> _T:
        if self._batch.connection is not None:
            return work()
        return self._batch.run(self.file, work)

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
        for trigger in query.triggers:
            if may_wait(header, configuration, trigger):
                records += connection.execute(_WAITING, (session, trigger)).fetchall()
        for name in query.instances:
            key = (session, *split_instance_name(name))
            records += connection.execute(_INSTANCE, key).fetchall()
        for task in query.unstarted:
            records += connection.execute(_UNSTARTED, (session, task)).fetchall()
        snapshot = Snapshot(now=self.clock(), header=header, configuration=configuration)
        for (record,) in records:
            instance = decode_instance(record)
            snapshot.instances[instance.name] = instance
        for event_id in query.event_ids:
            event = self._event(connection, session, event_id)
            if event is not None:
                snapshot.known[event_id] = event
        if query.all_events:
            snapshot.events = self._events(connection, session, 0, -1)
        if query.payloads:
            asked = [each for each in snapshot.instances.values() if each.name in query.instances]
            numbers = [n for each in asked for taken in each.taken.values() for n in taken]
            taken = self._numbered(connection, session, numbers)
            snapshot.payloads = {number: bytes(each.payload) for number, each in taken.items()}
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
        values = (encode_record(header),)
        if session is not None and not plan.fleet_changed:
            connection.execute(_SET_HEADER, (*values, session))
            return session
        fleet = (header.total(Status.FAILED), header.waiting_since)
        if session is not None:
            connection.execute(_SET_SESSION, (*values, *fleet, session))
            return session
        added = connection.execute(_ADD_SESSION, (*values, *fleet, uid)).lastrowid
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

    def due(self, limit: int = 100) -> list[Due]:
        select = (
            "SELECT s.uid, i.task, i.number FROM instances i JOIN sessions s ON s.id = i.session"
            " WHERE i.due_at <= ? ORDER BY i.due_at LIMIT ?"
        )
        return self._due(select, self.clock(), limit)

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        select = (
            "SELECT s.uid, i.task, i.number FROM instances i JOIN sessions s ON s.id = i.session"
            " WHERE i.due_at > ? ORDER BY i.due_at DESC LIMIT ?"
        )
        return self._due(select, self.clock() + seconds, limit)

    def _due(self, select: str, at: float, limit: int) -> list[Due]:
        amount = check_limit(limit)
        values = (at, -1 if amount is None else amount)
        rows = self.file.read(lambda c: c.execute(select, values).fetchall())
        return [Due(uid, f"{task}#{number}") for uid, task, number in rows]

    def next_due(self) -> float | None:
        select = "SELECT min(due_at) FROM instances WHERE due_at IS NOT NULL"
        ((due_at,),) = self.file.read(lambda c: c.execute(select).fetchall())
        return None if due_at is None else due_at - self.clock()

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        queries = []
        if failed:
            since = "waiting_since IS NULL, waiting_since, " if waiting else ""
            queries.append(f"failed > 0 AND uid > ? ORDER BY failed DESC, {since}uid")
        if waiting:
            queries.append("waiting_since IS NOT NULL AND uid > ? ORDER BY waiting_since, uid")
        found: dict[str, SessionSummary] = {}
        for query in queries or ["uid > ? ORDER BY uid"]:
            select = f"SELECT uid, header FROM sessions WHERE {query} LIMIT ? OFFSET ?"
            found |= self._summaries(select, after, limit)
        return fleet_order(list(found.values()), failed, waiting, limit)

    def _summaries(self, select: str, after: str, limit: int | None) -> dict[str, SessionSummary]:
        def work(connection: sqlite3.Connection) -> dict[str, SessionSummary]:
            found: dict[str, SessionSummary] = {}
            seen = 0
            while limit is None or len(found) < limit:
                amount = -1 if limit is None else limit - len(found)
                rows = connection.execute(select, (after, amount, seen)).fetchall()
                for uid, record in rows:
                    header = readable_header(uid, record)
                    if header is not None:
                        found[uid] = summarise(uid, header)
                seen += len(rows)
                if amount < 0 or len(rows) < amount:
                    break
            return found

        return self.file.read(work)

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
