"""What the methods of a manager do to a session: checks first, then a change, then the answer.

Each operation checks its arguments and returns the command to commit, with what makes the method's
answer of the plan as stored. `TriggerManager` commits it in the thread that calls the method of the
same name; `methods.awaitable`, for the awaitable form, in an event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from triggers_core import payloads
from triggers_core.engine.carriers import check_carrier
from triggers_core.engine.commands import (
    Close,
    Configure,
    Configured,
    FailByHand,
    Fire,
    FireOutcome,
    OperatorResult,
    Replay,
    ResolveLogs,
    Skip,
    UpdateMetadata,
)
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.names import check_event_id, check_name, new_id
from triggers_core.engine.nesting import refuse_endless_answers, refuse_within_hooks
from triggers_core.engine.protocol import Command, Plan
from triggers_core.engine.records import Instance
from triggers_core.exceptions import InvalidConfiguration, InvalidInput, TaskNotFound, TriggersError
from triggers_core.failures import log_exception
from triggers_core.limits import Limits
from triggers_core.storages.session import TaskInstance

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.plugins.fire_contexts import Act, Firing

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
Kwargs = Mapping[str, Any]
InstanceOrName = TaskInstance | str

Operation = tuple[Command[Any], Callable[[Plan[Any]], T]]
"""A method of a manager at work: what to commit, and what makes its answer of the plan."""


class FireResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a fire."""

    status: str
    """``recorded``, ``duplicate`` (the event id was seen before) or ``already fired`` (`once`)."""
    scheduled: tuple[str, ...]
    """Names of the instances that are scheduled now because of it."""
    event_id: str
    """The id under which it can be fired again without effect."""
    number: int
    """The event's number in its session."""
    waited_for: bool = True
    """False when no task of the session's configuration names the trigger, in `unless` neither: a
    slip of the pen, maybe. True for a session without a configuration: its first one will look at
    what was fired before it. (Plugins that look at every event in `before_commit` name none.)"""
    due: tuple[str, ...] = ()
    """Names of the instances that were due and that this fire worked off before its event: run
    after a hold, or late. A sweep would have done it, had it looked in time."""


# -- firing and configuring -----------------------------------------------------------------------


def fire(
    manager: TriggerManager,
    trigger_name: str,
    trigger_kwargs: Kwargs | None = None,
    event_id: str | None = None,
    once: bool = False,
    force: bool = False,
    firing: Firing | None = None,
    dry_run: bool = False,
) -> Operation[FireResult]:
    """See `TriggerManager.fire`.

    :param firing: what `fire_context` hooks have seen of it.
    :param dry_run: `pre_fire` hooks are not asked.
    """
    given = event_id is not None
    trigger = check_name(trigger_name, "trigger")
    identity = check_event_id(event_id, generated=True) if event_id is not None else new_id()
    plugins, limits = manager.app.plugins, manager.app.rules.limits
    refuse_endless_answers(limits.additions)
    as_given: bytes | None = None
    if plugins.has_pre_fire and not dry_run:
        refuse_within_hooks("fire into", manager.uid)
        if given:
            as_given = _encoded(trigger_kwargs, limits)
        trigger_kwargs = plugins.pre_fire(
            manager, trigger, trigger_kwargs, identity, once=once, force=force
        )
    command = Fire(
        trigger=trigger,
        payload=payloads.encode(trigger_kwargs, limits),
        event_id=identity,
        given_id=given,
        as_given=as_given,
        once=once,
        force=force,
        by=manager.actor,
    )
    if firing is not None and firing.carrier:
        command.carrier = _carrier(firing)
    return command, _fired


def _carrier(of: Firing | Act) -> dict[str, str] | None:
    try:
        return check_carrier(of.carrier)
    except Exception as problem:
        log_exception(logger, "%s goes on without it", problem, of)
        return None


def _fired(plan: Plan[FireOutcome]) -> FireResult:
    recorded = plan.outcome
    return FireResult(
        status=recorded.status,
        scheduled=tuple([each.name for each in plan.scheduled]),
        event_id=recorded.event_id,
        number=recorded.number,
        waited_for=recorded.waited_for,
        due=tuple(recorded.due),
    )


def update_configuration(
    manager: TriggerManager, configuration: Mapping[str, Any] | Configuration, past: bool = False
) -> Operation[Configured]:
    """See `TriggerManager.update_configuration`."""
    return configure(manager, configuration, past), _outcome


def _outcome(plan: Plan[T]) -> T:
    return plan.outcome


def configure(
    manager: TriggerManager, configuration: Mapping[str, Any] | Configuration, past: bool
) -> Configure:
    """Check a configuration; the command that makes it the session's."""
    parsed = manager.app.parse(configuration)
    for task in parsed.tasks.values():
        _check_task(manager, task)
    requires = manager.app.plugins.requires_for(parsed)
    return Configure(configuration=parsed, requires=requires, past=past)


