"""The hooks: a directive of its own, and a look at every commit for attempts that ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from triggers_core import Status, TriggerManager, hookimpl
from triggers_core.engine.protocol import Change, Plan

from triggers_example.options import NAME, Options, Seconds

logger = logging.getLogger(__name__)

DIRECTIVE = "slowAfter"


@hookimpl
def declare_directives() -> Mapping[str, Any]:
    """Let task configurations say how many seconds a task may take."""
    return {DIRECTIVE: Seconds}


@hookimpl
def post_commit(manager: TriggerManager, changes: Plan[Any]) -> None:
    """Warn about attempts that this commit ended, if they took too long."""
    ended = [change for change in changes.changes if has_ended(change)]
    if not ended:
        return  # nearly every commit: look no further
    options = manager.app.plugin_options(NAME, Options)
    for change in ended:
        instance, task = change.instance, changes.tasks.get(change.instance.task)
        limit = task.directives.get(DIRECTIVE, options.slow_after) if task else None
        took = duration(change)
        if limit is not None and took > limit:
            logger.log(
                options.level_number,
                "%s: %s took %.1f s (attempt %d), it should take %g s at most",
                manager.uid,
                instance.name,
                took,
                instance.attempt,
                limit,
            )


def has_ended(change: Change) -> bool:
    """Whether an attempt has ended here, well or not."""
    return change.before is Status.RUNNING and change.instance.ended_at is not None


def duration(change: Change) -> float:
    """Seconds from the claim of the attempt to its end, by the storage's clock."""
    instance = change.instance
    return (instance.ended_at or 0.0) - (instance.started_at or 0.0)
