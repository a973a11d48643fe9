"""Trees of conditions as a configuration writes them: read, checked, compiled to leaves and groups.

A *written* form that comes back from here is normalised: reading it again gives the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from triggers_core.engine.conditions import Group, Leaf
from triggers_core.engine.refusals import checked_name, read_words, refusal
from triggers_core.engine.where import Where, parse_where
from triggers_core.exceptions import ConditionTooLarge
from triggers_core.limits import Limits
from triggers_core.texts import nearest, short_repr

Role = Literal["after", "andEvery", "unless"]

MOST_NAMES: Final = 10_000
"""Leaves in one directive; an iterable may have no end, and lists may share their members."""

_LEAF_WORDS: Final = ("trigger", "where", "as")
_WORDS: Final = (*_LEAF_WORDS, "anyOf", "atLeast", "of")
_CURES: Final = {
    **dict.fromkeys(
        ("allOf", "all", "and", "every"), "all of several conditions are a plain list of them"
    ),
    **dict.fromkeys(("any", "or", "oneOf", "either"), "did you mean 'anyOf'?"),
    **dict.fromkeys(("noneOf", "not", "none"), "what must not happen belongs in 'unless'"),
    **dict.fromkeys(("count", "times", "min"), "did you mean 'atLeast', beside 'of'?"),
    **dict.fromkeys(("name", "event"), "did you mean 'trigger'?"),
    "keep": "which events are kept is told by 'keeping', beside 'after'",
}


class Read(NamedTuple):
    """A condition, its normalised form, and what tells whether two are equal."""

    condition: Leaf | Group
    written: Any
    shape: Hashable


class NamedCount(NamedTuple):
    """A count that an event names, to be looked up once all leaves are known."""

    place: str
    leaf: Leaf
    text: str


class Trees:
    """Reads the conditions of one task, one directive after the other.

    :ivar leaves: by key; those with one key are one leaf.
    :ivar features: what was used of the language (`features.FEATURES`).
    """

    def __init__(self, limits: Limits) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.features: set[str] = set()
        self.named_counts: list[NamedCount] = []
        self._limits = limits
        self._amount = 0

    # -- the top of a directive ---------------------------------------------------------------

    def read_top(self, place: str, value: object, role: Role) -> list[Read]:
        """Read `after` or `unless`: any iterable of conditions, or one condition.

        A name twice is one.

        :raises InvalidConfiguration: names the place and the cure.
        """
        self._amount = 0
        if isinstance(value, str) or (isinstance(value, Mapping) and _is_condition(value)):
            return [self.read(place, value, role)]
        if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
            raise refusal(
                place,
                f"expected a list of trigger names, got {short_repr(value)}: or of conditions, such"
                " as {'anyOf': ['paid', 'invoiced']}",
            )
        chosen = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        items = list(islice(chosen, MOST_NAMES + 1))
        if len(items) > MOST_NAMES:
            raise refusal(place, f"more than {MOST_NAMES:,} names: let one trigger stand for many")
        names = {item for item in items if isinstance(item, str)}
        found = []
        for position, item in enumerate(items):
            if isinstance(item, str):
                if item not in names:
                    continue
                names.remove(item)
            found.append(self.read(f"{place}[{position}]", item, role))
        _check_different(place, found)
        return found

    def read_every(self, place: str, value: object) -> Read:
        """Read `andEvery`: one leaf, or any of several.

        :raises InvalidConfiguration: names the place and the cure.
        """
        if isinstance(value, Mapping) and "anyOf" in value:
            words = self._words(place, value)
            _check_alone(place, words)
            self.features.add("any-of")
            leaves = self._members(f"{place}.anyOf", words["anyOf"], "andEvery", 1, leaves=True)
            return _group(1, leaves, {"anyOf": [each.written for each in leaves]})
        if isinstance(value, str):
            return self.read_leaf(place, value, "andEvery")
        if isinstance(value, Mapping) and ("trigger" in value or not _is_condition(value)):
            return self.read_leaf(place, value, "andEvery")
        raise refusal(
            place,
            f"expected one trigger name, got {short_repr(value)}: or one leaf, or"
            " {'anyOf': [leaf, …]}; what else must have happened belongs in 'after'",
        )

    # -- trees --------------------------------------------------------------------------------

    def read(self, place: str, value: object, role: Role, depth: int = 1) -> Read:
        """Read one condition.

        :param depth: how many levels below the directive it stands.
        :raises InvalidConfiguration: names the place and the cure.
        """
        if isinstance(value, list | tuple):
            self.features.add("lists")
            members = self._members(place, value, role, depth)
            return _group(len(members), members, [each.written for each in members])
        if not isinstance(value, Mapping) or "trigger" in value:
            return self.read_leaf(place, value, role)
        words = self._words(place, value)
        if "anyOf" in words:
            _check_alone(place, words)
            self.features.add("any-of")
            members = self._members(f"{place}.anyOf", words["anyOf"], role, depth)
            return _group(1, members, {"anyOf": [each.written for each in members]})
        if "atLeast" in words or "of" in words:
            return self._at_least(place, words, role, depth)
        raise refusal(place, f"no trigger is named in {short_repr(value)}: add 'trigger'")

    def _at_least(self, place: str, words: dict[str, Any], role: Role, depth: int) -> Read:
        if missing := {"atLeast", "of"} - words.keys():
            raise refusal(
                place,
                f"{missing.pop()!r} is missing: write {{'atLeast': 2, 'of': [condition, …]}}, or"
                " {'atLeast': 3, 'of': 'trigger'}",
            )
        if len(words) > 2:
            raise refusal(
                place,
                "'where' and 'as' belong to the trigger that is counted: write"
                " {'atLeast': 3, 'of': {'trigger': …, 'where': …}}",
            )
        self.features.add("at-least")
        least, of = words["atLeast"], words["of"]
        if not isinstance(of, list | tuple):
            if not isinstance(of, str | Mapping) or (
                isinstance(of, Mapping) and "trigger" not in of and _is_condition(of)
            ):
                raise refusal(
                    f"{place}.of",
                    f"expected one trigger or a list of conditions, got {short_repr(of)}",
                )
            return self._counted(place, least, of, role)
        members = self._members(f"{place}.of", of, role, depth)
        if isinstance(least, str):
            raise refusal(
                f"{place}.atLeast",
                "an event can name the number of events of one trigger, not of the members of a"
                " list that hold: write a whole number",
            )
        if type(least) is not int or not 1 <= least <= len(members):
            raise refusal(
                f"{place}.atLeast",
                f"expected a whole number from 1 to {len(members)}, as many as there are members,"
                f" got {short_repr(least)}",
            )
        written = {"atLeast": least, "of": [each.written for each in members]}
        return _group(least, members, written)

    def _members(
        self, place: str, value: object, role: Role, depth: int, leaves: bool = False
    ) -> list[Read]:
        if not isinstance(value, list | tuple):
            raise refusal(place, f"expected a list, got {short_repr(value)}")
        limits = self._limits
        if not value:
            raise refusal(place, "an empty list: name what it is about, or leave it out")
        if depth > limits.condition_depth:
            raise ConditionTooLarge(
                f"{place}: nested more than {limits.condition_depth} levels deep"
                " (Limits.condition_depth): let a task of its own stand for a part of it",
                place,
            )
        if len(value) > limits.condition_width:
            raise ConditionTooLarge(
                f"{place}: {len(value):,} members, the limit is {limits.condition_width:,}"
                " (Limits.condition_width): let one trigger stand for many",
                place,
            )
        members = []
        for position, each in enumerate(value):
            spot = f"{place}[{position}]"
            if leaves:
                members.append(self.read_leaf(spot, each, role))
            else:
                members.append(self.read(spot, each, role, depth + 1))
        _check_different(place, members)
        return members

    # -- leaves -------------------------------------------------------------------------------

    def read_leaf(self, place: str, value: object, role: Role) -> Read:
        """Read a trigger's name, or ``{"trigger": …, "where": …, "as": …}``.

        :raises InvalidConfiguration: names the place and the cure.
        """
        leaf = self._registered(place, self._parsed_leaf(place, value), role)
        return Read(leaf, leaf.plain, leaf.key)

    def _counted(self, place: str, count: object, of: object, role: Role) -> Read:
        spot = f"{place}.of"
        new = self._parsed_leaf(spot, of)
        new.keep = "count"
        if isinstance(count, str):
            self.named_counts.append(NamedCount(f"{place}.atLeast", new, count))
        elif type(count) is int and count >= 1:
            new.count = count
        else:
            raise refusal(
                f"{place}.atLeast",
                "expected a whole number of 1 or more, or 'key.path' of an event that names it, got"
                f" {short_repr(count)}",
            )
        leaf = self._registered(spot, new, role)
        return Read(leaf, {"atLeast": count, "of": leaf.plain}, leaf.key)

    def _parsed_leaf(self, place: str, value: object) -> Leaf:
        self._amount += 1
        if self._amount > MOST_NAMES:
            raise refusal(place, f"more than {MOST_NAMES:,} names: let one trigger stand for many")
        if not isinstance(value, Mapping):
            name = checked_name(place, value)
            return Leaf(name, name)
        words = read_words(place, value, _LEAF_WORDS, _leaf_cures(value))
        if "trigger" not in words:
            raise refusal(place, f"no trigger is named in {short_repr(value)}: add 'trigger'")
        trigger = checked_name(f"{place}.trigger", words["trigger"])
        key, where = trigger, None
        if "as" in words:
            key = checked_name(f"{place}.as", words["as"], "key")
            if "." in key:
                raise refusal(
                    f"{place}.as",
                    f"{short_repr(key)} holds a dot, which begins a path behind a key: write"
                    f" {short_repr(key.replace('.', '_'))}",
                )
        if "where" in words:
            where = self._where(f"{place}.where", words["where"])
        if key != trigger:
            self.features.add("as")
        return Leaf(key, trigger, where)

    def _where(self, place: str, value: object) -> Where | None:
        where = parse_where(place, value)
        if where is not None:
            self.features.add("where")
        return where

    def _registered(self, place: str, new: Leaf, role: Role) -> Leaf:
        leaf = self.leaves.setdefault(new.key, new)
        if leaf is not new:
            counted = leaf.keep == "count" or new.keep == "count"
            if not leaf.same(new):
                raise refusal(
                    place,
                    f"another leaf of the task has the key {new.key!r} and other"
                    f" {'tests' if leaf.trigger == new.trigger else 'events'}: give one of them a"
                    " key of its own with 'as'",
                )
            if counted:
                raise refusal(
                    place,
                    f"{new.key!r} is counted and also stands elsewhere in the task: give one of"
                    " them a key of its own with 'as'",
                )
        if role == "unless":
            leaf.unless = True
        else:
            leaf.required = True
            leaf.every = leaf.every or role == "andEvery"
        return leaf

    def _words(self, place: str, value: Mapping[Any, Any]) -> dict[str, Any]:
        return read_words(place, value, _WORDS, _CURES)


def _is_condition(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is meant as one: it has a word of the language, or what looks like one."""
    for word in islice(value, len(_WORDS) + 1):
        if isinstance(word, str) and (word in _WORDS or word in _CURES or nearest(word, _WORDS)):
            return True
    return False


