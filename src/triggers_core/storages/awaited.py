"""The base of stores on a connection that belongs to an event loop.

`Store.joined` answers with one for an asyncio connection of the application's. It derives from
`AwaitedStore` and has the awaitable methods: `acommit`, `aload`, and those below. Each does what
the method without the ``a`` promises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import MustAwait, UnknownSchema
from triggers_core.storages.base import Store

_T = TypeVar("_T")

_METHODS: Final = {
    "Fire": "fire",
    "Configure": "update_configuration",
    "Replay": "replay_failed_instance",
    "Skip": "skip_failed_instance",
    "FailByHand": "fail_instance",
    "UpdateMetadata": "update_instance_metadata",
    "ResolveLogs": "mark_instance_logs_resolved",
    "Close": "close_session",
}
"""Command → the manager's method that carries it out."""


async def adrive(
    command: Command[_T], uid: str, rules: Rules, load: Callable[[Query], Awaitable[Snapshot]]
) -> Plan[_T]:
    """Drive a change to its plan, as `drive` does, with a `load` that is awaited.

    :raises UnknownSchema: the session cannot be read; names it.
    """
    steps = command.decide(uid, rules)
    try:
        query = next(steps)
        while True:
            query = steps.send(await load(query))
    except StopIteration as done:
        plan: Plan[_T] = done.value
        return plan
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__


class AwaitedStore(Store):
    """Base of the stores of an event loop: every method that touches the database is awaited.

    Its `when_committed` is called in the loop and calls back there; whatever is done then is handed
    to a thread by the one who asked for it.
    """

    awaits: ClassVar[bool] = True

    async def ainstances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        """As `instances`."""
        raise NotImplementedError

    async def aevents(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        """As `events`."""
        raise NotImplementedError

    async def aevents_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        """As `events_by_number`."""
        raise NotImplementedError

    async def apayloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        """As `payloads`."""
        events = await self.aevents_by_number(uid, numbers)
        return {number: bytes(event.payload) for number, event in events.items()}

    async def adelete(self, uid: str) -> bool:
        """As `delete`."""
        raise NotImplementedError

    # -- what would block the loop ----------------------------------------------------------------

    def commit(self, uid: str, command: Command[_T], rules: Rules) -> Plan[_T]:
        method = _METHODS.get(type(command).__name__)
        self._refuse(f"manager.{method}" if method else "a change", f"a{method or 'commit'}(...)")

    def load(self, uid: str, query: Query) -> Snapshot:
        self._refuse_read()

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        self._refuse_read()

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        self._refuse_read()

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        self._refuse_read()

    def payloads(self, uid: str, numbers: Iterable[int]) -> dict[int, bytes]:
        self._refuse_read()

    def delete(self, uid: str) -> bool:
        self._refuse("manager.delete_session", "adelete_session()")

    def transaction(self) -> Any:
        self._refuse(
            "store.transaction", "afire(...) within a transaction of that connection's own"
        )

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise MustAwait(
            f"{what} cannot be called on {self.place}, whose connection is used in an event loop:"
            f" await manager.{instead}"
        )

    def _refuse_read(self) -> NoReturn:
        self._refuse(
            "a read",
            "aget_instance(name), manager.aexplain(), or, for whatever is read through"
            " manager.storage, manager.aread(lambda storage: ...)",
        )
