"""What ties a Celery app to the applications of Triggers that use it: `setup`."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from celery import bootsteps, current_app, signals
from celery.app.trace import build_tracer

from triggers_celery import adapter, worker_start
from triggers_celery.execution import stop_heartbeats
from triggers_celery.identity import GENERIC, HEADER, SWEEP, id_of, message_of
from triggers_celery.options import Options, read_options
from triggers_celery.publishing import Publisher
from triggers_celery.requests import on_revoked
from triggers_celery.sweeping import Sweeper, SweepStep
from triggers_celery.unsafe import check_content
from triggers_core import tasks as task_module
from triggers_core.exceptions import UnknownKey
from triggers_core.failures import log_exception

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.running.messages import Message

logger = logging.getLogger(__name__)

_guard = threading.RLock()
_celery_apps: WeakKeyDictionary[Application, Any] = WeakKeyDictionary()
_integrations: WeakSet[Integration] = WeakSet()


def setup(celery_app: Any, application: Application | None = None) -> None:
    """Let a Celery app run the tasks of Triggers; once more for the same pair does nothing.

    Call it where the Celery app is made. The worker then knows each `TriggerTask` as a Celery task
    of the same name, looks after what is overdue, and refuses content that can carry code.

    :param application: the default application if not given; several may share a Celery app.

    Example::

        celery_app = Celery("shop", broker="redis://localhost/0")
        setup(celery_app)
    """
    from triggers_core.application import default_application

    connect(celery_app, application or default_application)


def connect(celery_app: Any, application: Application) -> Integration:
    """What `setup` does; returns the integration."""
    worker_start.keep_current_folder()
    with _guard:
        integration: Integration | None = getattr(celery_app, "triggers", None)
        if integration is None:
            integration = Integration(celery_app)
            celery_app.triggers = integration
        integration.add(application)
        _celery_apps[application] = celery_app
        return integration


def connected(application: Application) -> Any:
    """The Celery app that an application was connected to; None when it was not."""
    return _celery_apps.get(application)


class Integration:
    """A Celery app and its applications; `celery_app.triggers`."""

    def __init__(self, celery_app: Any) -> None:
        self.celery_app = celery_app
        self.node = "eager"
        """The worker's name, in its processes."""
        self._applications: dict[str, Application] = {}
        self._publisher: Publisher | None = None
        self._sweepers: dict[tuple[int, str], Sweeper] = {}
        self._postponed: deque[Callable[[], None]] = deque()
        _integrations.add(self)
        # Late acknowledgement keeps what was prefetched from everybody else while a body runs.
        # A default: whatever the user has set wins.
        celery_app.add_defaults({"worker_prefetch_multiplier": 1})
        celery_app.steps["worker"].add(StartStep)
        celery_app.steps["consumer"].add(SweepStep)
        celery_app.on_after_finalize.connect(self._on_finalize, weak=False)
        if celery_app.finalized:
            self._on_finalize()

    # -- applications -----------------------------------------------------------------------------

    def add(self, application: Application) -> None:
        """Serve one more application."""
        other = self._applications.setdefault(application.name, application)
        if other is not application:
            raise UnknownKey(
                f"the Celery app has an application named {application.name!r} already: messages"
                " name the application, so each needs a name of its own"
            )

    @property
    def applications(self) -> list[Application]:
        """Those that it serves."""
        return list(self._applications.values())

    def application(self, name: str) -> Application:
        """The application that a message names.

        :raises UnknownKey: this worker has no such application.
        """
        try:
            return self._applications[name]
        except KeyError:
            raise UnknownKey(
                f"this worker has no application named {name!r}, only"
                f" {', '.join(map(repr, self._applications))}: call"
                " triggers_celery.setup(celery_app, application) for it"
            ) from None

    def options(self, application: Application) -> Options:
        """The options of an application's runner."""
        own = application.settings.TRIGGER_RUNNER == "celery"
        return read_options(
            application, dict(application.settings.TRIGGER_RUNNER_OPTIONS) if own else {}
        )

    @property
    def publisher(self) -> Publisher:
        """What sends messages."""
        if self._publisher is None:
            timeouts = [self.options(each).publish_timeout for each in self._applications.values()]
            self._publisher = Publisher(self.celery_app, min(timeouts))
        return self._publisher

    # -- tasks ------------------------------------------------------------------------------------

    def _on_finalize(self, **_: Any) -> None:
        self.register_tasks()
        self._add_beat_entry()

    def register_tasks(self) -> None:
        """Register a Celery task for each `TriggerTask` that is defined by now.

        :raises DuplicateKey: the Celery app has another task of such a name.
        :raises InvalidConfiguration: the `celery_options` of a task are impossible.
        """
        with _guard:
            adapter.register_generic(self)
            if SWEEP not in self.celery_app.tasks:

                def sweep() -> None:
                    """Look after what is overdue, once."""
                    self.sweep()

                self.celery_app.task(sweep, name=SWEEP, ignore_result=True, shared=False)
            for task_class in list(task_module.declared.values()):
                adapter.register(self, task_class)

    # -- the sweep --------------------------------------------------------------------------------

    def sweeps(self) -> list[Application]:
        """The applications that this worker looks after."""
        return [each for each in self._applications.values() if self.options(each).sweep]

    def sweep(self) -> None:
        """The task `triggers.sweep`: look after what is overdue, once."""
        for application in self.applications:
            self.sweeper(application).sweep(everything=True)

    def sweeper(self, application: Application) -> Sweeper:
        """What looks after an application's stores, in this process."""
        key = (os.getpid(), application.name)
        sweeper = self._sweepers.get(key)
        if sweeper is None:
            sweeper = self._sweepers[key] = Sweeper(application)
        return sweeper

    def received(self, message: Message) -> Application | None:
        """A message has come: it tells of a session, which may have a store of its own.

        :returns: the message's application.
        """
        application = self._applications.get(message.app)
        if application is not None and getattr(application.plugins, "has_storage_load", True):
            self.sweeper(application).learn(message.uid)
        return application

    def _add_beat_entry(self) -> None:
        celery_app = self.celery_app
        every = [
            each.settings.timing.sweep
            for each in self._applications.values()
            if self.options(each).beat
        ]
        if every:
            seconds = min(every)
            entry = {"task": SWEEP, "schedule": seconds, "options": {"expires": seconds}}
            celery_app.conf.beat_schedule.setdefault(SWEEP, entry)

    def postpone(self, work: Callable[[], None]) -> None:
        """Do this after the sweep that is under way: a signal handler cannot do it now."""
        self._postponed.append(work)

    def catch_up(self) -> None:
        """Do what was postponed."""
        while self._postponed:
            self._postponed.popleft()()

    # -- the life of a worker ---------------------------------------------------------------------

    def start_worker(self, node: str) -> None:
        """Called in a worker's main process at its start; what it raises ends the worker."""
        self.node = node
        worker_start.keep_current_folder()
        check_content(self.celery_app)
        for application in self._applications.values():
            worker_start.check(self, application)
        self.register_tasks()
        for application in self._applications.values():
            worker_start.tell(application, node)

    def start_process(self, node: str | None) -> None:
        """Called in each child of a prefork worker; older Celery does not say of which."""
        self.node = node or self.node
        for application in self._applications.values():
            application.import_tasks()
        self.register_tasks()
        for name, task in self.celery_app.tasks.items():
            if task.__trace__ is None:  # registered just now: the child was not forked but spawned
                task.__trace__ = build_tracer(
                    name, task, self.celery_app.loader, self.node, app=self.celery_app
                )


