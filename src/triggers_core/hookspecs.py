"""The hooks: what a plugin can implement, when each is called, and what an error in it does.

A plugin is a module, or an object, whose functions of these names are marked with `hookimpl`. An
implementation takes the parameters it wants, by name, in any order, and leaves out the others.
"First result" hooks stop at the first implementation that answers something else than None; the
others call every implementation. Plugins run in the order in which they are listed in
`TRIGGER_PLUGINS`; ``@hookimpl(tryfirst=True)`` and ``trylast=True`` move one implementation.

pluggy finds, checks, orders and lists implementations: ``app.plugins.manager`` is its manager. The
core calls them one by one, so that an error of one stops no other, except where a hook says so. A
wrapper (``wrapper=True``) spans all the others: it is welcome on `pre_fire` and on first-result
hooks, where pluggy then makes the call, and refused on the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from logging import Logger
from typing import TYPE_CHECKING, Any, Final

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from triggers_core.engine.additions import CommitPlan, CommitSession
    from triggers_core.engine.attempts import Retry
    from triggers_core.engine.configuration import Directive, Task
    from triggers_core.engine.plugin_options import PluginOptions
    from triggers_core.engine.protocol import Plan
    from triggers_core.engine.records import Event, Instance
    from triggers_core.manager import TriggerManager
    from triggers_core.plugins.fire_contexts import Act, Firing
    from triggers_core.plugins.pending_event import PendingEvent
    from triggers_core.storages.base import Store
    from triggers_core.storages.session import SessionStorage
    from triggers_core.tasks import TriggerTask
    from triggers_core.tasks.context import TaskContext

PROJECT: Final = "triggers"
"""The project's name for pluggy."""

hookspec: HookspecMarker = HookspecMarker(PROJECT)
"""Marks the specifications below."""

hookimpl: HookimplMarker = HookimplMarker(PROJECT)
"""Marks a plugin's implementation of a hook: ``from triggers_core import hookimpl``."""


