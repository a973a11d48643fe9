"""The public API as applications and plugins see it: checked by mypy and pyright, never run.

``nox -s types`` checks it. A line that has to be refused says so by an ignore with its code: both
checkers complain about an ignore that ignores nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, assert_type

import triggers_core
from triggers_core import (
    Application,
    FireResult,
    Status,
    TaskContext,
    TriggerManager,
    TriggerTask,
    aget_trigger_manager,
    configure,
    get_trigger_manager,
    hookimpl,
    prune,
    trigger_task,
)
from triggers_core.engine.additions import CommitPlan, CommitSession
from triggers_core.engine.attempts import Retry
from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Task
from triggers_core.engine.protocol import Plan
from triggers_core.engine.records import Event, Instance
from triggers_core.engine.recovery import Recovered
from triggers_core.explain import Explanation
from triggers_core.manager import trigger_managers
from triggers_core.plugins.pending_event import PendingEvent
from triggers_core.runners import TaskRunner, ThreadingTaskRunner, task_runners
from triggers_core.settings import Settings
from triggers_core.storages import SessionStorage, storage_backends
from triggers_core.storages.base import Store
from triggers_core.storages.session import TaskInstance
from triggers_core.testing import SessionUnderTest, Triggers

assert_type(triggers_core.__version__, str)


# -- tests of workflows ---------------------------------------------------------------------------


def workflows(triggers: Triggers) -> None:
    config = {"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}}
    session = triggers.session(config)
    assert_type(session, SessionUnderTest)
    assert_type(session.fire("paid", {"amount": 120}), FireResult)
    assert session.ran("t_ship") + session.fired("paid") == 1
    assert session.status("t_ship") == "unstarted"
    session.fails("t_ship", ConnectionError, times=2)
    session.returns("t_ship", lambda context: {"attempt": context.attempt})
    session.advance(timedelta(days=3))
    assert_type(session.replay("t_ship"), TaskInstance)
    assert_type(triggers.use(TRIGGER_PLUGINS=["finalize"]), Application)
    events = ["packed", ("paid", {"amount": 120})]
    assert_type(triggers.assert_any_order(config, events, {"t_ship": 1}, duplicates=True), int)
    triggers.assert_any_order(config, events, duplicates="twice")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(triggers.replay_log("events.jsonl")["order:42"], SessionUnderTest)


# -- applications ---------------------------------------------------------------------------------


def applications() -> None:
    configure(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_IMPORTS=["shop.tasks"])
    app = Application("shop", Settings.isolated(TRIGGER_STORAGE_TYPE="memory"))
    assert_type(app.settings, Settings)
    assert_type(app.manager("order:42"), TriggerManager)
    assert_type(app.store, Store)
    assert_type(app.runner(), TaskRunner)
    with app as started:
        assert_type(started, Application)
    assert_type(app.start(), Application)
    assert_type(app.prune(older_than=3_600), int)
    assert_type(prune(older_than=3_600.0, resolved_only=False, app=app), int)
    get_trigger_manager()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    get_trigger_manager(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def registries() -> None:
    assert_type(storage_backends.get_class("sqlite"), type[SessionStorage])
    assert_type(task_runners.get_class("threading"), type[TaskRunner])
    assert_type(trigger_managers.get_class("default"), type[TriggerManager])
    assert_type(task_runners.register("mine", ThreadingTaskRunner), type[ThreadingTaskRunner])


@trigger_managers.register("audited")
class Audited(TriggerManager):
    default_task_runner_name = "celery"

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        assert_type([each.status for each in tasks_scheduled], list[Status])


assert_type(Audited(storage_backends.get("memory", "order:42")), Audited)


# -- sessions -------------------------------------------------------------------------------------


def sessions() -> None:
    manager = get_trigger_manager("order:42")
    assert_type(manager, TriggerManager)
    assert_type(manager.uid, str)
    assert_type(manager.storage, SessionStorage)

    manager.update_configuration({"t_ship": {"after": ["paid"], "run": "shop.Ship"}})
    result = manager.fire("paid", {"amount": 42}, event_id="stripe:1", once=True)
    assert_type(result, FireResult)
    assert_type(result.status, str)
    assert_type(result.scheduled, tuple[str, ...])
    assert_type(result.event_id, str)
    assert_type(result.number, int)
    manager.fire(trigger_name="paid", trigger_kwargs=None, force=True)
    manager.fire("paid", ["amount", 42])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    result.status = "lost"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    explanation = manager.explain("t_ship")
    assert_type(explanation, Explanation)
    assert_type(str(explanation), str)
    assert_type(manager.join(timeout=5), bool)
    assert_type(manager.delete_session(), bool)


def instances(manager: TriggerManager) -> None:
    instance = manager.storage["t_ship#0"]
    assert_type(instance, TaskInstance)
    assert_type(instance.name, str)
    assert_type(instance.status, Status)
    assert_type(instance.status is Status.FAILED, bool)
    assert_type(instance.metadata, dict[str, Any])
    assert_type(instance.result, dict[str, Any] | None)
    assert_type(instance.parent, str | None)
    assert_type(instance.idempotency_key, str)
    assert_type(manager.storage.tasks, Mapping[str, Task])
    assert_type(manager.storage.instances, Mapping[str, TaskInstance])
    assert_type(manager.storage.latest_kwargs, dict[str, dict[str, Any]])

    assert_type(manager.replay_failed_instance(instance), TaskInstance)
    assert_type(manager.replay_failed_instance("t_ship#0", {"paid": {}}), TaskInstance)
    assert_type(manager.skip_failed_instance("t_ship#0", cascade=True, result={}), TaskInstance)
    assert_type(manager.fail_instance(instance, "stuck"), TaskInstance)
    assert_type(manager.update_instance_metadata(instance, {"ticket": 7}), TaskInstance)
    assert_type(manager.mark_instance_logs_resolved(instance), TaskInstance)
    assert_type(manager.get_unresolved_tasks(), list[Task])
    assert_type(manager.get_unresolved_instances(), list[TaskInstance])
    assert_type(manager.get_instances_with_unresolved_logs(), list[TaskInstance])
    manager.replay_failed_instance(0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaited(app: Application) -> None:
    async with app as started:
        assert_type(started, Application)
    manager = await aget_trigger_manager("order:42", app)
    assert_type(manager, TriggerManager)
    assert_type(await manager.afire("paid", {"amount": 42}, event_id="e", once=True), FireResult)
    await manager.afire("paid", ["amount"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await manager.aupdate_configuration({}, dry_run=True), Configured)
    assert_type(await manager.aget_instance("t_ship#0"), TaskInstance)
    assert_type(await manager.aread(lambda storage: storage.exists), bool)
    assert_type(await manager.areplay_failed_instance("t_ship#0"), TaskInstance)
    assert_type(await manager.askip_failed_instance("t_ship#0", cascade=True), TaskInstance)
    assert_type(await manager.afail_instance("t_ship#0", "stuck"), TaskInstance)
    assert_type(await manager.aupdate_instance_metadata("t_ship#0", {}), TaskInstance)
    assert_type(await manager.amark_instance_logs_resolved("t_ship#0"), TaskInstance)
    assert_type(await manager.aget_unresolved_tasks(), list[Task])
    assert_type(await manager.aget_unresolved_instances(), list[TaskInstance])
    assert_type(await manager.aget_instances_with_unresolved_logs(), list[TaskInstance])
    assert_type(await manager.aexplain("t_ship"), Explanation)
    await manager.aclose_session()
    assert_type(await manager.adelete_session(), bool)
    assert_type(await manager.arecover(), Recovered)
    assert_type(await manager.ajoin(timeout=5), bool)
    assert_type(await app.in_thread(lambda: 42), int)


# -- tasks ----------------------------------------------------------------------------------------


class Order:
    number: int


class Ship(TriggerTask):
    name = "shop.Ship"
    max_retries = None
    kwargs_model = Order
    time_limit = 30

    def _run(self, context: TaskContext) -> dict[str, Any] | None:
        assert_type(self.context, TaskContext)
        assert_type(context.manager, TriggerManager)
        assert_type(context.instance, TaskInstance)
        assert_type(context.attempt, int)
        assert_type(context.retries, int)
        assert_type(context.idempotency_key, str)
        assert_type(context.lease_lost, bool)
        assert_type(context.validate(Order), Order)
        assert_type(context.trigger_kwargs["paid"]["amount"], Any)
        context.fire("shipped", {"parcel": 1})
        with context.get_logger_context(context={"order": 42}) as logger:
            logger.info("on its way")
        if context.retries:
            raise self.skip({"reason": "gone"})
        raise self.retry(ConnectionError, cooldown=timedelta(minutes=1))


class Later(TriggerTask):
    async def _run(self, context: TaskContext) -> Mapping[str, Any]:
        return {"attempt": context.attempt}


@trigger_task
def pack(context: TaskContext) -> None:
    raise context.retry(cooldown=30)


@trigger_task(name="shop.weigh", max_retries=5, soft_time_limit=10)
def weigh(context: TaskContext) -> dict[str, float]:
    return {"kg": 1.5}


assert_type(pack, type[TriggerTask])
assert_type(weigh, type[TriggerTask])
trigger_task(max_retries="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# -- plugins --------------------------------------------------------------------------------------


@hookimpl
def pre_fire(manager: TriggerManager, event: PendingEvent) -> None:
    assert_type(event.trigger, str)
    event.kwargs = {**event.kwargs, "received_by": manager.uid}


@hookimpl
def before_commit(session: CommitSession, plan: CommitPlan) -> None:
    assert_type(session.has_fired("paid"), bool)
    assert_type(sum(session.count(task, Status.FAILED) for task in session.tasks), int)
    plan.fire("helpNeeded", {"failed": 3})


@hookimpl(tryfirst=True)
def task_failed(context: TaskContext, error: BaseException) -> Retry | None:
    return Retry(cooldown=10.0) if isinstance(error, ConnectionError) else None


class Plugin:
    @hookimpl
    def post_fire(
        self, manager: TriggerManager, event: Event, scheduled: Sequence[Instance]
    ) -> None:
        assert_type(event.number, int)
        assert_type([each.name for each in scheduled], list[str])

    @hookimpl(trylast=True)
    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        assert_type([each.instance.status for each in changes.changes], list[Status])

    @hookimpl(specname="body_context")
    @contextmanager
    def transaction(self, context: TaskContext) -> Generator[None]:
        yield


# The marker leaves the types of what it marks as they were.
pre_fire(42, 42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
a_transaction: AbstractContextManager[None] = Plugin().transaction(TaskContext.__new__(TaskContext))