def _check_task(manager: TriggerManager, task: Task) -> None:
    try:
        runner = manager.app.runner(task.using or manager.default_task_runner_name)
    except TriggersError as error:
        raise InvalidConfiguration(f"{task.name}.using: {error}", f"{task.name}.using") from error
    if not runner.executes_here:
        return  # the worker knows its tasks; this process may not import them
    try:
        manager.app.resolve_task(task.run, task.using)
    except TaskNotFound as error:
        raise InvalidConfiguration(f"{task.name}.run: {error}", f"{task.name}.run") from error


# -- looking after instances ----------------------------------------------------------------------


def replay_failed_instance(
    manager: TriggerManager,
    failed_instance: InstanceOrName,
    replacement_kwargs: Mapping[str, Kwargs] | None = None,
) -> Operation[TaskInstance]:
    """See `TriggerManager.replay_failed_instance`."""
    payload = None
    if replacement_kwargs is not None:
        payload = payloads.encode_replacement(replacement_kwargs, manager.app.rules.limits)
    command = Replay(instance=name_of(failed_instance), payload=payload, by=manager.actor)
    return command, partial(_replayed, manager)


def _replayed(manager: TriggerManager, plan: Plan[OperatorResult]) -> TaskInstance:
    moved = plan.outcome
    assert moved.replay is not None
    manager._when_committed("_after_replay", moved.instance, moved.replay)
    return _seen(manager, moved.replay)


def skip_failed_instance(
    manager: TriggerManager,
    failed_instance: InstanceOrName,
    cascade: bool = False,
    result: Kwargs | None = None,
) -> Operation[TaskInstance]:
    """See `TriggerManager.skip_failed_instance`."""
    encoded = payloads.encode(result, manager.app.rules.limits, "result")
    name = name_of(failed_instance)
    command = Skip(instance=name, cascade=cascade, result=encoded, by=manager.actor)
    return command, partial(_skipped, manager, cascade)


def _skipped(manager: TriggerManager, cascade: bool, plan: Plan[OperatorResult]) -> TaskInstance:
    moved = plan.outcome
    manager._when_committed("_after_skip", moved.instance, cascade)
    return _seen(manager, moved.instance)


def fail_instance(
    manager: TriggerManager, task_instance: InstanceOrName, reason: str
) -> Operation[TaskInstance]:
    """See `TriggerManager.fail_instance`."""
    name = name_of(task_instance)
    command = FailByHand(instance=name, reason=str(reason), by=manager.actor)
    return command, partial(_moved, manager)


def update_instance_metadata(
    manager: TriggerManager, task_instance: InstanceOrName, metadata: Kwargs
) -> Operation[TaskInstance]:
    """See `TriggerManager.update_instance_metadata`."""
    checked = payloads.decode(payloads.encode(metadata, manager.app.rules.limits, "metadata"))
    command = UpdateMetadata(instance=name_of(task_instance), metadata=checked)
    return command, partial(_moved, manager)


def mark_instance_logs_resolved(
    manager: TriggerManager, task_instance: InstanceOrName
) -> Operation[TaskInstance]:
    """See `TriggerManager.mark_instance_logs_resolved`."""
    return ResolveLogs(instance=name_of(task_instance)), partial(_moved, manager)


def close_session(manager: TriggerManager) -> Operation[None]:
    """See `TriggerManager.close_session`."""
    return Close(), _nothing


def _nothing(plan: Plan[Any]) -> None:
    """Some methods answer nothing."""


def _moved(manager: TriggerManager, plan: Plan[OperatorResult]) -> TaskInstance:
    return _seen(manager, plan.outcome.instance)


def _seen(manager: TriggerManager, record: Instance) -> TaskInstance:
    return TaskInstance(manager.storage.store, manager.uid, record)


def _encoded(kwargs: Kwargs | None, limits: Limits) -> bytes | None:
    """Kwargs as the application gave them; None when only a `pre_fire` hook makes data of them."""
    try:
        return payloads.encode(kwargs, limits)
    except InvalidInput:
        return None


def act_of(operation: Callable[..., object], arguments: tuple[Any, ...]) -> Act:
    """An operation as `act_context` hooks see it.

    :param arguments: those of the operation, without the manager.
    """
    from triggers_core.plugins.fire_contexts import Act

    about = name_of(arguments[0]) if operation in _OF_AN_INSTANCE else None
    return Act(operation.__name__, about)


def carry(act: Act, command: Command[Any]) -> None:
    """Hand an act's carrier to its command, if that makes something that has one."""
    if act.carrier and isinstance(command, (Replay, Skip, FailByHand)):
        command.carrier = _carrier(act)


_OF_AN_INSTANCE: Final = (
    replay_failed_instance,
    skip_failed_instance,
    fail_instance,
    update_instance_metadata,
    mark_instance_logs_resolved,
)


def name_of(instance: InstanceOrName) -> str:
    """The name of an instance that is given by its name, or as one that was read."""
    return instance.name if isinstance(instance, TaskInstance) else str(instance)
