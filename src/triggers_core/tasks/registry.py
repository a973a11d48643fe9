"""The task classes that have been defined in this process, by name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from triggers_core.exceptions import DuplicateKey

if TYPE_CHECKING:
    from triggers_core.tasks import TriggerTask

declared: dict[str, type[TriggerTask]] = {}
"""Every task class that has been defined in this process, by name."""

without_body: dict[str, type[TriggerTask]] = {}
"""Classes that have no `_run`: bases of others, or slips."""


def declare(cls: type[TriggerTask]) -> None:
    """Note a class that has a body.

    :raises DuplicateKey: another one has its name.
    """
    other = declared.get(cls.name)
    if other is not None:
        here, there = _place(cls), _place(other)
        if None not in (here, there) and here != there:
            raise DuplicateKey(
                f"two tasks have the name {cls.name!r}: {there} and {here}; give one another name"
            )
    declared[cls.name] = cls
    without_body.pop(cls.name, None)


def _place(cls: type) -> str | None:
    """Where a class is defined; None when it may well be defined anew: in a function, a REPL."""
    if "<locals>" in cls.__qualname__:
        return None
    # By file: one that is run and imported too (``python -m``) is one place.
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{cls.__qualname__} in {file}" if isinstance(file, str) else None


def why_unknown(run: str) -> str:
    """What explains that no task of a name is defined here, as the end of a message; or nothing."""
    found = without_body.get(run)
    if found is None:
        return ""
    place = f"{found.__module__}.{found.__qualname__}"
    if callable(found.__dict__.get("run")):
        return f": {place} has a run, but no _run, which is what the body of a task is called"
    return f": {place} has no _run, which is what the body of a task is called"