class StartStep(bootsteps.Step):  # type: ignore[misc]
    """Part of each worker: the checks at its start. Errors here stop the worker, as they should."""

    name = "triggers start"

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.app.triggers.start_worker(worker.hostname)


def _on_process_start(sender: Any = None, **_: Any) -> None:
    celery_app = current_app._get_current_object()
    if getattr(celery_app, "triggers", None) is None:
        # Spawned, not forked: Celery has made another app here, beside the one of the module.
        for application in {each for found in _integrations for each in found.applications}:
            connect(celery_app, application)
    integration = getattr(celery_app, "triggers", None)
    if integration is not None:
        integration.start_process(sender)


def _on_unknown_task(sender: Any, message: Any, **_: Any) -> None:
    """Celery drops messages for tasks that it does not know; ours go to the generic task.

    There the instance runs if a plugin resolves its task, and otherwise fails with a clear error.
    """
    integration = getattr(sender.app, "triggers", None)
    if integration is None or HEADER not in (message.headers or {}):
        return
    try:
        arguments, _, _ = message.payload
        queue = (message.delivery_info or {}).get("routing_key")
        found = message_of(arguments)
        integration.publisher.send(GENERIC, id_of(found), tuple(arguments), queue)
    except Exception as error:
        told = "a message for an unknown task could not be passed on; the sweep will"
        log_exception(logger, told, error)


def _on_beat(sender: Any, **_: Any) -> None:
    """Whatever has been assigned to `beat_schedule` since: the sweep stays in it."""
    integration = getattr(sender.app, "triggers", None)
    if integration is not None and SWEEP not in sender.scheduler.schedule:
        integration._add_beat_entry()
        entry = sender.app.conf.beat_schedule.get(SWEEP)
        if entry is not None:
            sender.scheduler.update_from_dict({SWEEP: entry})


signals.task_revoked.connect(on_revoked, weak=False)
signals.task_unknown.connect(_on_unknown_task, weak=False)
signals.worker_process_init.connect(_on_process_start, weak=False)
signals.worker_process_shutdown.connect(lambda **_: stop_heartbeats(), weak=False)
signals.beat_init.connect(_on_beat, weak=False)
