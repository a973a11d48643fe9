"""A store of an event loop, on one in memory: what follows its commits waits for `commit_all`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.storages.awaited import AwaitedStore, adrive
from triggers_core.storages.memory import MemoryStore

T = TypeVar("T")


class Joinable(MemoryStore):
    """A store that can be joined to an `Awaited`."""

    def joined(self, connection: object) -> Any:
        assert isinstance(connection, Awaited)
        connection.inner = self
        return connection


class Awaited(AwaitedStore):
    """Gives way to the loop before each read and each write."""

    key = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.inner = MemoryStore()
        self.callbacks: list[Callable[[], None]] = []
        self.asked: list[str] = []

    async def acommit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        # Whether it would go through; a database would hold the row until the end.
        await adrive(command, uid, rules, lambda query: self.aload(uid, query))
        await asyncio.sleep(0)
        return self.inner.commit(uid, command, rules)

    async def aload(self, uid: str, query: Query) -> Snapshot:
        return await self._read("load", uid, query)

    async def ainstances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        return await self._read(
            "instances", uid, statuses=statuses, task=task, unresolved_logs=unresolved_logs
        )

    async def aevents(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return await self._read("events", uid, start, limit)

    async def aevents_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return await self._read("events_by_number", uid, numbers)

    async def adelete(self, uid: str) -> bool:
        return await self._read("delete", uid)

    async def _read(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(method)
        await asyncio.sleep(0)
        return getattr(self.inner, method)(*args, **kwargs)

    def when_committed(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def commit_all(self) -> None:
        """The transaction ends well: what was to follow does."""
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()
