"""`TriggerManager`: the front of a session, for applications and operators."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

from triggers_core.application import Application, default_application
from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.names import check_name
from triggers_core.engine.nesting import AfterCommit, refuse_within_hooks
from triggers_core.engine.protocol import Command, Plan
from triggers_core.engine.records import UNRESOLVED, Event, Instance, Status
from triggers_core.engine.recovery import Recovered
from triggers_core.exceptions import TriggersError, is_time_limit
from triggers_core.explain import Explanation, explain
from triggers_core.failures import log_exception, message_of
from triggers_core.methods import operations
from triggers_core.methods.awaitable import AwaitableMethods
from triggers_core.methods.operations import FireResult, InstanceOrName, Kwargs, Operation
from triggers_core.plugins.fire_contexts import Firing
from triggers_core.registries import trigger_managers
from triggers_core.running.messages import Message
from triggers_core.running.sweep import recover_session
from triggers_core.storages.driving import drive
from triggers_core.storages.session import SessionStorage, TaskInstance

logger: logging.Logger = logging.getLogger(__name__)

UNSTARTED = Status.UNSTARTED

T = TypeVar("T")
P = ParamSpec("P")


class TriggerManager(AwaitableMethods):
    """One session: fire triggers into it, configure it, look after its instances.

    In a coroutine, await the method of the same name with an ``a`` before it.

    :param storage: where the session lives.
    :param app: whose settings, plugins and runners it uses; the default application if not given.

    Example::

        manager = TriggerManager(storage_backends.get("sqlite", "applicant:42", path="triggers.db"))
        manager.fire("firstPageReceived", {"responses": {...}})
        await manager.afire("firstPageReceived", {"responses": {...}})
    """

    default_task_runner_name: ClassVar[str | None] = None
    """The key of the runner for tasks without `using`, in place of `TRIGGER_RUNNER`. Sweeps follow
    it when the class is that of `TRIGGER_MANAGER_TYPE`."""

    _outside: Self | None = None
    """Of a manager within a transaction: that of the same session outside of it."""

    actor: str = ""
    """Who acts on the session by hand; see `by`."""

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

    @property
    def outside(self) -> Self:
        """The same session outside of any transaction that `using` has joined."""
        return self._outside or self

    def by(self, who: str) -> Self:
        """The same session, in the hands of a person: whatever they do to it says so.

        `explain` tells, and so do the records: `Event.by`, `TaskInstance.acted_by` and
        `logs_resolved_by`, `SessionMetadata.configured_by` and `closed_by`. Of a session that is
        deleted, a warning in the log is all that remains.

        :param who: a name, any printable text of 1 to 200 characters.
        :raises InvalidName: it is no such text.

        Example::

            manager.by("alice").skip_failed_instance("t_mail#0")
        """
        check_name(who, "actor")
        other = copy.copy(self)
        other.actor = who
        if self._outside is not None:
            other._outside = self._outside.by(who)
        return other

    def sibling(self, uid: str) -> Self:
        """The same kind of manager for another session of the same store."""
        other = copy.copy(self)
        other.storage = type(self.storage).on(self.storage.store, uid)
        if self._outside is not None:
            other._outside = self._outside.sibling(uid)
        return other

    def using(self, connection: object) -> Self:
        """The same session within a transaction of the application's.

        What this manager changes is stored when the application commits, and with what the
        application itself has written there, or not at all; what it reads includes all of that.
        Hooks and dispatch follow the commit. If the process dies in between, the sweep of another
        one dispatches.

        :param connection: what the application has its transaction in. Which kinds there are, says
            the storage: a connection of psycopg, SQLAlchemy or Django for `postgres`.
        :raises CannotJoin: the storage cannot be part of that transaction; says why.

        A deadlock or a serialisation failure is raised as `TransactionConflict`: only the
        application can run its transaction again.

        Example::

            with psycopg.connect(conninfo) as connection:
                connection.execute("INSERT INTO orders VALUES (%s, %s)", [42, "paid"])
                get_trigger_manager("order:42").using(connection).fire("paid")
        """
        outside = self.outside
        other = copy.copy(outside)
        store = outside.storage.store.joined(connection)
        other.storage = type(self.storage).on(store, self.uid)
        other._outside = outside
        return other

    # -- firing and configuring -------------------------------------------------------------------

    def fire(
        self,
        trigger_name: str,
        trigger_kwargs: Kwargs | None = None,
        event_id: str | None = None,
        once: bool = False,
        force: bool = False,
        dry_run: bool = False,
    ) -> FireResult:
        """Record an event and schedule whatever it completes.

        :param trigger_name: any printable text of 1 to 200 characters.
        :param trigger_kwargs: its payload; see the guarantees about what it may hold.
        :param event_id: names the event: the same id again is a no-op that says so.
        :param once: a no-op when the trigger has fired before.
        :param force: allow the name of a task, which normally fires by itself.
        :param dry_run: store nothing and run nothing; only answer what would be scheduled.
            `pre_fire` hooks are not asked, for they may have effects of their own.
        :raises InvalidName, InvalidPayload, LimitExceeded: about the arguments.
        :raises TaskNameFired: `trigger_name` is a task of the session.
        :raises EventIdConflict: the id was used for another trigger or payload. What counts is the
            payload as given here, whatever `pre_fire` hooks make of it.
        :raises SessionClosed: the session accepts no more events.
        :raises FireVetoed: a plugin refused it.

        In every case of an error nothing has been stored.
        """
        plugins = self.app.plugins
        if dry_run or not plugins.has_fire_context:
            command, answer = operations.fire(
                self, trigger_name, trigger_kwargs, event_id, once, force, dry_run=dry_run
            )
            return answer(self._dry_run(command) if dry_run else self.commit(command))
        firing = Firing(trigger_name, event_id)
        with plugins.fire_contexts(self, firing):
            command, answer = operations.fire(
                self, trigger_name, trigger_kwargs, event_id, once, force, firing
            )
            firing.result = answer(self.commit(command))
        return firing.result

    def update_configuration(
        self,
        configuration: Mapping[str, Any] | Configuration,
        past: bool = False,
        dry_run: bool = False,
    ) -> Configured:
        """Add tasks to the session, or replace those of the same name.

        Everything is checked before anything is stored. The session's first configuration applies
        the events recorded before it; later ones re-evaluate the unstarted instances of the tasks
        that they replace.

        :param past: apply the recorded events to the tasks that are new, each event at its own
            time: deadlines count in it, and a hold does not end before now.
        :param dry_run: store nothing and run nothing; only answer.
        :returns: what began, runs, is held, was late or called off because of it, and what moved.
        :raises InvalidConfiguration: names the place, for example
            ``t_x.after: expected a list of trigger names, got 'go'``.

        Example::

            manager.update_configuration(
                {"t_ship": {"after": ["paid", "packed"], "run": "shop.tasks.Ship"}}
            )
        """
        if dry_run:
            return self._dry_run(operations.configure(self, configuration, past)).outcome
        return self._carry_out(operations.update_configuration, configuration, past)

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
        return self._carry_out(
            operations.replay_failed_instance, failed_instance, replacement_kwargs
        )

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
        return self._carry_out(operations.skip_failed_instance, failed_instance, cascade, result)

    def fail_instance(self, task_instance: InstanceOrName, reason: str) -> TaskInstance:
        """Fail an instance that is stuck in `scheduled` or `running`; its worker is fenced off.

        :raises WrongState: the instance is neither.
        """
        return self._carry_out(operations.fail_instance, task_instance, reason)

    def update_instance_metadata(
        self, task_instance: InstanceOrName, metadata: Kwargs
    ) -> TaskInstance:
        """Merge a mapping into an instance's metadata.

        :raises InvalidPayload: it holds something that cannot be stored.
        :raises LimitExceeded: the metadata would exceed `Limits.record_bytes`.
        """
        return self._carry_out(operations.update_instance_metadata, task_instance, metadata)

    def mark_instance_logs_resolved(self, task_instance: InstanceOrName) -> TaskInstance:
        """Note that somebody has dealt with what an instance logged."""
        return self._carry_out(operations.mark_instance_logs_resolved, task_instance)

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
        self._carry_out(operations.close_session)

    def delete_session(self) -> bool:
        """Erase the session; whether there was one. Messages about it are stale from then on."""
        refuse_within_hooks("delete", self.uid)
        there_was = self.storage.store.delete(self.uid)
        if there_was and self.actor:
            self._when_committed("_after_delete")
        return there_was

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
        self.storage.store.follow_up()
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
        while True:
            plan = storage.store.commit(storage.uid, command, self.app.rules)
            if not plan.empty:
                self._when_committed("after_commit", plan)
            if not plan.again:  # else it was only what was due before
                return plan

    def _dry_run(self, command: Command[T]) -> Plan[T]:
        """What a change would do, as the session stands now."""
        load = partial(self.storage.store.load, self.uid)
        return drive(command, self.uid, self.app.rules, load)

    def _carry_out(
        self,
        operation: Callable[Concatenate[TriggerManager, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        plugins = self.app.plugins
        if not plugins.has_act_context:
            command, answer = operation(self, *args, **kwargs)
            return answer(self.commit(command))
        act = operations.act_of(operation, args)
        with plugins.act_contexts(self, act):
            command, answer = operation(self, *args, **kwargs)
            operations.carry(act, command)
            act.result = result = answer(self.commit(command))
        return result

    def _when_committed(self, method: str, *arguments: Any) -> None:
        """Call a method of the manager outside of any transaction, once that has been committed."""
        store = self.storage.store
        call = partial(getattr(self.outside, method), *arguments)
        store.when_committed(partial(self._call_in_thread, call) if store.awaits else call)

    def after_commit(self, plan: Plan[Any]) -> None:
        """What follows a commit once it is durable: hooks in causal order, then dispatch."""
        plugins = self.app.plugins
        overridden = type(self)._post_fire is not TriggerManager._post_fire
        told = bool(plan.events) and (overridden or plugins.has_post_fire)
        if told or plugins.has_post_commit:
            try:
                with AfterCommit():
                    plugins.post_commit(self, plan)
                    if told:
                        self._tell(plan, overridden)
            except BaseException as error:
                if is_time_limit(error):  # the body's: whatever it has fired goes on
                    self._dispatch_all(plan)
                raise
        self._dispatch_all(plan)
        for note in plan.notes:
            logger.warning("%s: %s", self.uid, note)
        for change in plan.changes:
            if change.instance.due_at is not None and change.instance.status is UNSTARTED:
                self.app.runner(self.default_task_runner_name).wake()
                break

    def _dispatch_all(self, plan: Plan[Any]) -> None:
        if plan.scheduled:
            assert plan.header is not None
            self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)

    def _after_replay(self, failed: Instance, replay: Instance) -> None:
        self.app.plugins.post_replay(self, failed, replay)
        self._call("_post_replay", self._instance(failed), self._instance(replay))

    def _after_skip(self, skipped: Instance, cascade: bool) -> None:
        self.app.plugins.post_skip(self, skipped, cascade)
        self._call("_post_skip", self._instance(skipped), cascade)

    def _after_delete(self) -> None:
        logger.warning("%s: deleted by %s", self.uid, self.actor)

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
            if is_time_limit(error):
                raise
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
            if is_time_limit(error):
                raise
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
            except Exception as error:
                if is_time_limit(error):  # of the body that fires: the sweep dispatches the rest
                    raise
                if isinstance(error, TriggersError):  # such as a broker that is down: no bug
                    logger.error(
                        "%s: %s could not be dispatched; the sweep will try again: %s",
                        *(self.uid, name, message_of(error)),
                    )
                    continue
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


__all__ = ["FireResult", "TriggerManager", "trigger_managers"]
