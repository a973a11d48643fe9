"""Ends of attempts that the worker's main process commits: what plugins get to see of them."""

from __future__ import annotations

import os
from typing import Any

from triggers_celery.external_failures import mark_timed_out
from triggers_celery.identity import process_name
from triggers_core import Application, TaskContext, TriggerTask, hookimpl
from triggers_core.runners import ManualRunner
from triggers_core.running.worker import claim
from triggers_core.settings import Settings


class Hangs(TriggerTask):
    name = "external.Hangs"

    def _run(self, context: TaskContext) -> None:
        raise NotImplementedError


def test_task_failed_gets_a_complete_context_of_an_attempt_that_timed_out() -> None:
    seen: list[Any] = []

    class Plugin:
        @hookimpl
        def task_failed(self, context: TaskContext, error: BaseException) -> None:
            seen.append((context.trigger_kwargs, context.task_class, type(error).__name__))

    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[Plugin()])
    app = Application("external", settings, runner=ManualRunner)
    manager, runner = app.manager("s"), app.runner()
    assert isinstance(runner, ManualRunner)
    params = {"elsewhere": {"a": 2}}
    task = {"after": ["go"], "withParams": params, "run": "external.Hangs"}
    manager.update_configuration({"t": task})
    manager.fire("go", {"n": 1})
    (message,) = runner.messages
    assert claim(manager, message, process_name("node")) is not None
    mark_timed_out(app, message, 3.0, "node", os.getpid())
    assert seen == [({"go": {"n": 1}, **params}, Hangs, "TimeLimitExceeded")]
    assert manager.storage["t#0"].status == "failed"
