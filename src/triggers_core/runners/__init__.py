"""Runners, by key: `task_runners.get("threading", app)`."""

from triggers_core.registries import task_runners
from triggers_core.runners.base import TaskRunner
from triggers_core.runners.manual import ManualRunner
from triggers_core.runners.threads import ThreadingTaskRunner

__all__ = ["ManualRunner", "TaskRunner", "ThreadingTaskRunner", "task_runners"]
