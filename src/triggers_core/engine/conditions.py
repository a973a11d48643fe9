"""Conditions: what a task waits for, as a tree of leaves over the events on record. Pure data.

A condition never looks at events itself: it is asked with the keys of the leaves that hold (of an
instance, `triggers_core.engine.standing` knows them). Its readers (`explain`, `views/`, plugins)
take from it what they show: `necessary`, `missing`, `written`, `edges`. A storage knows nothing of
conditions.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Protocol

from triggers_core.engine.where import Where

Keep = Literal["first", "latest", "all", "count"]

LATE: Final = "late"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
CALLED_OFF: Final = "calledOff"
REASONS: Final = (LATE, FAILED, SKIPPED, CALLED_OFF)
"""Why an instance did not come to a success, as `otherwise` and `Instance.why` name it."""


class Reference(NamedTuple):
    """A value that an event names: the key of its leaf, and a path into its kwargs."""

    key: str
    path: str

    def __str__(self) -> str:
        return f"{self.key}.{self.path}"


class Missing(NamedTuple):
    """What a condition still lacks: so many of these, of which each is a leaf or the like again."""

    least: int
    of: tuple[Missing | Leaf, ...]

    @property
    def leaves(self) -> Iterator[Leaf]:
        """The leaves that do not hold, each once, in order."""
        seen: dict[str, Leaf] = {}
        for each in self.of:
            for leaf in (each,) if isinstance(each, Leaf) else each.leaves:
                seen.setdefault(leaf.key, leaf)
        return iter(seen.values())

    @property
    def triggers(self) -> list[str]:
        """Their triggers, each once, in order."""
        return list(dict.fromkeys(leaf.trigger for leaf in self.leaves))


class Edge(NamedTuple):
    """One line of a condition's drawing: from a leaf or a group of it to the group above."""

    source: Condition
    target: Group


class Condition(Protocol):
    """A rule over leaves: a `Leaf` or a `Group`."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Its leaves, each once, in the order in which they are written."""

    @property
    def triggers(self) -> frozenset[str]:
        """Every trigger that can matter to it."""

    @property
    def necessary(self) -> frozenset[str]:
        """The triggers that must all have fired once it holds."""

    def holds(self, holding: Container[str]) -> bool:
        """Whether it holds when the leaves of these keys do."""

    def missing(self, holding: Container[str]) -> Missing | Leaf | None:
        """What it lacks then; None when it holds."""

    @property
    def written(self) -> Any:
        """Its plain form, as a configuration has it."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The lines of its drawing."""


class Leaf:
    """Events of one trigger, or those of them that pass `where`.

    *Own* leaves keep one event in each instance, the first that it meets; the others are *shared*:
    they are read off the session's record.

    :ivar key: its name in the task: the body gets the kwargs under it.
    :ivar where: the tests of its events' kwargs; None when it has none.
    :ivar count: how many events it takes, or which event says so; None when it is not counted.
    :ivar keep: ``first``, ``latest``, ``all`` or ``count``.
    :ivar required: whether it stands in `after` or `andEvery`; `unless`, `every`: likewise.
    :ivar record: the address of the session's record of it, which leaves of any task share that
        have the same trigger and tests; empty when it needs none.
    """

    __slots__ = (
        "count",
        "every",
        "keep",
        "key",
        "record",
        "required",
        "trigger",
        "triggers",
        "unless",
        "where",
    )

    def __init__(self, key: str, trigger: str, where: Where | None = None) -> None:
        self.key: str = key
        self.trigger: str = trigger
        self.where: Where | None = where
        self.count: int | Reference | None = None
        self.keep: Keep = "first"
        self.required: bool = False
        self.unless: bool = False
        self.every: bool = False
        self.record: str = ""
        self.triggers: frozenset[str] = frozenset((trigger,))

    def __repr__(self) -> str:
        return f"<leaf {self.key!r}>"

    @property
    def own(self) -> bool:
        """Whether each instance keeps its event, the first that it meets."""
        return self.keep == "first"

    @property
    def one(self) -> bool:
        """Whether it is about one event: the first or the latest."""
        return self.keep == "first" or self.keep == "latest"

    def same(self, other: Leaf) -> bool:
        """Whether the two are about the same events, whatever their key or role."""
        if self.trigger != other.trigger:
            return False
        if self.where is None or other.where is None:
            return self.where is other.where
        return self.where.canonical == other.where.canonical

    # -- as a condition -----------------------------------------------------------------------

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return (self,)

    @property
    def necessary(self) -> frozenset[str]:
        # A count that an event names may be 0.
        return frozenset() if isinstance(self.count, Reference) else self.triggers

    def holds(self, holding: Container[str]) -> bool:
        return self.key in holding

    def missing(self, holding: Container[str]) -> Missing | Leaf | None:
        return None if self.key in holding else self

    @property
    def plain(self) -> Any:
        """The leaf alone, without its count."""
        if self.where is None and self.key == self.trigger:
            return self.trigger
        written: dict[str, Any] = {"trigger": self.trigger}
        if self.where is not None:
            written["where"] = self.where.written
        if self.key != self.trigger:
            written["as"] = self.key
        return written

    @property
    def written(self) -> Any:
        if self.count is None:
            return self.plain
        count = self.count if isinstance(self.count, int) else str(self.count)
        return {"atLeast": count, "of": self.plain}

    @property
    def edges(self) -> tuple[Edge, ...]:
        return ()


class Group:
    """So many of its members hold: all of them, any of them, or at least some number.

    Example::

        Group(1, (paid, invoiced)).holds({"paid"})    # True: any of
    """

    def __init__(self, least: int, members: tuple[Leaf | Group, ...]) -> None:
        self.least: int = least
        self.members: tuple[Leaf | Group, ...] = members
        self._keys = frozenset(each.key for each in members if isinstance(each, Leaf))
        self._all_of_leaves = least == len(members) == len(self._keys)

    def __repr__(self) -> str:
        return f"<{self.least} of {list(self.members)!r}>"

    @property
    def all(self) -> bool:
        """Whether all members have to hold."""
        return self.least == len(self.members)

    @property
    def any(self) -> bool:
        """Whether one of several members is enough."""
        return self.least == 1 and len(self.members) > 1

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        found = {leaf.key: leaf for member in self.members for leaf in member.leaves}
        return tuple(found.values())

    @cached_property
    def triggers(self) -> frozenset[str]:
        return frozenset(leaf.trigger for leaf in self.leaves)

    @cached_property
    def necessary(self) -> frozenset[str]:
        # Whatever would leave fewer than `least` members standing, if it had never fired.
        return frozenset(
            trigger
            for trigger in self.triggers
            if sum(trigger not in member.necessary for member in self.members) < self.least
        )

    def holds(self, holding: Container[str]) -> bool:
        if self._all_of_leaves:
            for key in self._keys:  # noqa: SIM110 - a generator takes three times as long
                if key not in holding:
                    return False
            return True
        return sum(member.holds(holding) for member in self.members) >= self.least

    def missing(self, holding: Container[str]) -> Missing | None:
        if self.holds(holding):
            return None
        lacking = [member.missing(holding) for member in self.members]
        found = tuple(each for each in lacking if each is not None)
        return Missing(self.least - (len(self.members) - len(found)), found)

    @property
    def written(self) -> Any:
        members = [member.written for member in self.members]
        if self.all:
            return members
        return {"anyOf": members} if self.least == 1 else {"atLeast": self.least, "of": members}

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        own = tuple(Edge(member, self) for member in self.members)
        return own + tuple(edge for member in self.members for edge in member.edges)