class TriggersSpec:
    """The specification of every hook."""

    @hookspec
    def pre_fire(self, manager: TriggerManager, event: PendingEvent) -> None:
        """Look at a fire before it happens; change its kwargs, or refuse it.

        Called for fires of the application only (never for cascades, fires of bodies or additions
        of plugins), before the kwargs are validated and before anything is read or stored. A fire
        that turns out to be a duplicate has passed here as well: a repeated `event_id` is
        recognised by what the caller gave, whatever is added here.

        An error refuses the fire: it reaches the caller of `fire` unchanged, with a note that names
        the plugin; later implementations are not called, and nothing is stored. Raise `FireVetoed`
        to refuse politely.

        :param manager: the manager whose `fire` was called.
        :param event: the fire. `event.kwargs` may be replaced, everything else is read-only.

        **Example**::

            from triggers_core import hookimpl
            from triggers_core.exceptions import FireVetoed

            @hookimpl
            def pre_fire(manager, event):
                if event.trigger == "paid" and event.kwargs.get("amount", 0) <= 0:
                    raise FireVetoed("paid: the amount must be positive")
                event.kwargs = {**event.kwargs, "received_by": "shop-1"}
        """

    @hookspec
    def fire_context(
        self, manager: TriggerManager, firing: Firing
    ) -> AbstractContextManager[Any] | None:
        """Put a context manager around each fire of the application: tracing spans, timings.

        Called for fires of the application only, before `pre_fire` and anything else. The context
        managers of all plugins are entered in order, and left the other way round, when `fire` is
        about to return or to raise: what it raises is handed to `__exit__`, whose answer does not
        count. Within a transaction of the application that is before the commit.

        On entering, `firing.carrier` may be filled: a few texts (1,024 characters in all) that are
        stored with the event and with what follows from it in the same commit; whoever takes the
        event sees them, `context.event_records()` in a body. Do not block: an awaited fire on a
        connection of the event loop is spanned in that loop.

        An error, on the way in or out, and a carrier that cannot be stored are logged, and the fire
        goes on. To refuse a fire is for `pre_fire`.

        :param manager: the manager whose `fire` was called.
        :param firing: the fire; `firing.result` says on leaving what became of it.
        :returns: a context manager, what it yields is not used; None for none.

        **Example**::

            from contextlib import contextmanager
            from contextvars import ContextVar

            from triggers_core import hookimpl

            request_id = ContextVar("request_id", default="none")

            @hookimpl
            @contextmanager
            def fire_context(firing):
                firing.carrier["request_id"] = request_id.get()
                yield
                if firing.result is not None:
                    print(firing.trigger, firing.result.status)
        """

    @hookspec
    def act_context(self, manager: TriggerManager, act: Act) -> AbstractContextManager[Any] | None:
        """Put a context manager around each act: replays, skips, configurations, closes.

        An act is whatever else than a fire changes a session through its manager:
        `replay_failed_instance`, `skip_failed_instance`, `fail_instance`, `update_configuration`,
        `close_session`, `update_instance_metadata`, `mark_instance_logs_resolved`, and their
        awaitable forms. As with `fire_context`, an error on the way in or out is logged, and the
        act goes on.

        On entering, `act.carrier` may be filled. It is stored with the events of a skip (its
        cascade, `otherwise`) and of a failure by hand, and with the clone that a replay makes:
        `context.instance.record.carrier` in its body.

        :param manager: the manager whose method was called.
        :param act: which one, of what; `act.result` says on leaving what it returns.
        :returns: a context manager, what it yields is not used; None for none.

        **Example**::

            from contextlib import contextmanager

            from triggers_core import hookimpl

            @hookimpl
            @contextmanager
            def act_context(manager, act):
                yield
                print(manager.uid, act.name, act.instance)
        """

    @hookspec
    def before_commit(self, session: CommitSession, plan: CommitPlan) -> None:
        """See what a change is about to do, and add triggers to the same commit.

        Called inside the transaction of every change: fire, finish, skip, replay, abandon,
        configuration. Called again, with what was added, until no implementation adds anything
        (`Limits.additions` rounds at most), and all over again when the transaction lost a race.
        So keep it pure: decide from the arguments alone; no I/O, no clock, no memory of earlier
        calls. It must be fast, because others wait for the transaction.

        An error refuses the change, as `HookFailed` with the plugin's name. Only when an attempt
        ends is it different, because the body has run: the plugin's additions are dropped, and the
        error is logged and recorded in the instance's metadata.

        A session's configuration records which plugins implement this hook; a process without one
        of them refuses to change the session.

        :param session: the session as it will be after the commit: counts, never instances.
        :param plan: the planned events and changes; `plan.fire(trigger, kwargs)` adds a trigger.

        **Example**::

            from triggers_core import hookimpl
            from triggers_core.engine.records import Status

            @hookimpl
            def before_commit(session, plan):
                failed = sum(session.count(task, Status.FAILED) for task in session.tasks)
                if failed >= 3 and not session.has_fired("helpNeeded"):
                    plan.fire("helpNeeded", {"failed": failed})
        """

    @hookspec(firstresult=True)
    def explain_trigger(self, session: CommitSession, trigger: str) -> str | None:
        """Say what a trigger that the plugin fires waits for: a part of `manager.explain`.

        Called for triggers that a task waits for, that no task fires, and that have not fired.

        An error is logged with the plugin's name and counts as no answer.

        :param session: the session as it is: counts, never instances.
        :param trigger: the trigger's name.
        :returns: what to say about it, to go on after "which": ``comes with the third failure``;
            None for triggers of others.

        **Example**::

            from triggers_core import hookimpl
            from triggers_core.engine.records import Status

            @hookimpl
            def explain_trigger(session, trigger):
                if trigger != "helpNeeded":
                    return None
                failed = sum(session.count(task, Status.FAILED) for task in session.tasks)
                return f"comes with the third failure; there are {failed} so far"
        """

    @hookspec
    def lint_configuration(
        self, tasks: Mapping[str, Task], options: PluginOptions
    ) -> Mapping[str, str] | None:
        """Find what a configuration may say and hardly means: for ``triggers check``.

        Called with configurations that have been parsed without an error; nothing is stored.

        An error is logged with the plugin's name, and counts as no warning.

        :param tasks: the configuration, by name, in its order.
        :param options: the setting `TRIGGER_PLUGIN_OPTIONS`: plugin → its options, which
            ``options.read(plugin, Type)`` checks.
        :returns: task → what is wrong with it: a sentence that goes on after its name; None for
            nothing. The plugin's name is the warning's code, by which it can be ignored.

        **Example**::

            from triggers_core import hookimpl

            @hookimpl
            def lint_configuration(tasks):
                return {
                    name: "waits for more than five triggers. Is it two tasks?"
                    for name, task in tasks.items()
                    if len(task.listens_to) > 5
                }
        """

    @hookspec
    def post_fire(
        self, manager: TriggerManager, event: Event, scheduled: Sequence[Instance]
    ) -> None:
        """Learn that an event has happened.

        Called once for each recorded event (cascades, fires of bodies and additions of plugins
        too), after the commit and before anything is dispatched: implementations see events in
        causal order. Not called for duplicates. After a crash between commit and call it is not
        made up for: what must not be lost belongs in `before_commit` or in a task.

        An error is logged with the plugin's name, secrets masked. It neither undoes nor hides the
        fire, and stops no other implementation, whatever it is. (A `SystemExit` in the main thread,
        where signal handlers raise it, goes on once all have been called.)

        :param manager: the manager that made the commit.
        :param event: the event as recorded. Read it, do not change it.
        :param scheduled: the instances that this event completed, in order.

        **Example**::

            import logging

            from triggers_core import hookimpl

            @hookimpl
            def post_fire(manager, event, scheduled):
                names = [instance.name for instance in scheduled]
                logging.info("%s: %s scheduled %s", manager.uid, event.trigger, names)
        """

    @hookspec
    def post_replay(self, manager: TriggerManager, instance: Instance, replay: Instance) -> None:
        """Learn that somebody replayed a failed instance by hand.

        Called after the commit. Not called for retries, which are replays without anybody's hand;
        `post_commit` sees those.

        An error is logged with the plugin's name and changes nothing.

        :param manager: the manager that made the commit.
        :param instance: the failed instance, now `replayed`.
        :param replay: its clone, now `scheduled`.

        **Example**::

            import logging

            from triggers_core import hookimpl

            @hookimpl
            def post_replay(manager, instance, replay):
                logging.info("%s: %s runs again as %s", manager.uid, instance.name, replay.name)
        """

    @hookspec
    def post_skip(self, manager: TriggerManager, instance: Instance, cascade: bool) -> None:
        """Learn that somebody skipped a failed instance by hand.

        Called after the commit. Not called when a body skips itself; `post_commit` sees that.

        An error is logged with the plugin's name and changes nothing.

        :param manager: the manager that made the commit.
        :param instance: the instance, now `skipped`.
        :param cascade: whether its task's name was fired, as if it had finished.

        **Example**::

            import logging

            from triggers_core import hookimpl

            @hookimpl
            def post_skip(manager, instance, cascade):
                if not cascade:
                    logging.warning("%s: nothing follows %s", manager.uid, instance.name)
        """

    @hookspec
    def post_commit(self, manager: TriggerManager, changes: Plan[Any]) -> None:
        """Learn what one commit did: for metrics and tracing.

        Called once for each commit, after it and before `post_fire`.

        An error is logged with the plugin's name and changes nothing.

        :param manager: the manager that made the commit.
        :param changes: the plan as committed: `events`, `changes` (`.instance`, and the status
            `.before` it) and the names of the instances in `scheduled`. Read it, do not change it.

        **Example**::

            from collections import Counter

            from triggers_core import hookimpl

            ended = Counter()

            @hookimpl
            def post_commit(manager, changes):
                for change in changes.changes:
                    if change.instance.status is not change.before:
                        ended[change.instance.task, change.instance.status] += 1
        """

    @hookspec(firstresult=True)
    def resolve_task(self, run: str, using: str | None) -> type[TriggerTask] | None:
        """Find the task class for the `run` of a configuration.

        Called when a configuration is updated, in processes that run tasks themselves, and when an
        attempt begins. Without an answer the core looks among the classes defined in the process.

        An error reaches the caller with a note that names the plugin: it refuses the
        configuration, or fails the attempt.

        :param run: the name, as configured.
        :param using: the key of the runner, as configured; None is the default one.
        :returns: a subclass of `TriggerTask`; None to leave it to others.

        **Example**::

            from triggers_core import TriggerTask, hookimpl

            class Nothing(TriggerTask):
                name = "builtin.nothing"

                def _run(self, context):
                    return None

            @hookimpl
            def resolve_task(run):
                return Nothing if run == "nothing" else None
        """

    @hookspec(firstresult=True)
    def storage_load(
        self, backend: str, uid: str, options: Mapping[str, Any]
    ) -> SessionStorage | None:
        """Provide the storage of a session, in place of the one that the settings name.

        Called whenever a manager is built from settings. Without an answer the core takes the
        class that `storage_backends` has for `backend`.

        An error reaches the caller with a note that names the plugin.

        :param backend: the setting `TRIGGER_STORAGE_TYPE`.
        :param uid: the session's uid.
        :param options: the setting `TRIGGER_STORAGE_OPTIONS`, read-only.
        :returns: the session's storage; None to leave it to others.

        **Example**::

            from triggers_core import hookimpl
            from triggers_core.storages import storage_backends

            @hookimpl
            def storage_load(backend, uid, options):
                if backend != "sqlite":
                    return None
                tenant = uid.partition(":")[0]
                return storage_backends.get("sqlite", uid, path=f"{tenant}.db")
        """

    @hookspec
    def stores_to_sweep(
        self, backend: str, options: Mapping[str, Any]
    ) -> Iterable[SessionStorage | Store] | None:
        """Name the stores that `storage_load` answers with, so that all of them are swept.

        Called now and then by the background sweep, and by an application's `recover` and `prune`.
        Stores that a manager of the process uses are known without it; those that a crashed process
        left behind, or that only web processes use, are not.

        An error is logged with the plugin's name; the other stores are swept.

        :param backend: the setting `TRIGGER_STORAGE_TYPE`.
        :param options: the setting `TRIGGER_STORAGE_OPTIONS`, read-only.
        :returns: stores, or any session of each; None for none.

        **Example**::

            from pathlib import Path

            from triggers_core import hookimpl
            from triggers_core.storages import storage_backends

            @hookimpl
            def stores_to_sweep(backend, options):
                if backend != "sqlite":
                    return None
                return [
                    storage_backends.get("sqlite", "any", path=str(path))
                    for path in Path().glob("*.db")
                ]
        """

    @hookspec(firstresult=True)
    def task_failed(self, context: TaskContext, error: BaseException) -> Retry | None:
        """Decide whether a failed attempt is made again.

        Called when a body raised, before the failure is committed; not when the body itself asked
        for a retry or a skip. The first answer counts.

        An error is logged with the plugin's name and counts as no answer: the failure itself is
        recorded in any case.

        :param context: the attempt: `context.task`, `context.retries`, `context.instance`.
        :param error: what the body raised.
        :returns: `Retry(cooldown=seconds)` to replay it after that time; None to leave it to
            others, and finally as failed.

        **Example**::

            from triggers_core import hookimpl
            from triggers_core.engine.attempts import Retry

            @hookimpl
            def task_failed(context, error):
                if isinstance(error, ConnectionError) and context.retries < 5:
                    return Retry(cooldown=10.0 * 2**context.retries)
                return None
        """

    @hookspec(firstresult=True)
    def get_logger_context(
        self, context: TaskContext, logger: Logger | None, extra: Mapping[str, Any]
    ) -> AbstractContextManager[Any] | None:
        """Provide the logger of a body.

        Called by `context.get_logger_context()`. Without an answer the core provides a logger of
        the standard library that adds session, task, instance and attempt.

        An error is logged with the plugin's name and counts as no answer: a body does not fail
        because of its logger.

        :param context: the attempt.
        :param logger: the logger that the body wants to log through; None for the default.
        :param extra: what every line should carry besides the attempt's own fields.
        :returns: a context manager that yields the logger; None to leave it to others.

        **Example**::

            import logging
            from contextlib import contextmanager

            from triggers_core import hookimpl

            @hookimpl
            @contextmanager
            def get_logger_context(context, logger, extra):
                yield logging.LoggerAdapter(
                    logger or logging.getLogger("jobs"),
                    {**extra, "instance": context.instance.name},
                )
        """

    @hookspec
    def body_context(self, context: TaskContext) -> AbstractContextManager[Any] | None:
        """Put a context manager around each body: connections, tracing spans, context variables.

        Called in the thread (process, greenlet) that runs the body, right before it, on every
        runner. The context managers of all plugins are entered in order, and left the other way
        round: the first plugin's is the outermost. What the body raised, to be skipped or retried
        too, is handed to `__exit__`, whose answer does not count: nothing that the body raised is
        swallowed. They are left before the outcome is stored.

        An error on the way in, or an answer that is no context manager, fails the attempt, with a
        note that names the plugin: the body is not run, and what was entered is left. An error on
        the way out is logged, and changes nothing about the outcome.

        :param context: the attempt.
        :returns: a context manager, what it yields is not used; None for none.

        **Example**::

            from contextlib import closing

            from triggers_core import hookimpl

            class Connection:
                def close(self):
                    print("given back to the pool")

            @hookimpl
            def body_context(context):
                return closing(Connection())
        """

    @hookspec
    def declare_directives(self) -> Mapping[str, Any] | Sequence[Directive] | None:
        """Name the directives that the plugin owns, so that task configurations may use them.

        Called once, before the first configuration is checked. A value that does not fit the type
        is refused by `update_configuration`, with its place. The plugin finds it in
        `task.directives`. A configuration records the plugins whose directives it uses; a process
        without one of them refuses to change the session.

        An error, a directive of the core, and one that another plugin owns too are errors that
        name the plugins: no configuration can be updated.

        :returns: name → type (anything that `msgspec.convert` can check), or `Directive` objects.

        **Example**::

            import msgspec

            from triggers_core import hookimpl

            class Alarm(msgspec.Struct, forbid_unknown_fields=True):
                to: str
                after_failures: int = 1

            @hookimpl
            def declare_directives():
                return {"alarm": Alarm}
        """
