"""`PostgresStore`: all sessions in one schema of a database."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import psycopg

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import StorageError
from triggers_core.storages.arguments import check_age
from triggers_core.storages.base import Clock, Due
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)
from triggers_core.storages.summaries import SessionSummary
from triggers_postgres import carrying, fleet, steps
from triggers_postgres import schema as tables_of
from triggers_postgres.connections import Connections
from triggers_postgres.errors import (
    HOW_TO_SET_UP,
    hidden_interruption,
    is_closed_pool,
    is_conflict,
    is_lost,
    is_missing,
    said,
    storage_error,
)
from triggers_postgres.joining import Joining
from triggers_postgres.nesting import CHANGING, refuse_nesting
from triggers_postgres.place import check_conninfo, describe
from triggers_postgres.steps import Steps, Tables
from triggers_postgres.still_open import refuse_to_wait

T = TypeVar("T")

_PATIENCE: Final = 10.0
"""Seconds for which a server that was there is waited for: a restart takes less."""
_FIRST_PATIENCE: Final = 3.0
"""Seconds for which one is waited for that has not been there yet."""
_CONFLICTS: Final = 20  # times that a transaction may lose against others
_PAGE: Final = 1_000  # sessions that `prune` looks at in one go


class PostgresStore(Joining):
    """Every session in one schema of a PostgreSQL database (14 or newer).

    Safe between threads, processes and machines. Use `PostgresStorage.open_store`, which opens each
    place once in a process.

    :param url: a URL (``postgresql://user@host/database``) or a conninfo string, as libpq takes it;
        what it leaves out is in libpq's environment (``PGHOST`` …).
    :param schema: the PostgreSQL schema that its tables are in.
    :param create: whether they are made, and brought up to date, on first use.
    :param clock: time instead of the database's, for tests.
    :param listen: whether to hear of what other processes do (``LISTEN``), on a connection beside
        the pool, while this one sweeps or a transaction of the application is waited for.
    :param options: of `psycopg_pool.ConnectionPool`: ``min_size``, ``max_size``, ``timeout``,
        ``kwargs`` …
    :raises StorageError: the options make no sense. The server is asked on first use.

    Example::

        store = PostgresStore("postgresql://shop@db.internal/shop", schema="triggers")
    """

    key: ClassVar[str] = "postgres"

    def __init__(
        self,
        url: str = "",
        schema: str = "triggers",
        create: bool = True,
        clock: Clock | None = None,
        listen: bool = True,
        **options: Any,
    ) -> None:
        self.url: str = check_conninfo(url)
        self.tables: Tables = Tables(schema, clock)
        self.connections: Connections = Connections(self.url, options)
        self.create: bool = create
        self._place = describe(self.url, schema, options.get("kwargs"))
        self._begin = True
        """Whether a transaction has to say its isolation level."""
        self._settled = False
        """Whether the tables are known to be there, in the version of this plugin."""
        super().__init__(clock or self._database_clock, listen)

    def __repr__(self) -> str:
        return f"<PostgresStore: {self._place}>"

    @property
    def place(self) -> str:
        return self._place

    @property
    def schema(self) -> str:
        """The name of the PostgreSQL schema."""
        return self.tables.schema

    def _database_clock(self) -> float:
        return self._read(fleet.now_steps, self.tables)

    # -- set-up -----------------------------------------------------------------------------------

    def set_up(self) -> bool:
        """Make the tables, or bring them up to date; whether there was anything to do."""
        return self._run(
            lambda c: carrying.write(c, tables_of.set_up_steps(self.schema), True), settled=False
        )

    def set_up_sql(self) -> str:
        """The statements that make the tables, in the order in which they are to be run."""
        return tables_of.schema_sql(self.schema)

    def _settle(self, connection: psycopg.Connection[Any]) -> None:
        level = carrying.read(connection, tables_of.isolation_steps())
        self._begin = level != "read committed"
        version = carrying.read(connection, tables_of.version_steps(self.schema))
        if version is not None:
            tables_of.check_version(version, self.place)
        if version != tables_of.VERSION:
            if not self.create:
                there = "no tables" if version is None else f"tables of version {version}"
                raise StorageError(f"{self.place} has {there} of Triggers. {HOW_TO_SET_UP}")
            carrying.write(connection, tables_of.set_up_steps(self.schema), True)
        self._settled = True

    # -- carrying out -----------------------------------------------------------------------------

    def _read(self, make: Callable[..., Steps[T]], *values: Any, **named: Any) -> T:
        if self.own is not None:
            return self.own.read(make(*values, **named))
        return self._run(lambda c: carrying.read(c, make(*values, **named)))

    def _write(self, make: Callable[..., Steps[T]], *values: Any, **named: Any) -> T:
        if self.own is not None:
            return self.own.read(make(*values, **named))
        refuse_nesting(self, sys._getframe())
        return self._run(lambda c: carrying.write(c, make(*values, **named), self._begin))

    def _run(self, work: Callable[[psycopg.Connection[Any]], T], settled: bool = True) -> T:
        """Do some work on a connection, anew if that is lost or another transaction has won.

        Whether a COMMIT that got no answer was carried out, nobody can tell at once. What it wrote
        is recognised when it comes again: by the event's id, the attempt's token, the request.
        """
        away_since, conflicts, pause = 0.0, 0, 0.02
        handled = sys.exception()
        known = self._settled
        while True:
            began, working = time.monotonic(), False
            try:
                with self.connections.lent() as connection:
                    working = True
                    if settled and not self._settled:
                        self._settle(connection)
                    known = True
                    return work(connection)
            except psycopg.Error as error:
                interruption = hidden_interruption(error, handled)
                if interruption is not None:
                    raise interruption from None
                conflicts += is_conflict(error)
                patience = _PATIENCE if known else _FIRST_PATIENCE
                again = is_conflict(error) and conflicts < _CONFLICTS
                if is_lost(error):
                    # While it worked the server was there, however long a lock was waited for.
                    away_since = away_since or (time.monotonic() if working else began)
                    again = is_closed_pool(error) or time.monotonic() - away_since < patience
                    if not again:
                        raise StorageError(
                            f"{self.place} cannot be reached, for {patience:g} s now: {said(error)}"
                        ) from None
                elif is_missing(error):
                    self._settled = False  # somebody has dropped them
                if not again:
                    raise storage_error(self.place, error) from None
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 1.0)

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        if self.own is not None:
            return self.own.commit(uid, command, rules)
        refuse_to_wait(self, uid)
        return self._write(steps.commit_steps, self.tables, uid, command, rules, sent=[])

    def load(self, uid: str, query: Query) -> Snapshot:
        return self._read(steps.load_steps, self.tables, uid, query)

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        return self._read(fleet.instances_steps, self.tables, uid, statuses, task, unresolved_logs)

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return self._read(fleet.events_steps, self.tables, uid, start, limit)

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return self._read(fleet.events_by_number_steps, self.tables, uid, list(numbers))

    def delete(self, uid: str) -> bool:
        if self.own is not None:
            return self.own.delete(uid)
        refuse_to_wait(self, uid)
        return self._write(steps.delete_steps, self.tables, uid, sent=[])

    # -- the fleet --------------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        """As `Store.due`, but for sessions that another transaction has locked at this moment."""
        return self._read(fleet.due_steps, self.tables, limit, within)

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        return self._read(fleet.coming_steps, self.tables, within, limit)

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return self._read(fleet.due_ahead_steps, self.tables, seconds, limit)

    def next_due(self) -> float | None:
        return self._read(fleet.next_due_steps, self.tables)

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        return self._read(fleet.sessions_steps, self.tables, failed, waiting, limit, after)

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        return self._read(fleet.waiting_groups_steps, self.tables, limit, most)

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        return self._read(fleet.waiting_for_steps, self.tables, missing, limit, after)

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return self._read(fleet.failed_groups_steps, self.tables, limit)

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        return self._read(fleet.failed_instances_steps, self.tables, task, error, limit, after)

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        return self._read(fleet.find_event_steps, self.tables, event_id, limit)

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        return self._read(fleet.configurations_steps, self.tables, limit, after, most)

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        return self._read(fleet.sessions_with_steps, self.tables, address, limit, after)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        before = self.clock() - check_age(older_than, resolved_only)
        erased, after = 0, ""
        while True:
            old, last = self._read(
                fleet.old_sessions_steps, self.tables, before, resolved_only, after, _PAGE
            )
            for uid in old:
                refuse_to_wait(self, uid)
                # One short transaction each: a long one would keep others waiting.
                prune = partial(fleet.prune_steps, self.tables, uid, before, resolved_only)
                erased += self._write(prune, sent=[])
            if last is None:
                self._write(fleet.collect_steps, self.tables)
                return erased
            after = last

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self._read(fleet.acquire_lease_steps, self.tables, name, owner, seconds)

    def release_lease(self, name: str, owner: str) -> None:
        self._read(fleet.release_lease_steps, self.tables, name, owner)


CHANGING.add(PostgresStore._write.__code__)
