"""Rules: what a task's configuration says, compiled: its leaves, its trees, its times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from triggers_core.engine.conditions import Group, Leaf, Reference


class Rule:
    """One task, ready to decide with. Durations are whole microseconds.

    :ivar leaves: by key, in the order in which they are written: `after`, `andEvery`, `unless`.
    :ivar required: all of `after`, and `andEvery`.
    :ivar unless: what calls an instance off; None when nothing does.
    :ivar every: the leaves of `andEvery`, which have room for one event together.
    :ivar waiting: how long to hold back once the condition holds, `at_most` how long altogether;
        None: not at all.
    :ivar until: which event says until when to hold back.
    :ivar within: how long the condition may take; `within_of`: counted from which leaf's event.
    :ivar otherwise: why (`conditions.REASONS`) → the trigger to fire.
    :ivar features: the names of the language's words that it uses.
    """

    def __init__(
        self,
        leaves: Mapping[str, Leaf],
        required: Group,
        unless: Group | None = None,
        *,
        every_time: bool = False,
        waiting: int | None = None,
        at_most: int | None = None,
        until: Reference | None = None,
        within: int | None = None,
        within_of: str | None = None,
        otherwise: Mapping[str, str] | None = None,
        features: frozenset[str] = frozenset(),
    ) -> None:
        self.leaves: dict[str, Leaf] = dict(leaves)
        self.required: Group = required
        self.unless: Group | None = unless
        self.every: tuple[Leaf, ...] = tuple(each for each in leaves.values() if each.every)
        self.every_time: bool = every_time
        self.waiting: int | None = waiting
        self.at_most: int | None = at_most
        self.until: Reference | None = until
        self.within: int | None = within
        self.within_of: str | None = within_of
        self.otherwise: dict[str, str] = dict(otherwise or {})
        self.features: frozenset[str] = features

    @cached_property
    def triggers(self) -> frozenset[str]:
        """Every trigger that can change an instance of the task."""
        return frozenset(leaf.trigger for leaf in self.leaves.values())

    @cached_property
    def by_trigger(self) -> dict[str, tuple[Leaf, ...]]:
        """Trigger → its leaves."""
        found: dict[str, list[Leaf]] = {}
        for leaf in self.leaves.values():
            found.setdefault(leaf.trigger, []).append(leaf)
        return {trigger: tuple(leaves) for trigger, leaves in found.items()}

    @cached_property
    def shared(self) -> tuple[Leaf, ...]:
        """The leaves that are read off the session's records."""
        return tuple(leaf for leaf in self.leaves.values() if not leaf.own)

    @cached_property
    def counted(self) -> tuple[Leaf, ...]:
        """The leaves whose count an event names."""
        return tuple(x for x in self.leaves.values() if isinstance(x.count, Reference))

    @cached_property
    def selective(self) -> bool:
        """Whether any leaf looks at kwargs."""
        return any(leaf.where is not None for leaf in self.leaves.values())

    @cached_property
    def counts_time(self) -> bool:
        """Whether it counts time from the first event that an instance takes itself."""
        return self.at_most is not None or (self.within is not None and self.within_of is None)

    @cached_property
    def has_facts(self) -> bool:
        """Whether instances note times or values of the events in their own leaves."""
        return bool(
            self.counts_time
            or self.waiting is not None
            or self.within
            or self.until
            or self.counted
        )

    @cached_property
    def needs_events(self) -> bool:
        """Whether a new instance has to know more of earlier events than their numbers."""
        return self.has_facts or (len(self.every) > 1 and any(leaf.where for leaf in self.every))

    @cached_property
    def plain(self) -> bool:
        """Whether it says no more than all of `after`, `andEvery`, unless all of `unless`."""
        return not self.features
