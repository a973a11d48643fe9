"""`setup`: connects a Celery app to the applications of Triggers that use it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery import current_app, signals

from triggers_celery.adapter import register_tasks
from triggers_celery.execution import stop_heartbeats
from triggers_celery.integration import Integration
from triggers_celery.receivers import on_beat_start, on_revoked, on_unknown_task
from triggers_celery.sweeping import SweepStep
from triggers_celery.worker_start import StartStep, keep_current_folder, start_process
from triggers_core.running.worker import close_loop

if TYPE_CHECKING:
    from triggers_core.application import Application

_lock = threading.RLock()
_celery_apps: WeakKeyDictionary[Application, Any] = WeakKeyDictionary()


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
    """What `setup` does; returns the integration.

    :raises UnknownKey: the Celery app has another application of this name.
    """
    keep_current_folder()
    with _lock:
        integration = integrate(celery_app)
        integration.add(application)
        _celery_apps[application] = celery_app
        return integration


def integrate(celery_app: Any) -> Integration:
    """What ties a Celery app to applications; without any, until some are added."""
    with _lock:
        integration: Integration | None = getattr(celery_app, "triggers", None)
        if integration is None:
            integration = Integration(celery_app)
            _extend(celery_app, integration)
            celery_app.triggers = integration
        return integration


def connected(application: Application) -> Any:
    """The Celery app that an application was connected to; None when it was not."""
    return _celery_apps.get(application)


def _extend(celery_app: Any, integration: Integration) -> None:
    # Late acknowledgement keeps what was prefetched from everybody else while a body runs.
    # A default: whatever the user has set wins.
    celery_app.add_defaults({"worker_prefetch_multiplier": 1})
    celery_app.steps["worker"].add(StartStep)
    celery_app.steps["consumer"].add(SweepStep)

    def on_finalize(**_: Any) -> None:
        register_tasks(integration)
        integration.add_beat_entry()

    celery_app.on_after_finalize.connect(on_finalize, weak=False)
    if celery_app.finalized:
        on_finalize()


def _on_process_start(sender: Any = None, **_: Any) -> None:
    celery_app = current_app._get_current_object()
    if getattr(celery_app, "triggers", None) is None:
        # Spawned, not forked: Celery has made another app here, beside the one of the module.
        for application in list(_celery_apps):
            connect(celery_app, application)
    integration = getattr(celery_app, "triggers", None)
    if integration is not None:
        start_process(integration, sender)


def _on_process_end(**_: Any) -> None:
    stop_heartbeats()
    close_loop()


signals.task_revoked.connect(on_revoked, weak=False)
signals.task_unknown.connect(on_unknown_task, weak=False)
signals.worker_process_init.connect(_on_process_start, weak=False)
signals.worker_process_shutdown.connect(_on_process_end, weak=False)
signals.worker_shutdown.connect(lambda **_: close_loop(), weak=False)
signals.beat_init.connect(on_beat_start, weak=False)
