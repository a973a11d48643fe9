"""Start of a worker: checks of its settings, a line in its log, registration of its tasks.

One that takes messages and ends each in an error is worse than one that does not start: the
messages are used up, and those of other workers with them.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.app.trace import build_tracer

from triggers_celery.adapter import register_tasks
from triggers_celery.content_check import check_content
from triggers_celery.options import KEY
from triggers_core.exceptions import StorageError
from triggers_core.failures import message_of
from triggers_core.registries import task_runners, trigger_managers

if TYPE_CHECKING:
    from triggers_celery.integration import Integration
    from triggers_core.application import Application

logger = logging.getLogger(__name__)


def keep_current_folder() -> None:
    """Let modules of the current folder be imported for as long as the command `celery` runs.

    It takes that folder off the path once the app is imported; settings and `TRIGGER_IMPORTS` are
    read later. Last on the path: nothing that is installed gets hidden by it. Under any other
    command, and where the app is embedded, the path is left alone.
    """
    command = sys.modules.get("celery.bin.celery")
    if command is None:
        return
    from click import get_current_context

    context = get_current_context(silent=True)
    if context is None or context.find_root().command is not command.celery:
        return
    # The command has put the folder first, and takes that entry off again: look at the others.
    folder = os.getcwd()
    if folder not in sys.path[1:] and "" not in sys.path:
        sys.path.append(folder)


class StartStep(bootsteps.Step):  # type: ignore[misc]
    """Part of each worker: the checks at its start. Errors here stop the worker, as they should."""

    name = "triggers start"

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        start_worker(worker.app.triggers, worker.hostname)


def start_worker(integration: Integration, node: str) -> None:
    """Called in a worker's main process at its start; what it raises ends the worker.

    :param node: the worker's name.
    """
    integration.node = node
    keep_current_folder()
    check_content(integration.celery_app)
    for application in integration.applications:
        check_settings(integration, application)
    register_tasks(integration)
    for application in integration.applications:
        log_setup(application, node)


def start_process(integration: Integration, node: str | None) -> None:
    """Called in each child of a prefork worker.

    :param node: the worker's name; older Celery does not tell it.
    """
    celery_app = integration.celery_app
    integration.node = node or integration.node
    for application in integration.applications:
        application.import_tasks()
    register_tasks(integration)
    for name, task in celery_app.tasks.items():
        if task.__trace__ is None:  # registered just now: the child was not forked but spawned
            task.__trace__ = build_tracer(
                name, task, celery_app.loader, integration.node, app=celery_app
            )


def check_settings(integration: Integration, application: Application) -> None:
    """Check whatever would end each message in an error, if this worker lacked it.

    :raises InvalidInput: a setting or an option is impossible; names it.
    :raises UnknownKey: there is no such storage, runner or manager.
    """
    application.import_tasks()
    _ = application.rules, application.storage_class, integration.options(application)
    trigger_managers.get_class(application.settings.TRIGGER_MANAGER_TYPE)
    task_runners.get_class(application.settings.TRIGGER_RUNNER)
    application.runner()


def log_setup(application: Application, node: str) -> None:
    """Log with what an application works here, and warn about what looks like a mistake."""
    settings = application.settings
    manager_class = trigger_managers.get_class(settings.TRIGGER_MANAGER_TYPE)
    logger.info(
        "%r in %s: sessions in %s; runner %s; manager %s (%s.%s); plugins: %s",
        application,
        node,
        _place(application),
        settings.TRIGGER_RUNNER,
        settings.TRIGGER_MANAGER_TYPE,
        manager_class.__module__,
        manager_class.__qualname__,
        ", ".join(application.rules.plugins) or "none",
    )
    if settings.TRIGGER_RUNNER != KEY:
        logger.warning(
            "%r: TRIGGER_RUNNER is %r in this worker: what follows from the tasks that it runs is"
            " not sent to Celery. Set TRIGGER_RUNNER = 'celery' where workers start, too",
            application,
            settings.TRIGGER_RUNNER,
        )


def _place(application: Application) -> str:
    """Where the sessions are; a store that cannot be reached now may be reached later."""
    try:
        store = application.store
        place = store.place
        store.next_due()
    except (StorageError, OSError) as error:
        logger.warning(
            "%r: its sessions cannot be reached at the moment: %s: %s. The worker starts: messages"
            " that come meanwhile are sent again later",
            application,
            type(error).__name__,
            message_of(error),
        )
        return "a storage that cannot be reached"
    return place
