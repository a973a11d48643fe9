"""One task's conditions: what decides nothing, holds at once, or is filled by the same event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

from triggers_core.engine.conditions import Condition, Group, Leaf, Reference
from triggers_core.engine.configuration import Task
from triggers_core.engine.where import Where
from triggers_core.texts import names
from triggers_core.views.linting.findings import Finding, finding, key
from triggers_core.views.linting.wheres import exclude_each_other, implies, impossible_path

_COMPARED: Final = 50
"""Leaves of one trigger in one group that are compared with each other."""


def about_trees(task: Task) -> Iterator[Finding]:
    """What the trees of one task say and hardly mean."""
    rule = task.rule
    needed = certain_leaves(rule.required)
    for word, tree in (("after", rule.required), ("unless", rule.unless)):
        if tree is not None:
            yield from _shadowed(task, word, tree, ())
    yield from _one_event_for_two(task)
    yield from _may_not_come(task, needed)
    yield from _counts(task)


def certain_leaves(condition: Condition) -> dict[str, Leaf]:
    """The leaves that hold for certain once a condition does, with an event each; by key."""
    if isinstance(condition, Leaf):
        return {} if isinstance(condition.count, Reference) else {condition.key: condition}
    assert isinstance(condition, Group)
    below = [certain_leaves(member) for member in condition.members]
    times = Counter(name for each in below for name in each)
    spare = len(condition.members) - condition.least
    return {name: leaf for each in below for name, leaf in each.items() if times[name] > spare}


def covers(leaf: Leaf, other: Leaf) -> bool:
    """Whether one leaf holds for certain once another one does."""
    if leaf.key == other.key:
        return True
    if isinstance(leaf.count, Reference) or isinstance(other.count, Reference):
        return False
    return implies(other, leaf) and (leaf.count or 1) <= (other.count or 1)


# -- members that never decide ---------------------------------------------------------------------


_Index = Mapping[str, Sequence[tuple[Condition | None, Leaf]]]
"""Trigger → the leaves of it that have to hold, and the member of a group that each comes from."""

_Beside = tuple[tuple[_Index, Condition | None], ...]
"""What has to hold as well: the lists on the way down, and the member of each that leads on."""


def _index(members: Iterable[tuple[Condition | None, Mapping[str, Leaf]]]) -> _Index:
    found: dict[str, list[tuple[Condition | None, Leaf]]] = {}
    for member, leaves in members:
        for leaf in leaves.values():
            found.setdefault(leaf.trigger, []).append((member, leaf))
    return found


def _beside(beside: _Beside, trigger: str) -> Iterator[Leaf]:
    """The leaves of a trigger that have to hold as well."""
    for index, way in beside:
        for member, leaf in index.get(trigger, ())[:_COMPARED]:
            if member is None or member is not way:
                yield leaf


def _below(group: Group, beside: _Beside) -> Iterator[tuple[Leaf | Group, _Beside]]:
    """The members of a group, and what has to hold beside each."""
    if not group.all:
        yield from ((member, beside) for member in group.members)
        return
    index = _index((member, certain_leaves(member)) for member in group.members)
    yield from ((member, (*beside, (index, member))) for member in group.members)


def _shadowed(task: Task, word: str, group: Group, beside: _Beside) -> Iterator[Finding]:
    """Members of an any-of that hold anyway, or never decide."""
    for member in group.members if not group.all else ():
        if isinstance(member, Leaf) and not isinstance(member.count, Reference):
            others = _beside(beside, member.trigger)
            if any(covers(member, other) for other in others):
                yield _held_anyway(task, word, group, member)
    if group.any:
        yield from _never_first(task, word, group.members)
    for below, others_too in _below(group, beside):
        if isinstance(below, Group):
            yield from _shadowed(task, word, below, others_too)


def _held_anyway(task: Task, word: str, group: Group, leaf: Leaf) -> Finding:
    choice, told = "an anyOf", "the choice never decides: leave out one of the two"
    if not group.any:
        choice = f"an atLeast {group.least:,} of {len(group.members):,}"
        told = "it always counts as one of them: leave it out there, and lower atLeast"
    return finding(
        "shadowed",
        task,
        f"in its {word}, {key(leaf)} stands in {choice}, and has to hold beside it anyway, so that"
        f" {told}.",
    )


def _never_first(task: Task, word: str, members: tuple[Leaf | Group, ...]) -> Iterator[Finding]:
    """Members of an any-of that hold only when another one holds already."""
    plain = [each for each in members if isinstance(each, Leaf)][:_COMPARED]
    for member in members[: 2 * _COMPARED]:
        found = certain_leaves(member)
        for leaf in plain:
            if leaf is member:
                continue
            if any(covers(leaf, other) for other in found.values()):
                shown = (
                    key(member)
                    if isinstance(member, Leaf)
                    else f"the member with {names([each.key for each in found.values()])}"
                )
                message = (
                    f"in an anyOf of its {word}, {shown} never decides: {key(leaf)}, beside it, is"
                    " enough, and holds by then. Leave one of the two out, or narrow the other with"
                    " 'where'."
                )
                yield finding("shadowed", task, message)
                break


# -- one event for two -----------------------------------------------------------------------------


def _one_event_for_two(task: Task) -> Iterator[Finding]:
    told: set[str] = set()
    for group in _groups(task.rule.required):
        if group.least < 2:
            continue
        leaves: dict[str, list[tuple[int, Leaf]]] = {}
        for position, member in enumerate(group.members):
            for leaf in member.leaves:
                leaves.setdefault(leaf.trigger, []).append((position, leaf))
        for trigger, found in leaves.items():
            if len(found) > 1 and trigger not in told:
                pair = next(_fillable(group, found[:_COMPARED]), None)
                if pair is not None:
                    told.add(trigger)
                    yield _filled(task, *pair)


def _fillable(group: Group, found: Iterable[tuple[int, Leaf]]) -> Iterator[tuple[Leaf, Leaf]]:
    for (place, one), (other_place, other) in combinations(found, 2):
        if place == other_place or one is other or exclude_each_other(one, other):
            continue
        choice = any(
            isinstance(member, Group) and not member.all
            for member in (group.members[place], group.members[other_place])
        )
        if not (choice and (covers(one, other) or covers(other, one))):  # told as shadowed
            yield one, other


def _filled(task: Task, one: Leaf, other: Leaf) -> Finding:
    cure = f"write {{'atLeast': 2, 'of': {one.trigger!r}}}"
    if one.where is not None or other.where is not None:
        cure = "give them tests of which an event passes only one"
    if one.keep == "count" or other.keep == "count":
        cure = "count one more of them instead"
    return finding(
        "one-event-for-two",
        task,
        f"one event of {key_of_trigger(one)} can count for both {key(one)} and {key(other)}. If two"
        f" different events are meant, {cure}.",
    )


def key_of_trigger(leaf: Leaf) -> str:
    """A leaf's trigger, as names stand in sentences."""
    return key(Leaf(leaf.trigger, leaf.trigger))


