"""Conditions: what a task waits for, decided from the numbers of the events an instance took.

A storage knows nothing of conditions: it indexes the triggers that are `missing`. So a new kind
(any-of, n-of-m, a count) is a class here, a form in the parser of `configuration`, and what its
readers show of it (`explain`, `views/`), but no change to a storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Taken = Mapping[str, Sequence[int]]
"""Trigger name → numbers of the events recorded, ascending."""


class Condition(Protocol):
    """A rule over the events that an instance has recorded."""

    @property
    def triggers(self) -> frozenset[str]:
        """Every trigger that can matter to the condition."""

    def satisfied(self, seen: Taken) -> bool:
        """Whether the recorded events satisfy it."""

    def missing(self, seen: Taken) -> frozenset[str]:
        """The triggers of which one more event would be recorded."""

    def takes(self, trigger: str, seen: Taken) -> bool:
        """Whether `missing` holds the trigger."""


class AllOf:
    """Satisfied once each of the triggers has fired; the first event of each is kept.

    Example::

        AllOf(["paid", "packed"]).missing({"paid": [3]})    # frozenset({"packed"})
    """

    __slots__ = ("triggers",)

    def __init__(self, triggers: Sequence[str] | frozenset[str]) -> None:
        self.triggers: frozenset[str] = frozenset(triggers)

    def satisfied(self, seen: Taken) -> bool:
        return self.triggers <= seen.keys()

    def missing(self, seen: Taken) -> frozenset[str]:
        return self.triggers - seen.keys()

    def takes(self, trigger: str, seen: Taken) -> bool:
        return trigger in self.triggers and trigger not in seen


class Never:
    """The condition of a task without `unless`: it is never satisfied and wants nothing."""

    triggers: frozenset[str] = frozenset()

    def satisfied(self, seen: Taken) -> bool:
        return False

    def missing(self, seen: Taken) -> frozenset[str]:
        return self.triggers

    def takes(self, trigger: str, seen: Taken) -> bool:
        return False
