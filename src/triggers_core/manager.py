"""`TriggerManager`: the front of a session, for applications and operators."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from triggers_core import payloads
from triggers_core.application import Application, default_application
from triggers_core.engine.attempts import Recovered
from triggers_core.engine.commands import (
    Close,
    Configure,
    Configured,
    FailByHand,
    Fire,
    Replay,
    ResolveLogs,
    Skip,
    UpdateMetadata,
)
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.names import check_event_id, check_name, new_id
from triggers_core.engine.nesting import AfterCommit, refuse_endless_answers, refuse_within_hooks
from triggers_core.engine.protocol import Command, Plan
from triggers_core.engine.records import UNRESOLVED, Event, Instance
from triggers_core.exceptions import InvalidConfiguration, InvalidInput, TaskNotFound, TriggersError
from triggers_core.explain import Explanation, explain
from triggers_core.failures import log_exception, message_of
from triggers_core.limits import Limits
from triggers_core.registries import trigger_managers
from triggers_core.running.messages import Message
from triggers_core.running.sweep import recover_session
from triggers_core.storages.session import SessionStorage, TaskInstance

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
Kwargs = Mapping[str, Any]
InstanceOrName = TaskInstance | str


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


class TriggerManager:
    """One session: fire triggers into it, configure it, look after its instances.

    :param storage: where the session lives.
    :param app: whose settings, plugins and runners it uses; the default application if not given.

    Example::

        manager = TriggerManager(storage_backends.get("sqlite", "applicant:42", path="triggers.db"))
        manager.fire("firstPageReceived", {"responses": {...}})
    """

    default_task_runner_name: ClassVar[str | None] = None
    """The key of the runner for tasks without `using`, in place of `TRIGGER_RUNNER`. Sweeps follow
    it when the class is that of `TRIGGER_MANAGER_TYPE`."""

    def __init__(self, storage: SessionStorage, app: Application | None = None) -> None:
        self.storage = storage
        self.app: Application = app or default_application
        self.app.saw(self)
        # Nothing is started here. But settings that name no runner are told of here, to whoever
        # calls, and not in the log, by the first dispatch.
        self.app.runner(self.default_task_runner_name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.uid!r}>"

    @property
    def uid(self) -> str:
        """The session's uid."""
        return self.storage.uid

    def sibling(self, uid: str) -> Self:
        """The same kind of manager for another session of the same store."""
        other = copy.copy(self)
        other.storage = type(self.storage).on(self.storage.store, uid)
        return other

    # -- firing and configuring -------------------------------------------------------------------

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
    ) -> FireResult:
        """Record an event and schedule whatever it completes.

        :param trigger_name: any printable text of 1 to 200 characters.
        :param trigger_kwargs: its payload; see the guarantees about what it may hold.
        :param event_id: names the event: the same id again is a no-op that says so.
        :param once: a no-op when the trigger has fired before.
        :param force: allow the name of a task, which normally fires by itself.
        :raises InvalidName, InvalidPayload, LimitExceeded: about the arguments.
        :raises TaskNameFired: `trigger_name` is a task of the session.
        :raises EventIdConflict: the id was used for another trigger or payload. What counts is the
            payload as given here, whatever `pre_fire` hooks make of it.
        :raises SessionClosed: the session accepts no more events.
        :raises FireVetoed: a plugin refused it.

        In every case of an error nothing has been stored.
        """
        given = event_id is not None
        trigger = check_name(trigger_name, "trigger")
        identity = check_event_id(event_id, generated=True) if event_id is not None else new_id()
        plugins, limits = self.app.plugins, self.app.rules.limits
        refuse_endless_answers(limits.additions)
        as_given: bytes | None = None
        if plugins.has_pre_fire:
            refuse_within_hooks("fire into", self.uid)
            if given:
                as_given = _encoded(trigger_kwargs, limits)
            trigger_kwargs = plugins.pre_fire(
                self, trigger, trigger_kwargs, identity, once=once, force=force
            )
        payload = payloads.encode(trigger_kwargs, limits)
        plan = self.commit(
            Fire(
                trigger=trigger,
                payload=payload,
                event_id=identity,
                given_id=given,
                as_given=as_given,
                once=once,
                force=force,
            )
        )
        recorded = plan.outcome
        return FireResult(
            status=recorded.status,
            scheduled=tuple([each.name for each in plan.scheduled]),
            event_id=recorded.event_id,
            number=recorded.number,
            waited_for=recorded.waited_for,
        )

    def update_configuration(self, configuration: Mapping[str, Any] | Configuration) -> Configured:
        """Add tasks to the session, or replace those of the same name.

        Everything is checked before anything is stored. The session's first configuration applies
        the events recorded before it; later ones re-evaluate the unstarted instances of the tasks
        that they replace.

        :raises InvalidConfiguration: names the place, for example
            ``t_x.after: expected a list of trigger names, got 'go'``.

        Example::

            manager.update_configuration(
                {"t_ship": {"after": ["paid", "packed"], "run": "shop.tasks.Ship"}}
            )
        """
        parsed = self.app.parse(configuration)
        for task in parsed.tasks.values():
            self._check_task(task)
        requires = self.app.plugins.requires_for(parsed)
        return self.commit(Configure(configuration=parsed, requires=requires)).outcome

    def _check_task(self, task: Task) -> None:
        try:
            runner = self.app.runner(task.using or self.default_task_runner_name)
        except TriggersError as error:
            raise InvalidConfiguration(
                f"{task.name}.using: {error}", f"{task.name}.using"
            ) from error
        if not runner.executes_here:
            return  # the worker knows its tasks; this process may not import them
        try:
            self.app.resolve_task(task.run, task.using)
        except TaskNotFound as error:
            raise InvalidConfiguration(f"{task.name}.run: {error}", f"{task.name}.run") from error

    # -- looking after instances ------------------------------------------------------------------

    def replay_failed_instance(
        self,
        failed_instance: InstanceOrName,
        replacement_kwargs: Mapping[str, Kwargs] | None = None,
    ) -> TaskInstance:
        """Run a failed instance again, as a clone; the failed one becomes `replayed`.

        :param replacement_kwargs: trigger → kwargs in place of the recorded ones; ``{}``: none.
        :returns: the clone.
        :raises WrongState: the instance is not failed.
        :raises InstanceNotFound: there is none of this name.
        """
        payload = None
        if replacement_kwargs is not None:
            payload = payloads.encode_replacement(replacement_kwargs, self.app.rules.limits)
        moved = self.commit(Replay(instance=_name(failed_instance), payload=payload)).outcome
        assert moved.replay is not None
        replay = self._instance(moved.replay)
        self.app.plugins.post_replay(self, moved.instance, moved.replay)
        self._call("_post_replay", self._instance(moved.instance), replay)
        return replay

    def skip_failed_instance(
        self,
        failed_instance: InstanceOrName,
        cascade: bool = False,
        result: Kwargs | None = None,
    ) -> TaskInstance:
        """Give up on a failed instance: it becomes `skipped`.

        :param cascade: go on as if the task had finished.
        :param result: the kwargs of that cascade.
        :raises WrongState: the instance is not failed.
        """
        encoded = payloads.encode(result, self.app.rules.limits, "result")
        skip = Skip(instance=_name(failed_instance), cascade=cascade, result=encoded)
        moved = self.commit(skip).outcome
        skipped = self._instance(moved.instance)
        self.app.plugins.post_skip(self, moved.instance, cascade)
        self._call("_post_skip", skipped, cascade)
        return skipped

    def fail_instance(self, task_instance: InstanceOrName, reason: str) -> TaskInstance:
        """Fail an instance that is stuck in `scheduled` or `running`; its worker is fenced off.

        :raises WrongState: the instance is neither.
        """
        command = FailByHand(instance=_name(task_instance), reason=str(reason))
        return self._instance(self.commit(command).outcome.instance)

    def update_instance_metadata(
        self, task_instance: InstanceOrName, metadata: Kwargs
    ) -> TaskInstance:
        """Merge a mapping into an instance's metadata.

        :raises InvalidPayload: it holds something that cannot be stored.
        :raises LimitExceeded: the metadata would exceed `Limits.record_bytes`.
        """
        checked = payloads.decode(payloads.encode(metadata, self.app.rules.limits, "metadata"))
        command = UpdateMetadata(instance=_name(task_instance), metadata=checked)
        return self._instance(self.commit(command).outcome.instance)

    def mark_instance_logs_resolved(self, task_instance: InstanceOrName) -> TaskInstance:
        """Note that somebody has dealt with what an instance logged."""
        command = ResolveLogs(instance=_name(task_instance))
        return self._instance(self.commit(command).outcome.instance)

    def get_unresolved_tasks(self) -> list[Task]:
        """The tasks that have no instance yet, or an unresolved one."""
        return self.storage.get_unresolved_tasks()

    def get_unresolved_instances(self) -> list[TaskInstance]:
        """The instances that are unstarted, scheduled, running or failed."""
        return self.storage.get_unresolved_instances()

    def get_instances_with_unresolved_logs(self) -> list[TaskInstance]:
        """The instances that logged a warning or worse, not marked as resolved."""
        return self.storage.get_instances_with_unresolved_logs()

    def explain(self, task_name: str | None = None) -> Explanation:
        """What a task (or every task) has, what it waits for, and why it did not run.

        :returns: reads as text (`str`), holds the same as data (`.data`).
        :raises TaskNotFound: the session has no such task.
        """
        return explain(self.storage, task_name, self.app.rules, self.app.plugins.explain_trigger)

    # -- the session ------------------------------------------------------------------------------

    def close_session(self) -> None:
        """Refuse further events; what is under way runs to its end, cascades included."""
        self.commit(Close())

    def delete_session(self) -> bool:
        """Erase the session; whether there was one. Messages about it are stale from then on."""
        refuse_within_hooks("delete", self.uid)
        return self.storage.store.delete(self.uid)

    def recover(self) -> Recovered:
        """Dispatch, retry or fail what is overdue in this session."""
        refuse_within_hooks("recover", self.uid)
        overdue = tuple(
            instance.name
            for instance in self.storage.store.instances(self.uid, statuses=UNRESOLVED)
            if instance.due_at is not None
        )
        return recover_session(self, overdue)  # decides by the storage's clock what is

    def join(self, timeout: float | None = None) -> bool:
        """Wait until this process's runner has nothing more to do, cascades included.

        :param timeout: seconds; None waits for ever.
        :returns: whether it got there in time.
        :raises WrongState: called by a body or a hook in a thread of the runner.
        """
        return self.app.runner(self.default_task_runner_name).join_all(timeout)

    # -- for subclasses ---------------------------------------------------------------------------

    def _post_fire(self, trigger_name: str, tasks_scheduled: list[TaskInstance]) -> None:
        """Called after every recorded event, cascades included. Override at will."""

    def _post_replay(self, failed_instance: TaskInstance, replay: TaskInstance) -> None:
        """Called after a replay by hand. Override at will, with the first parameter alone too."""

    def _post_skip(self, skipped_instance: TaskInstance, cascade: bool) -> None:
        """Called after a skip by hand. Override at will."""

    # -- commit, then hooks, then dispatch --------------------------------------------------------

    def commit(self, command: Command[T]) -> Plan[T]:
        """Carry out a change, tell the hooks, and dispatch what it scheduled.

        For runners and plugins; applications use the methods above.
        """
        storage = self.storage
        refuse_within_hooks("change", storage.uid)
        plan = storage.store.commit(storage.uid, command, self.app.rules)
        if plan.header is not None or plan.changes:
            self.after_commit(plan)
        return plan

    def after_commit(self, plan: Plan[Any]) -> None:
        """What follows a commit once it is durable: hooks in causal order, then dispatch."""
        plugins = self.app.plugins
        overridden = type(self)._post_fire is not TriggerManager._post_fire
        told = bool(plan.events) and (overridden or plugins.has_post_fire)
        if told or plugins.has_post_commit:
            with AfterCommit():
                plugins.post_commit(self, plan)
                if told:
                    self._tell(plan, overridden)
        if plan.scheduled:
            assert plan.header is not None
            self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)
        for change in plan.changes:
            if change.hold_for is not None:
                self.app.runner(self.default_task_runner_name).wake()
                break

    def _tell(self, plan: Plan[Any], overridden: bool) -> None:
        scheduled_by: dict[int, list[Instance]] = {}
        for instance in plan.scheduled:
            scheduled_by.setdefault(instance.scheduled_by, []).append(instance)
        for event in plan.events:
            instances = scheduled_by.get(event.number, [])
            self.app.plugins.post_fire(self, event, tuple(instances))
            if overridden:
                self._call_post_fire(event, instances)

    def _call_post_fire(self, event: Event, instances: Sequence[Instance]) -> None:
        try:
            self._post_fire(event.trigger, [self._instance(each) for each in instances])
        except Exception as error:
            log_exception(
                logger,
                "%s: %s._post_fire failed for %r; the fire itself is recorded",
                error,
                *(self.uid, type(self).__name__, event.trigger),
            )

    def _call(self, method: str, *arguments: Any) -> None:
        """Call an override of a subclass; the change it is told of has happened and stays."""
        override = getattr(type(self), method)
        if override is getattr(TriggerManager, method):
            return
        bound = getattr(self, method)
        try:
            bound(*arguments[: _accepted(bound, len(arguments))])
        except Exception as error:
            log_exception(
                logger,
                "%s: %s.%s failed; what it was told about has happened and stays",
                error,
                *(self.uid, type(self).__name__, method),
            )

    def dispatch(
        self, generation: str, instances: Iterable[Instance], tasks: Mapping[str, Task]
    ) -> None:
        """Hand scheduled instances to their runners, for the attempts that they stand at.

        A failure is logged: the sweep repeats the dispatch of whatever nobody claims.
        """
        for instance in instances:
            task, name = tasks.get(instance.task), instance.name
            message = Message(self.app.name, self.uid, generation, name, instance.attempt)
            try:
                using = (task.using if task else None) or self.default_task_runner_name
                self.app.runner(using).dispatch(self, message, task)
            except TriggersError as error:  # such as a broker that is down: no bug to be traced
                logger.error(
                    "%s: %s could not be dispatched; the sweep will try again: %s",
                    *(self.uid, name, message_of(error)),
                )
            except Exception as error:
                log_exception(
                    logger,
                    "%s: %s could not be dispatched; the sweep will try again",
                    error,
                    *(self.uid, name),
                )

    def _instance(self, record: Instance) -> TaskInstance:
        return TaskInstance(self.storage.store, self.uid, record)


def _accepted(function: Callable[..., Any], given: int) -> int:
    """How many of the given arguments a function takes by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return given
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return given
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(given, sum(each.kind in positional for each in parameters))


def _encoded(kwargs: Kwargs | None, limits: Limits) -> bytes | None:
    """Kwargs as the application gave them; None when only a `pre_fire` hook makes data of them."""
    try:
        return payloads.encode(kwargs, limits)
    except InvalidInput:
        return None


def _name(instance: InstanceOrName) -> str:
    return instance.name if isinstance(instance, TaskInstance) else str(instance)


__all__ = ["FireResult", "TriggerManager", "trigger_managers"]
