"""Rooms: in which own leaves an unstarted instance would still take an event."""

from __future__ import annotations

from typing import Final

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.records import Instance
from triggers_core.engine.rule import Rule

_NONE: Final[frozenset[str]] = frozenset()


def has_room(rule: Rule, leaf: Leaf, instance: Instance) -> bool:
    """Whether an unstarted instance would take an event in an own leaf.

    A required leaf has room while nothing is `taken` in it, one of `unless` while nothing is
    `noted`, one that is both while neither is. The leaves of `andEvery` have room for one event
    together. A replay takes nothing in required leaves: it keeps what its parent had.
    """
    if not leaf.required:
        return leaf.key not in instance.noted
    if instance.parent:
        return False
    together = rule.every if leaf.every else (leaf,)
    return not any(each.key in instance.taken or each.key in instance.noted for each in together)


class Rooms:
    """Called with an instance: the triggers of the own leaves in which it has room.

    What `has_room` says of each, in one go.

    Example::

        Rooms(task.rule)(instance)  # frozenset({"paid"})
    """

    __slots__ = ("_own", "_required", "_rule", "_simple", "_unless")

    def __init__(self, rule: Rule) -> None:
        own = [leaf for leaf in rule.leaves.values() if leaf.own]
        self._required = frozenset(leaf.key for leaf in own if leaf.required)
        self._unless = frozenset(leaf.key for leaf in own if leaf.unless)
        # Then keys are triggers, and each leaf stands for itself.
        self._simple: Final = (
            all(leaf.key == leaf.trigger for leaf in own)
            and len(rule.every) < 2
            and not self._required & self._unless
        )
        self._rule, self._own = rule, own

    def __call__(self, instance: Instance) -> frozenset[str]:
        if self._simple:
            required = _NONE if instance.parent else self._required.difference(instance.taken)
            if self._unless:
                return required | self._unless.difference(instance.noted)
            return required
        rule = self._rule
        return frozenset(leaf.trigger for leaf in self._own if has_room(rule, leaf, instance))
