"""Findings: what the linter says, and how it names things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.configuration import Task
from triggers_core.texts import names

CODES: Final = (
    "never-runs",
    "cycle",
    "circle",
    "unknown-task",
    "never-passes",
    "counts-too-many",
    "holds-at-once",
    "one-event-for-two",
    "shadowed",
    "may-not-come",
    "after-and-unless",
    "unless-several",
    "unless-where",
    "otherwise-never",
    "otherwise-unheard",
    "waits-for-otherwise",
    "within-idle",
    "within-and-waiting",
    "waiting-cut",
    "every-time-once",
    "near-miss",
)
"""The kinds of findings."""

TASK_PREFIX: Final = "t_"
"""Names that begin so are tasks by convention: only a task's end fires them."""

MAX_SHOWN: Final = 8  # names in one message


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is most likely a mistake."""

    code: str
    """One of `CODES`; the plugin's name for what a plugin found."""
    tasks: tuple[str, ...]
    """The tasks that it is about."""
    message: str
    never_runs: bool = False
    """Whether these tasks can never run because of it."""


def finding(code: str, task: Task, message: str, never_runs: bool = False) -> Finding:
    """A finding about one task."""
    return Finding(code=code, tasks=(task.name,), message=message, never_runs=never_runs)


def some(triggers: Sequence[str]) -> str:
    """Names in a sentence, cut if they are many."""
    if len(triggers) <= MAX_SHOWN:
        return names(triggers)
    return f"{', '.join(map(repr, triggers[:MAX_SHOWN]))} and {len(triggers) - MAX_SHOWN:,} more"


def around(cycle: Sequence[str]) -> str:
    """The way around a cycle, for a message."""
    shown = [names([each]) for each in [*cycle, cycle[0]]]
    if len(shown) > MAX_SHOWN + 1:
        left_out = len(shown) - MAX_SHOWN
        shown = [*shown[: MAX_SHOWN - 2], f"({left_out:,} more)", *shown[-2:]]
    return " → ".join(shown)


def key(leaf: Leaf) -> str:
    """A leaf, by the name that the task has for it."""
    return names([leaf.key])
