"""The awaitable form of a manager's methods, and the loop that carries out operations in them.

Two ways, by the store. Most block: the method itself is called in a thread of the application. A
store that belongs to the event loop (`AwaitedStore`: the application's own asyncio connection) is
awaited in the loop; only what may block beside it goes to a thread: the hooks that are called
before, and those that follow the commit, with the dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.nesting import refuse_within_hooks
from triggers_core.engine.protocol import Command, Plan
from triggers_core.engine.recovery import Recovered
from triggers_core.exceptions import MustAwait
from triggers_core.explain import Explanation, explain
from triggers_core.methods import operations
from triggers_core.methods.operations import FireResult, InstanceOrName, Kwargs, Operation
from triggers_core.plugins.fire_contexts import Act, Firing
from triggers_core.storages.awaited import AwaitedStore, adrive
from triggers_core.storages.known_reads import aread
from triggers_core.storages.session import SessionStorage, TaskInstance

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

T = TypeVar("T")
P = ParamSpec("P")

_JOIN_TURN: Final = 0.5  # seconds that a wait holds a thread before it lets others have it


class AwaitableMethods:
    """The awaitable form of each method of `TriggerManager` that touches a storage.

    None blocks the event loop. Each can be cancelled while it is awaited: the change is stored then
    or it is not, and hooks and dispatch follow if it is; fired again with the same `event_id` it is
    stored once. What was begun in a thread runs to its end there, which `Application.astop` waits
    for, and an error that nobody awaits any more is logged.
    """

    async def afire(
        self,
        trigger_name: str,
        trigger_kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
        dry_run: bool = False,
    ) -> FireResult:
        """As `fire`, without blocking the event loop.

        Example::

            result = await manager.afire("paid", {"amount": 42}, event_id="stripe:evt_123")
        """
        manager = cast("TriggerManager", self)
        given = trigger_name, trigger_kwargs, event_id, once, force
        if dry_run:
            return await self._adry_run(operations.fire, *given, dry_run=True)
        plugins = manager.app.plugins
        if not (plugins.has_fire_context and manager.storage.store.awaits):
            return await self._await(operations.fire, *given)
        firing = Firing(trigger_name, event_id)
        with plugins.fire_contexts(manager, firing):  # in the loop: it spans what is awaited
            firing.result = await self._await(operations.fire, *given, firing)
        return firing.result

    async def aupdate_configuration(
        self,
        configuration: Mapping[str, Any] | Configuration,
        past: bool = False,
        dry_run: bool = False,
    ) -> Configured:
        """As `update_configuration`, without blocking the event loop."""
        operation = operations.update_configuration
        if dry_run:
            return await self._adry_run(operation, configuration, past)
        return await self._await(operation, configuration, past)

    # -- looking after instances ------------------------------------------------------------------

    async def areplay_failed_instance(
        self,
        failed_instance: InstanceOrName,
        replacement_kwargs: Mapping[str, Kwargs] | None = None,
    ) -> TaskInstance:
        """As `replay_failed_instance`, without blocking the event loop."""
        return await self._await(
            operations.replay_failed_instance, failed_instance, replacement_kwargs
        )

    async def askip_failed_instance(
        self,
        failed_instance: InstanceOrName,
        cascade: bool = False,
        result: Kwargs | None = None,
    ) -> TaskInstance:
        """As `skip_failed_instance`, without blocking the event loop."""
        return await self._await(operations.skip_failed_instance, failed_instance, cascade, result)

    async def afail_instance(self, task_instance: InstanceOrName, reason: str) -> TaskInstance:
        """As `fail_instance`, without blocking the event loop."""
        return await self._await(operations.fail_instance, task_instance, reason)

    async def aupdate_instance_metadata(
        self, task_instance: InstanceOrName, metadata: Kwargs
    ) -> TaskInstance:
        """As `update_instance_metadata`, without blocking the event loop."""
        return await self._await(operations.update_instance_metadata, task_instance, metadata)

    async def amark_instance_logs_resolved(self, task_instance: InstanceOrName) -> TaskInstance:
        """As `mark_instance_logs_resolved`, without blocking the event loop."""
        return await self._await(operations.mark_instance_logs_resolved, task_instance)

    # -- reading ----------------------------------------------------------------------------------

    async def aread(self, read: Callable[[SessionStorage], T]) -> T:
        """Whatever is read through `manager.storage`, without blocking the event loop.

        :param read: gets the storage, and returns what it reads there. It is called in a thread; if
            the manager is joined to a connection of the event loop, it is called again for each
            read, with the answers to those before. So it had better do nothing else.

        Example::

            kwargs = await manager.aread(lambda storage: storage.latest_kwargs)
        """
        manager = cast("TriggerManager", self)
        storage = manager.storage
        if storage.store.awaits:
            return await aread(storage, read)
        return await _in_thread(manager, partial(read, storage))

    async def aget_instance(self, task_instance: InstanceOrName) -> TaskInstance:
        """An instance as it is stored now, with all that there is to read about it.

        Its `kwargs`, `taken`, `result` and `moment` are at hand then; those of other instances are
        read where they are used, which blocks.

        :raises InstanceNotFound: there is none of this name.

        Example::

            instance = await manager.aget_instance("t_ship#0")
            instance.status, instance.kwargs["paid"], instance.result
        """
        return await self.aread(
            lambda storage: storage[operations.name_of(task_instance)].read_all()
        )

    async def aget_unresolved_tasks(self) -> list[Task]:
        """As `get_unresolved_tasks`, without blocking the event loop."""
        return await self.aread(lambda storage: storage.get_unresolved_tasks())

    async def aget_unresolved_instances(self) -> list[TaskInstance]:
        """As `get_unresolved_instances`, without blocking the event loop."""
        return await self.aread(lambda storage: storage.get_unresolved_instances())

    async def aget_instances_with_unresolved_logs(self) -> list[TaskInstance]:
        """As `get_instances_with_unresolved_logs`, without blocking the event loop."""
        return await self.aread(lambda storage: storage.get_instances_with_unresolved_logs())

    async def aexplain(self, task_name: str | None = None) -> Explanation:
        """As `explain`, without blocking the event loop."""
        app = cast("TriggerManager", self).app
        return await self.aread(
            lambda storage: explain(storage, task_name, app.rules, app.plugins.explain_trigger)
        )

    # -- the session ------------------------------------------------------------------------------

    async def aclose_session(self) -> None:
        """As `close_session`, without blocking the event loop."""
        await self._await(operations.close_session)

    async def adelete_session(self) -> bool:
        """As `delete_session`, without blocking the event loop."""
        manager = cast("TriggerManager", self)
        store = manager.storage.store
        if not store.awaits:
            return await _in_thread(manager, manager.delete_session)
        refuse_within_hooks("delete", manager.uid)
        return await cast(AwaitedStore, store).adelete(manager.uid)

    async def arecover(self) -> Recovered:
        """As `recover`, without blocking the event loop.

        :raises MustAwait: the manager is joined to a connection of the event loop: what is overdue
            is looked after in transactions of the storage's own.
        """
        manager = cast("TriggerManager", self)
        if manager.storage.store.awaits:
            raise MustAwait(
                f"arecover cannot be part of a transaction of {manager.storage.store.place}: await"
                f" it on a manager that is not joined: (await aget_trigger_manager("
                f"{manager.uid!r})).arecover()"
            )
        return await _in_thread(manager, manager.recover)

    async def ajoin(self, timeout: float | None = None) -> bool:
        """As `join`, without blocking the event loop."""
        import asyncio  # 19 ms; here it is loaded

        manager = cast("TriggerManager", self)
        if manager.app.runner(manager.default_task_runner_name).is_own_thread():
            return manager.join(0.0)  # refuses: an asynchronous body would wait for itself
        # A store that hears of commits in a thread of its own puts what follows them in line.
        await manager.app.in_thread(manager.storage.store.follow_up)
        await manager.app.calls.caught_up()
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while True:
            left = _JOIN_TURN if until is None else min(_JOIN_TURN, until - loop.time())
            if await manager.app.in_thread(partial(manager.join, max(0.0, left))):
                return True
            if until is not None and loop.time() >= until:
                return False

    # -- carrying out -----------------------------------------------------------------------------

    async def _await(
        self,
        operation: Callable[Concatenate[TriggerManager, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Carry out an operation; in a thread, as the method of its name."""
        manager = cast("TriggerManager", self)
        if not manager.storage.store.awaits:
            method: Callable[P, T] = getattr(manager, operation.__name__)
            return await _in_thread(manager, partial(method, *args, **kwargs))
        if operation is operations.fire or not manager.app.plugins.has_act_context:
            return await self._await_here(operation, None, *args, **kwargs)
        act = operations.act_of(operation, args)
        with manager.app.plugins.act_contexts(manager, act):
            act.result = result = await self._await_here(operation, act, *args, **kwargs)
        return result

    async def _await_here(
        self,
        operation: Callable[Concatenate[TriggerManager, P], Operation[T]],
        act: Act | None,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Carry out an operation on a store of the event loop."""
        manager = cast("TriggerManager", self)
        prepare: Callable[[], Operation[T]] = partial(operation, manager, *args, **kwargs)
        only_checks = operation is operations.fire and not manager.app.plugins.has_pre_fire
        # All others may call hooks, or import tasks.
        command, answer = prepare() if only_checks else await manager.app.in_thread(prepare)
        if act is not None:
            operations.carry(act, command)
        return answer(await _acommit(manager, command))

    async def _adry_run(
        self,
        operation: Callable[Concatenate[TriggerManager, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What an operation would answer, without carrying it out."""
        manager = cast("TriggerManager", self)
        store, app = manager.storage.store, manager.app
        if not store.awaits:
            method: Callable[..., T] = getattr(manager, operation.__name__)
            return await _in_thread(manager, partial(method, *args, **{**kwargs, "dry_run": True}))
        prepare: Callable[[], Operation[T]] = partial(operation, manager, *args, **kwargs)
        command, answer = await app.in_thread(prepare)
        load = partial(store.aload, manager.uid)
        return answer(await adrive(command, manager.uid, app.rules, load))

    def _call_in_thread(self, call: Callable[[], object]) -> None:
        """What follows a commit on a store of the event loop, in the order of the commits."""
        manager = cast("TriggerManager", self)
        manager.app.calls.submit_in_line(manager.uid, call)


async def _acommit(manager: TriggerManager, command: Command[T]) -> Plan[T]:
    """As `TriggerManager.commit`. Nothing is awaited between a commit and what follows it."""
    storage = manager.storage
    refuse_within_hooks("change", storage.uid)
    while True:
        plan = await storage.store.acommit(storage.uid, command, manager.app.rules)
        if not plan.empty:
            manager._when_committed("after_commit", plan)
        if not plan.again:  # else it was only what was due before
            return plan


async def _in_thread(manager: TriggerManager, call: Callable[[], T]) -> T:
    """Call what blocks on the manager's store where coroutines have that called."""
    store = manager.storage.store
    if store.in_transaction:
        raise MustAwait(
            f"a transaction of {store.place} is open in the thread of this event loop, and what is"
            " awaited would be no part of it: call the methods without the a, all within one"
            " function, and await asyncio.to_thread(function)"
        )
    return await manager.app.in_thread(call, store)