def _leaf_cures(value: Mapping[Any, Any]) -> Mapping[str, str]:
    if "atLeast" in value or "of" in value:
        counted = "to count events write {'atLeast': 3, 'of': {'trigger': …}}"
        return {**_CURES, "atLeast": counted, "of": counted}
    if "anyOf" in value:
        return {**_CURES, "anyOf": "a leaf is one trigger; 'anyOf' is a condition of its own"}
    return _CURES


def _check_alone(place: str, words: Mapping[str, Any]) -> None:
    if len(words) > 1:
        other = next(word for word in words if word != "anyOf")
        raise refusal(
            place,
            f"{other!r} beside 'anyOf': make them two conditions, or put it into a member",
        )


def _check_different(place: str, members: list[Read]) -> None:
    seen: dict[Hashable, int] = {}
    for position, each in enumerate(members):
        first = seen.setdefault(each.shape, position)
        if first != position:
            raise refusal(
                f"{place}[{position}]",
                f"equal to {place}[{first}]: one of them is enough (to count events of one trigger,"
                " write {'atLeast': 2, 'of': 'trigger'})",
            )


def _group(least: int, members: list[Read], written: Any) -> Read:
    condition = Group(least, tuple(each.condition for each in members))
    return Read(condition, written, (least, tuple(each.shape for each in members)))
