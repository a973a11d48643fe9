"""The store of the storage `django`: every session in one database of a Django project."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status, decode_header, decode_instance
from triggers_core.exceptions import CannotJoin, InvalidSetting, UnknownSchema
from triggers_core.storages.arguments import check_age, check_limit, check_window
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
from triggers_core.storages.summaries import SessionSummary, prunable
from triggers_core.texts import did_you_mean, short_repr
from triggers_django import fleet, models, transactions
from triggers_django.reading import Reader, rows
from triggers_django.tests_of_applications import only_wrapped_by_test
from triggers_django.transactions import in_transaction
from triggers_django.writing import Records, erase, save

T = TypeVar("T")

_LOOKS: Final = 10
"""How often a session is read that changes meanwhile, before its row is locked for that."""


class DjangoStore(Store):
    """Every session in one database, through Django's ORM and its connections.

    A change within `transaction.atomic` is part of that. Connections are Django's own: one for each
    thread, closed when Django closes them.
    """

    key: ClassVar[str] = "django"

    def __init__(self, using: str | None = None, clock: Clock = time.time) -> None:
        """:raises InvalidSetting: Django has no database of that alias."""
        super().__init__(clock)
        if using is not None and using not in connections:
            known = did_you_mean(using, list(connections))
            raise InvalidSetting(f"using: Django has no database {using!r}{known}")
        self.using = using
        """The database's alias; None: that to which Django's routers write sessions."""
        self._configurations = ConfigurationCache()

    @property
    def alias(self) -> str:
        """The alias of the database."""
        return self.using or router.db_for_write(models.Session)

    @property
    def place(self) -> str:
        alias = self.alias
        settings = connections[alias].settings_dict
        return f"the database {alias!r} of Django ({settings['ENGINE']}, {settings['NAME']})"

    @classmethod
    def shared(cls, using: str | None = None) -> DjangoStore:
        """The process's store for a database."""
        key = using or ""
        with _opening:
            store = _open.get(key)
            if store is None:
                store = _open[key] = cls(using)
            return store

    def close(self) -> None:
        """Close the connection of this thread, unless the application is in a transaction."""
        connection = connections[self.alias]
        if not connection.in_atomic_block:
            connection.close()

    # -- transactions of the application ----------------------------------------------------------

    def joined(self, connection: object) -> Store:
        """This store itself: what this thread changes belongs to its transaction anyway.

        :param connection: Django's of this database, in this thread: ``django.db.connection`` or
            ``connections[alias]``.
        """
        wanted = connections[self.alias]
        if connection == wanted:  # a proxy compares as what it stands for
            return self
        alias = getattr(connection, "alias", None)
        if isinstance(alias, str) and alias in connections and alias != wanted.alias:
            raise CannotJoin(
                f"{self.place} cannot be part of a transaction of the database {alias!r}: sessions"
                f" that are to be there need the storage's option using={alias!r}"
            )
        if isinstance(alias, str) and alias == wanted.alias:
            raise CannotJoin(
                f"{self.place}: the connection is that of another thread; hand over that of the"
                " thread that fires"
            )
        raise CannotJoin(
            f"{self.place} takes part in transactions of Django's: hand over django.db.connection,"
            " or use the manager as it is, for a fire within atomic() belongs to that; got"
            f" {short_repr(connection)}"
        )

    def transaction(self) -> AbstractContextManager[Any]:
        """One transaction for everything that this thread commits within: `transaction.atomic`.

        Its value is Django's connection.
        """
        return transactions.block(connections[self.alias])

    def in_thread(self, call: Callable[[], T]) -> Awaitable[T]:
        """In the thread in which Django lets coroutines use its connections.

        So what a coroutine changes belongs to a transaction of the synchronous code that runs it,
        and a test that is wrapped in one sees it.
        """
        return sync_to_async(call, thread_sensitive=True)()

    def when_committed(self, callback: Callable[[], None]) -> None:
        connection = connections[self.alias]
        if in_transaction(connection) and not only_wrapped_by_test(connection):
            transaction.on_commit(callback, using=connection.alias, robust=True)
        else:
            callback()

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        written: list[tuple[int, Records]] = []

        def work(connection: BaseDatabaseWrapper) -> Plan[T]:
            reader = self._locked(connection, uid)
            for session, records in written:
                # The connection was lost at the commit: has it been carried out all the same?
                if records.events and reader.session == session:
                    event = records.plan.events[0]
                    stored = reader.numbered([event.number]).get(event.number)
                    if stored == event:
                        return records.plan
            written.clear()

            def load(query: Query) -> Snapshot:
                now = self.clock()
                if reader.session is None:
                    return Snapshot(now=now)
                return reader.load(query, now)

            plan = drive(command, uid, rules, load)
            if plan.empty:
                return plan
            now = self.clock()
            plan.stamp(now)
            records = Records(plan)
            save(connection, reader, records, now)
            assert reader.session is not None
            written.append((reader.session, records))
            return plan

        return transactions.run(self.alias, self.place, work)

    def _locked(self, connection: BaseDatabaseWrapper, uid: str) -> Reader:
        transactions.take_turn(connection)
        reader = Reader(
            connection.alias,
            uid,
            self._configurations,
            lock=True,
            current=transactions.sees_the_past(connection),
        )
        reader.find()
        return reader

    def load(self, uid: str, query: Query) -> Snapshot:
        def work(connection: BaseDatabaseWrapper) -> Snapshot:
            reader = Reader(connection.alias, uid, self._configurations)
            for _ in range(_LOOKS):
                snapshot = self._look(reader, query)
                if snapshot is not None:
                    return snapshot
            with transactions.atomic(connection):
                reader = self._locked(connection, uid)
                found = reader.session is not None
                return reader.load(query, self.clock()) if found else Snapshot(now=self.clock())

        try:
            return transactions.read(self.alias, self.place, work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def _look(self, reader: Reader, query: Query) -> Snapshot | None:
        """A session of one moment; None when it was changed meanwhile."""
        now = self.clock()
        if not reader.find():
            return Snapshot(now=now)
        before = reader.header
        try:
            snapshot = reader.load(query, now)
        except UnknownSchema:
            if reader.find() and reader.header == before:
                raise
            return None
        if query == _NOTHING or (reader.find() and reader.header == before):
            return snapshot
        return None

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        def work(connection: BaseDatabaseWrapper) -> list[Instance]:
            found = models.Instance.objects.using(connection.alias).filter(session__uid=uid)
            if statuses is not None:
                found = found.filter(status__in=[status.value for status in statuses])
            if task is not None:
                found = found.filter(task=task)
            if unresolved_logs:
                found = found.filter(open_logs=True)
            records = rows(found.values_list("record", flat=True))
            return [decode_instance(bytes(record)) for record in records]

        instances = self._read(uid, work)
        return sorted(instances, key=lambda each: (each.task, each.number))

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)

        def work(connection: BaseDatabaseWrapper) -> list[Event]:
            reader = Reader(connection.alias, uid, self._configurations)
            return reader.events(start, limit) if reader.find() else []

        return self._read(uid, work)

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        wanted = list(numbers)

        def work(connection: BaseDatabaseWrapper) -> dict[int, Event]:
            reader = Reader(connection.alias, uid, self._configurations)
            return reader.numbered(wanted) if reader.find() else {}

        return self._read(uid, work)

    def _read(self, uid: str, work: Callable[[BaseDatabaseWrapper], T]) -> T:
        try:
            return transactions.read(self.alias, self.place, work)
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__

    def delete(self, uid: str) -> bool:
        return self._erase(uid, lambda header: True)

    def _erase(self, uid: str, still: Callable[[bytes], bool]) -> bool:
        """Erase a session if it still is what it should be, by its header."""

        def work(connection: BaseDatabaseWrapper) -> bool:
            reader = self._locked(connection, uid)
            if reader.session is None or not still(reader.header):
                return False
            erase(connection.alias, reader.session)
            return True

        return transactions.run(self.alias, self.place, work)

    # -- the fleet --------------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        most, at = check_limit(limit), self.clock() + within
        return transactions.read(self.alias, self.place, lambda c: fleet.due(c, at, most))

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        now = self.clock()
        work = partial(fleet.coming, after=now, until=now + within, limit=check_limit(limit))
        return transactions.read(self.alias, self.place, work)

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        most, after = check_limit(limit), self.clock() + seconds
        return transactions.read(self.alias, self.place, lambda c: fleet.due_ahead(c, after, most))

    def next_due(self) -> float | None:
        at = transactions.read(self.alias, self.place, fleet.next_due)
        return None if at is None else at - self.clock()

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        most = check_limit(limit)
        return transactions.read(
            self.alias, self.place, lambda c: fleet.sessions(c, failed, waiting, most, after)
        )

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        work = partial(fleet.waiting_groups, limit=check_limit(limit), most=most)
        return transactions.read(self.alias, self.place, work)

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        most = check_limit(limit)
        work = partial(fleet.waiting_for, missing=missing, limit=most, after=after)
        return transactions.read(self.alias, self.place, work)

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        most = check_limit(limit)
        return transactions.read(self.alias, self.place, partial(fleet.failed_groups, limit=most))

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        most = check_limit(limit)
        work = partial(fleet.failed_instances, task=task, error=error, limit=most, after=after)
        return transactions.read(self.alias, self.place, work)

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        most = check_limit(limit)
        work = partial(fleet.find_event, event_id=event_id, limit=most)
        return transactions.read(self.alias, self.place, work)

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        wanted = check_limit(limit)
        work = partial(fleet.configurations_in_use, limit=wanted, after=after, most=most)
        return transactions.read(self.alias, self.place, work)

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        wanted = check_limit(limit)
        work = partial(fleet.sessions_with, address=address, limit=wanted, after=after)
        return transactions.read(self.alias, self.place, work)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        now = self.clock()
        before = now - check_age(older_than, resolved_only)

        def still(header: bytes) -> bool:
            try:
                return prunable(decode_header(header), before, resolved_only)
            except UnknownSchema:  # a newer version has written to it since
                return False

        erased, after = 0, ""
        while True:
            page = transactions.read(self.alias, self.place, partial(fleet.headers, after=after))
            # One short transaction each: a long one would keep others waiting.
            erased += sum(self._erase(uid, still) for uid, header in page if still(header))
            if not page:
                break
            after = page[-1][0]
        transactions.run(self.alias, self.place, partial(fleet.drop_configurations, now=now))
        return erased

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        work = partial(fleet.acquire_lease, name=name, owner=owner, seconds=seconds, now=self.clock)
        return transactions.run(self.alias, self.place, work)

    def release_lease(self, name: str, owner: str) -> None:
        work = partial(fleet.release_lease, name=name, owner=owner)
        transactions.run(self.alias, self.place, work)


_NOTHING: Final = Query()
_open: Final[WeakValueDictionary[str, DjangoStore]] = WeakValueDictionary()
_opening: Final = threading.Lock()
