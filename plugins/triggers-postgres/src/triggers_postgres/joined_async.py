"""Sessions within a transaction of the application's, on a connection of an event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.storages.awaited import AwaitedStore
from triggers_core.storages.base import Store
from triggers_postgres import fleet
from triggers_postgres.identity import identity_steps
from triggers_postgres.joined import Following, has_written, no_matter
from triggers_postgres.joints import Joint
from triggers_postgres.nesting import CHANGING
from triggers_postgres.steps import Steps, delete_steps, load_steps
from triggers_postgres.still_open import check_ended, note, open_changes
from triggers_postgres.within import acarry_within, check_usable, is_alone, of_the_transaction

if TYPE_CHECKING:
    from triggers_postgres.store import PostgresStore

T = TypeVar("T")


class AsyncJoinedStore(AwaitedStore):
    """As `JoinedStore`, awaited: the same steps, carried out on an asyncio connection.

    Cancelled at any of its awaits, a change is part of the transaction or it is not: one statement
    writes it. If that was under way, PostgreSQL gives up the transaction.
    """

    key = "postgres"

    def __init__(self, store: PostgresStore, joint: Joint) -> None:
        super().__init__(store.clock)
        self.outside: PostgresStore = store
        """The store outside of the transaction."""
        self._following = Following(store, joint)
        self.joint: Joint = joint

    @property
    def place(self) -> str:
        return self.outside.place

    async def _connection(self) -> psycopg.AsyncConnection[Any]:
        identity = self.outside.known_identity
        if identity is None:
            identity = await asyncio.to_thread(self.outside.identity)
        connection = await self.joint.aconnection()
        check_usable(connection)
        if not self.outside.knows(connection):
            found = await acarry_within(connection, self.place, identity_steps(self.outside.schema))
            if found != identity:
                identity = await asyncio.to_thread(self.outside.ask_identity)
            self.outside.check(connection, found, identity)
        return connection

    async def _read(self, steps: Steps[T]) -> T:
        return await acarry_within(await self._connection(), self.place, steps)

    async def _write(self, steps: Steps[T], uid: str, wrote: Callable[[T], bool]) -> T:
        connection = await self._connection()
        ids = open_changes(self.outside, uid, connection)
        if ids:
            check_ended(uid, await asyncio.to_thread(self.outside.statuses, ids))
        if is_alone(connection):
            handled = sys.exception()
            try:
                async with connection.transaction():
                    answer = await acarry_within(connection, self.place, steps)
            except psycopg.Error as error:  # of its COMMIT
                raise of_the_transaction(self.place, error, handled) from error
            self._following.committed_alone()
            return answer
        mark = self._following.mark(uid)
        answer = await acarry_within(connection, self.place, steps, mark.extended, mark.heard)
        note(self.outside, uid, connection, mark)
        if wrote(answer):
            self._following.committed(mark)
        return answer

    async def acommit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        steps = self._following.commit_steps(uid, command, rules)
        return await self._write(steps, uid, has_written)

    async def aload(self, uid: str, query: Query) -> Snapshot:
        return await self._read(load_steps(self.outside.tables, uid, query))

    async def ainstances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        tables = self.outside.tables
        return await self._read(fleet.instances_steps(tables, uid, statuses, task, unresolved_logs))

    async def aevents(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return await self._read(fleet.events_steps(self.outside.tables, uid, start, limit))

    async def aevents_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return await self._read(fleet.events_by_number_steps(self.outside.tables, uid, numbers))

    async def adelete(self, uid: str) -> bool:
        steps = delete_steps(self.outside.tables, uid, collect=False)
        return await self._write(steps, uid, no_matter)

    def joined(self, connection: object) -> Store:
        return self.outside.joined(connection)

    def when_committed(self, callback: Callable[[], None]) -> None:
        self._following.call_back(callback)

    def follow_up(self) -> None:
        self.outside.follow_up()

    def close(self) -> None:
        """The connection is the application's, and the store goes on outside of it."""


CHANGING.add(AsyncJoinedStore._write.__code__)

__all__ = ["AsyncJoinedStore"]
