"""The runner `celery`: attempts are Celery tasks, made by Celery workers."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from triggers_celery.adapter import register_tasks
from triggers_celery.connect import connect, connected
from triggers_celery.content_check import check_content
from triggers_celery.identity import GENERIC, arguments_of, id_of
from triggers_celery.integration import Integration
from triggers_celery.options import current_celery_app, import_celery_app, read_options
from triggers_core.runners.base import TaskRunner

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.running.messages import Message


class CeleryTaskRunner(TaskRunner):
    """Hands each attempt to Celery, as a task of the same name as the instance's task.

    :param options: see `triggers_celery.options.Options`; ``app="shop.celery:app"`` says where the
        Celery app is, unless `setup` was called or the process has just one.

    What cannot be sent, because the broker is down, is sent by the sweep of a worker.

    Example::

        configure(TRIGGER_RUNNER="celery", TRIGGER_RUNNER_OPTIONS={"app": "shop.celery:app"})
    """

    key: ClassVar[str] = "celery"
    executes_here: ClassVar[bool] = False

    def __init__(self, application: Application, /, **options: Any) -> None:
        super().__init__(application)
        self._options = read_options(application, options)
        self._lock = threading.Lock()
        self._integration: Integration | None = None
        self._eager = _EagerQueue()

    @property
    def integration(self) -> Integration:
        """The Celery app and what ties it to the application; found on first use.

        :raises InvalidSetting: there is no Celery app, or it reads content that can carry code.
        """
        if self._integration is None:
            with self._lock:
                if self._integration is None:
                    self._integration = self._find()
        return self._integration

    def _find(self) -> Integration:
        if self._options.app:
            celery_app = import_celery_app(self._options.app)
        else:
            celery_app = connected(self.app) or current_celery_app()
        integration = connect(celery_app, self.app)
        check_content(celery_app)
        register_tasks(integration)
        return integration

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        integration = self.integration
        name = GENERIC if task is None else task.run
        celery_app = integration.celery_app
        if celery_app.conf.task_always_eager:
            register_tasks(integration)
            adapter = celery_app.tasks.get(name) or celery_app.tasks[GENERIC]
            self._eager.run(adapter, message)
        else:
            integration.publisher.send(name, id_of(message), arguments_of(message))

    def shutdown(self) -> None:
        if self._integration is not None:
            self._integration.publisher.close()


class _EagerQueue(threading.local):
    """Runs attempts in the firing thread, one after the other: cascades queue up behind."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, Message]] = deque()
        self._busy = False

    def run(self, adapter: Any, message: Message) -> None:
        self._waiting.append((adapter, message))
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                next_adapter, next_message = self._waiting.popleft()
                next_adapter.apply(
                    arguments_of(next_message), task_id=id_of(next_message), throw=False
                )
        finally:
            self._waiting.clear()
            self._busy = False
