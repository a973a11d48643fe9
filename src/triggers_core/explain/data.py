"""Explanations as data: what `explain` returns. Moments are in seconds since 1970."""

from __future__ import annotations

from typing import Any

import msgspec

from triggers_core.engine.records import Status


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trigger that an instance has, and since when."""

    trigger: str
    event: int
    at: float
    key: str = ""
    """The key of its leaf; left out where that is the trigger."""


class FailedTest(msgspec.Struct, frozen=True, kw_only=True):
    """The test of a `where` that the latest event of the trigger failed."""

    event: int
    at: float
    path: str
    given: bool
    """Whether the event has the path."""
    found: str
    """The value there, as Python writes it: shortened, secrets masked. Empty if there is none."""
    expected: str
    """In words, such as ``'succeeded'``, ``at least 100``, ``not 'failed'``, ``given``."""

    def __str__(self) -> str:
        if not self.given:
            return f"without {self.path}"
        if self.expected == "not given":
            return f"with {self.path}, which must not be given"
        if self.expected.startswith("not "):
            return f"with {self.path} {self.found}, which it must not be"
        return f"with {self.path} {self.found}, not {self.expected}"


class Unusable(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says in place of the count, or of the moment, that it should name."""

    trigger: str
    event: int
    path: str
    given: bool
    """Whether the event has the path."""
    found: str
    """The value there, as Python writes it: shortened, secrets masked. Empty if there is none."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a condition: a leaf, or a group of parts (`of`)."""

    holds: bool
    has: int
    """How many events count; of a group: how many of its parts hold…"""
    needs: int | None
    """…and how many it takes; None while no event has named the number."""
    trigger: str = ""
    """Of a leaf, with its key if that is another, and what its `where` tests, in words."""
    key: str = ""
    where: str = ""
    keep: str = ""
    """Which events a leaf keeps: ``first``, ``latest``, ``all``, or ``count``: so many of them."""
    since: float | None = None
    """Time of the event that a leaf has; of the latest, if there are several."""
    failed: FailedTest | None = None
    unusable: Unusable | None = None
    too_late: Seen | None = None
    """An event that would have counted, and came when the instance's time was up."""
    begins_with: int = 0
    """Number of the first event that counts, where earlier ones were not recorded for this leaf."""
    of: list[Part] = []


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The trigger of `otherwise` that an instance came to."""

    trigger: str
    fired: bool
    problem: str = ""
    """Why it was dropped."""


class InstanceExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: where it stands and why."""

    name: str
    status: Status
    has: list[Seen]
    waits_for: list[str]
    unless: list[Seen]
    """The triggers of `unless` that it has noted."""
    why: str
    """A sentence."""
    holder: str = ""
    """Who runs it, as far as its worker said: ``host:pid``. Empty unless it is running."""
    condition: Part | None = None
    """What it has of its condition, and needs; None for a replay, which has that behind it."""
    called_off_by: Part | None = None
    """The same of `unless`, if the task has one."""
    deadline: float | None = None
    """When it is late, while it waits and that is known…"""
    held_until: float | None = None
    """…and until when it is held back: for `waiting`, or for a retry."""
    idle: bool = False
    """Whether it merely waits for the next time (`everyTime`): nobody has to wait for it."""
    reason: str | None = None
    """Why it came to no success: ``late``, ``calledOff``, ``failed``, ``skipped``; else None."""
    otherwise: Answer | None = None
    tree: list[str] = []
    """Its condition, line by line, while that matters and says more than names."""


class TaskExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One task: its rule, its instances and a summary."""

    name: str
    rule: str
    why: str
    waits_for: list[str]
    instances: list[InstanceExplained]
    left_out: int
    """Instances that are not described one by one."""
    condition: Part | None = None
    """What the first instance would have, and need, while there is none."""
    tree: list[str] = []
    """The same, line by line, where it says more than names."""


class Unheard(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger that has fired, though no task waits for it."""

    trigger: str
    event: int
    at: float
    did_you_mean: str | None
    """A trigger that a task waits for, and that looks like it."""
    looks_alike: bool
    """Whether the two can hardly be told apart on a screen."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Reads as text (`str`); holds the same as data."""

    uid: str
    state: str
    tasks: list[TaskExplained]
    unheard: list[Unheard] = []
    """Fired triggers that no task waits for. Those of plugins and tasks do not count; for one task,
    only those that look like one of its own."""
    notes: list[str] = []
    """What else stands under the session: sentences, of `unheard` too."""

    @property
    def data(self) -> dict[str, Any]:
        """The explanation as plain dicts and lists, for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        lines = [f"Session {self.uid}: {self.state}", *(f"  {note}" for note in self.notes)]
        for task in self.tasks:
            lines += ["", f"{task.name}: {task.rule}", f"  {task.why}"]
            lines += [f"    {line}" for line in task.tree]
            for each in task.instances:
                lines.append(f"  - {each.name}: {each.why}")
                lines += [f"      {line}" for line in each.tree]
            if task.left_out:
                lines.append(f"  - and {task.left_out:,} more")
        return "\n".join(lines)
