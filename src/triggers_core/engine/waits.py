"""Waits: the keys under which storages index an unstarted instance, and the spans of its events.

A storage keeps, for each session, an ordered set of (key, instance). A key is a trigger, or a
*moment key*: a text that sorts by time, and which no trigger's name can be.
"""

from __future__ import annotations

from typing import Final

from triggers_core.engine.configuration import Task
from triggers_core.engine.records import Instance, Status

_MOMENT: Final = "\1"  # no name holds a control character
NO_KEYS: Final[frozenset[str]] = frozenset()

BEFORE_MOMENTS: Final = _MOMENT
AFTER_MOMENTS: Final = "\2"
"""Between these two, as texts, lie all moment keys, and nothing else."""


def moment_key(at: float) -> str:
    """The key of an instance that falls due; sorts by time, to the microsecond.

    :param at: seconds since 1970; what lies before is due at once.
    """
    return f"{_MOMENT}{max(0, round(at * 1_000_000)):017d}"


def moment_of(key: str) -> float:
    """The moment that a key stands for: the inverse of `moment_key`."""
    return int(key[1:]) / 1_000_000


def is_moment(key: str) -> bool:
    """Whether a key is of a moment, and no trigger."""
    return key[:1] == _MOMENT


def wait_keys(task: Task | None, instance: Instance) -> frozenset[str]:
    """Every key under which an instance is indexed, as it is stored; none unless it is unstarted.

    :param task: as the session has it now; None when it has it no more.
    """
    if instance.status is not Status.UNSTARTED or task is None:
        return NO_KEYS
    keys = task.open_triggers(instance)
    if instance.watched:
        keys = keys.union(instance.watched)
    if instance.due_at is not None:
        keys = keys | {moment_key(instance.due_at)}
    return keys


def waits_for(task: Task, instance: Instance, trigger: str) -> bool:
    """Whether an unstarted instance is indexed under a trigger, so that a fire of it sees it."""
    return trigger in instance.watched or trigger in task.open_triggers(instance)


def event_spans(instance: Instance) -> list[tuple[int, int]]:
    """The numbers of the events that an instance has taken: first and last of each run.

    What lies within is to be loaded; whoever reads an extent passes over what is not of its leaf.
    """
    found = [(number, number) for taken in instance.taken.values() for number in taken]
    for extent in instance.extents.values():
        if extent.amount and not extent.unless:
            found.append((extent.first, extent.last))
    if len(found) < 2:
        return found
    found.sort()
    spans = [found[0]]
    for first, last in found:
        before, end = spans[-1]
        if first > end + 1:
            spans.append((first, last))
        elif last > end:
            spans[-1] = (before, last)
    return spans