def _groups(condition: Condition) -> Iterator[Group]:
    if isinstance(condition, Group):
        yield condition
        for member in condition.members:
            yield from _groups(member)


# -- what an event names ---------------------------------------------------------------------------


def _may_not_come(task: Task, needed: Mapping[str, Leaf]) -> Iterator[Finding]:
    """Counts, holds and deadlines that an event tells which need not come."""
    rule = task.rule
    known: _Beside = ((_index([(None, needed)]), None),)
    for tree in (rule.required, rule.unless):
        if tree is not None:
            yield from _counts_without_name(task, tree, known)
    if rule.until is not None and rule.until.key not in needed:
        yield finding(
            "may-not-come",
            task,
            f"its waiting lasts until {rule.until}, and {_named(rule.until.key)} may never come, as"
            " it is one of several ways to hold: without it the task does not run, whatever else"
            " has come. Put it beside the anyOf, or write a task for each way.",
        )
    if rule.within_of is not None and rule.within_of not in needed:
        yield finding(
            "may-not-come",
            task,
            f"its within counts from {_named(rule.within_of)}, which may never come, as it is one"
            " of several ways to hold: without it there is no deadline. Leave 'of' out, or put it"
            " beside the anyOf.",
        )


def _counts_without_name(task: Task, group: Group, beside: _Beside) -> Iterator[Finding]:
    for member, others in _below(group, beside):
        if isinstance(member, Group):
            yield from _counts_without_name(task, member, others)
        elif isinstance(member.count, Reference):
            naming = task.rule.leaves[member.count.key]
            if not any(each is naming for each in _beside(others, naming.trigger)):
                yield finding(
                    "may-not-come",
                    task,
                    f"how many of {key(member)} it takes is told by {member.count}, and"
                    f" {key(naming)} may never come, as it is one of several ways to hold: until"
                    f" then none counts. Put {key(naming)} into one list with the count.",
                )


def _named(name: str) -> str:
    return key(Leaf(name, name))


# -- counts that hold at once, or never ------------------------------------------------------------


def _counts(task: Task) -> Iterator[Finding]:
    for leaf in task.rule.leaves.values():
        if not isinstance(leaf.count, Reference):
            continue
        naming = task.rule.leaves[leaf.count.key]
        if naming.where is None:
            continue
        if impossible_path(naming.where, _only(leaf.count.path, {"atLeast": 0})) is not None:
            continue  # `no_count` says so
        if impossible_path(naming.where, _only(leaf.count.path, {"moreThan": 0})) is not None:
            yield finding(
                "holds-at-once",
                task,
                f"{key(naming)} passes its where only with {leaf.count.path} 0, so that no event of"
                f" {key(leaf)} is waited for. Change the where of {key(naming)}, or leave the count"
                " out.",
            )


def no_count(task: Task, leaf: Leaf) -> bool:
    """Whether the event that names a leaf's count never names one, for certain."""
    if not isinstance(leaf.count, Reference):
        return False
    naming = task.rule.leaves[leaf.count.key]
    return impossible_path(naming.where, _only(leaf.count.path, {"atLeast": 0})) is not None


def _only(path: str, test: object) -> Where:
    return Where({path: test})
