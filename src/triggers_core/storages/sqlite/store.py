"""The storage `sqlite`: one file, many processes, no service. The embedded default."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status, decode_header, decode_instance
from triggers_core.exceptions import InvalidSetting, StorageError, UnknownSchema
from triggers_core.storages.arguments import check_age, check_window
from triggers_core.storages.base import Clock, Due, Store
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.driving import drive
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import fleet, reading, writing
from triggers_core.storages.sqlite.file import SqliteFile, Synchronous, check_synchronous
from triggers_core.storages.sqlite.place import check_path
from triggers_core.storages.sqlite.schema import VERSION
from triggers_core.storages.summaries import SessionSummary, prunable, readable_header

T = TypeVar("T")


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
            found = reading.Found()
            plan = drive(command, uid, rules, partial(self._load, connection, uid, found=found))
            if plan.empty:
                return plan, False
            plan.stamp(self.clock())
            writing.save(connection, uid, plan, found)
            return plan, True

        return self.file.write(work)

    def together(self, work: Callable[[], T]) -> T:
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
        return self._read(uid, lambda c: self._load(c, uid, query, reading.Found()))

    def _load(
        self, connection: sqlite3.Connection, uid: str, query: Query, found: reading.Found
    ) -> Snapshot:
        return reading.load(connection, uid, query, found, self._configurations, self.clock)

    def _read(self, uid: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self.file.read(work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

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
        rows = self.file.read(lambda c: c.execute(select, values).fetchall())
        try:
            return [decode_instance(record) for (record,) in rows]
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)
        amount = -1 if limit is None else limit

        def work(connection: sqlite3.Connection) -> list[Event]:
            row = connection.execute(reading.HEADER, (uid,)).fetchone()
            return reading.events(connection, row[0], start, amount) if row else []

        return self._read(uid, work)

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        numbers = list(numbers)

        def work(connection: sqlite3.Connection) -> dict[int, Event]:
            row = connection.execute(reading.HEADER, (uid,)).fetchone()
            return reading.numbered(connection, row[0], numbers) if row else {}

        return self._read(uid, work)

    def delete(self, uid: str) -> bool:
        return self.file.write(lambda connection: (writing.delete(connection, uid), True))

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
            row = connection.execute(reading.HEADER, (uid,)).fetchone()
            still = row is not None and prunable(decode_header(row[1]), before, resolved_only)
            return still and writing.delete(connection, uid), True

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


if hasattr(os, "register_at_fork"):  # another thread of the parent may have held it
    os.register_at_fork(after_in_child=SqliteStore._renew_lock)


def _rows(select: str, values: tuple[Any, ...], connection: sqlite3.Connection) -> list[Any]:
    return connection.execute(select, values).fetchall()


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
