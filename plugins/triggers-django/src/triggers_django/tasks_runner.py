"""The runner `django`: each attempt is a task of Django's, made by a worker of its backend."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from triggers_core.engine.records import Status
from triggers_core.exceptions import TaskFailure
from triggers_core.host import between_jobs
from triggers_core.runners.threads import ThreadingTaskRunner
from triggers_core.running.worker import claim, run_claimed
from triggers_django.tasks import RUNNER, applications, framework

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.running.messages import Message


class AttemptFailed(TaskFailure):
    """What Django gets to see of a failed instance: its name. The instance has all about it."""


class DjangoTaskRunner(ThreadingTaskRunner):
    """Enqueues each attempt as a task of Django's, by whatever backend `TASKS` names.

    :param backend: the alias of the backend in `TASKS`.
    :param queue_name: the queue; the backend's default one if not given.
    :param priority: from -100 to 100, if the backend has priorities.
    :param sweep: look after what crashed processes left behind, in the background of workers and
        of servers: in a thread, the only one that is left of the runner `threading`.
    :raises InvalidSetting: this Django has no tasks, and the backport is not installed.

    Example::

        TRIGGER_RUNNER = "django"
        TRIGGER_RUNNER_OPTIONS = {"queue_name": "triggers"}
    """

    key: ClassVar[str] = RUNNER
    executes_here: ClassVar[bool] = False

    def __init__(
        self,
        app: Application,
        backend: str | None = None,
        queue_name: str | None = None,
        priority: int | None = None,
        sweep: bool = True,
    ) -> None:
        framework()
        super().__init__(app, max_workers=1, sweep=sweep)
        options = {"backend": backend, "queue_name": queue_name, "priority": priority}
        self._options = {name: each for name, each in options.items() if each is not None}
        self._task: Any = None
        self._enqueueing = _Enqueueing()
        applications[app.name] = app

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self._check_fork()
        if self._task is None:
            from triggers_django.attempts import run_attempt  # checks the backend: on first use

            self._task = run_attempt.using(**self._options)
        self._enqueueing.run(self._task, message)
        self._see_to_sweep()

    def attempt(self, message: Message) -> str:
        """Make an attempt, in a worker; returns what became of it, in a word.

        :raises AttemptFailed: the instance has failed.
        """
        elsewhere = not self._enqueueing.busy
        if elsewhere:
            self.start()  # a process that works is one that sweeps
        between_jobs()
        try:
            manager = self.app.manager_for(message)
            claimed = claim(manager, message, self._holder)
            if claimed is None:
                return "stale"
            ended = run_claimed(manager, claimed, self.heartbeats, passes_on=elsewhere)
        finally:
            between_jobs()
        if ended is None:
            return "lost"
        if ended.passed_on is not None:
            return "passed on"
        if ended.instance.status in (Status.FAILED, Status.REPLAYED):
            raise AttemptFailed(f"{ended.instance.name} failed: `explain` says why")
        return ended.instance.status.value


class _Enqueueing(threading.local):
    """Enqueues one task after the other: a backend may run them at once, and they lead to more."""

    def __init__(self) -> None:
        self.busy = False
        self._waiting: deque[Message] = deque()

    def run(self, task: Any, message: Message) -> None:
        self._waiting.append(message)
        if self.busy:
            return
        self.busy = True
        try:
            while self._waiting:
                each = self._waiting.popleft()
                task.enqueue(each.app, each.uid, each.generation, each.instance, each.attempt)
        finally:
            self._waiting.clear()
            self.busy = False
