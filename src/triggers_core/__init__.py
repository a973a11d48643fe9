"""Triggers: run a task once a combination of events has happened.

In any order, on any server, seconds or months apart.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers_core.application import (
        Application,
        aget_trigger_manager,
        configure,
        get_trigger_manager,
        prune,
    )
    from triggers_core.engine.records import Status
    from triggers_core.exceptions import TriggersError, with_context
    from triggers_core.hookspecs import hookimpl
    from triggers_core.limits import Limits
    from triggers_core.manager import FireResult, TriggerManager
    from triggers_core.tasks import TriggerTask, trigger_task
    from triggers_core.tasks.context import TaskContext

__version__ = "0.2.0"

_HOMES = {
    "Application": "application",
    "FireResult": "manager",
    "Limits": "limits",
    "Status": "engine.records",
    "TaskContext": "tasks.context",
    "TriggerManager": "manager",
    "TriggerTask": "tasks",
    "TriggersError": "exceptions",
    "aget_trigger_manager": "application",
    "configure": "application",
    "get_trigger_manager": "application",
    "hookimpl": "hookspecs",
    "prune": "application",
    "trigger_task": "tasks",
    "with_context": "exceptions",
}

__all__ = [
    "Application",
    "FireResult",
    "Limits",
    "Status",
    "TaskContext",
    "TriggerManager",
    "TriggerTask",
    "TriggersError",
    "__version__",
    "aget_trigger_manager",
    "configure",
    "get_trigger_manager",
    "hookimpl",
    "prune",
    "trigger_task",
    "with_context",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a command line that only prints its help should not wait for all of it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"triggers_core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
