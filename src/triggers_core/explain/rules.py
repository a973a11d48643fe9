"""Rules in words: what a task's configuration says, as a sentence, and the parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from triggers_core.engine.conditions import CALLED_OFF, Group, Leaf, Missing
from triggers_core.engine.configuration import Task
from triggers_core.engine.rule import Rule
from triggers_core.engine.where import Test
from triggers_core.redaction import MASK, mask
from triggers_core.texts import count, listed, names, short_repr

_TESTS: Final = {
    "atLeast": "at least",
    "atMost": "at most",
    "moreThan": "more than",
    "lessThan": "less than",
    "not": "not",
}
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def rule_of(task: Task) -> str:
    """A task's configuration as a sentence.

    Example::

        rule_of(task)  # "after placed and (paid or invoiced), within 14 days, run shop.Ship"
    """
    rule = task.rule
    every = {leaf.key for leaf in rule.every}
    last = next((x for x in rule.required.members if {y.key for y in x.leaves} == every), None)
    after = [each for each in rule.required.members if each is not last]
    parts = []
    if after:
        parts.append(f"after {listed([said(each, inside=len(after) > 1) for each in after])}")
    if last is not None:
        parts.append(f"{'and ' if parts else ''}every {said(last)}")
    if rule.unless is not None:
        parts.append(f"unless {said(rule.unless)}")
    parts += _further(rule)
    sentence = f"{', '.join(parts)}, run {task.run}"
    return f"{sentence}; {_otherwise(rule)}" if rule.otherwise else sentence


def _further(rule: Rule) -> list[str]:
    """What a rule says of the events that count, and of time."""
    parts = []
    keeps = [
        f"{which} {names([leaf.key for leaf in leaves])}"
        for which, leaves in (
            ("the latest of", [leaf for leaf in rule.shared if leaf.keep == "latest"]),
            ("all of", [leaf for leaf in rule.shared if leaf.keep == "all"]),
        )
        if leaves
    ]
    if keeps:
        parts.append(f"keeping {listed(keeps)}")
    if rule.every_time:
        parts.append("every time")
    if rule.until is not None:
        parts.append(f"waiting until {rule.until}")
    if rule.waiting is not None:
        most = "" if rule.at_most is None else f" ({span(rule.at_most)} at most)"
        parts.append(f"waiting {span(rule.waiting)}{most}")
    if rule.within is not None:
        of = "" if rule.within_of is None else f" of {names([rule.within_of])}"
        parts.append(f"within {span(rule.within)}{of}")
    return parts


def _otherwise(rule: Rule) -> str:
    by_trigger: dict[str, list[str]] = {}
    for why, trigger in rule.otherwise.items():
        by_trigger.setdefault(trigger, []).append("called off" if why == CALLED_OFF else why)
    fires = [
        f"{names([trigger])} when {alternatives(reasons)}"
        for trigger, reasons in by_trigger.items()
    ]
    return f"fire {listed(fires)}"


def span(micros: int) -> str:
    """A duration of a rule, exactly: ``14 days``, ``90 minutes``.

    :param micros: microseconds.
    """
    for seconds, unit in _UNITS:
        amount, rest = divmod(micros, seconds * 1_000_000)
        if not rest:
            return count(amount, unit)
    return f"{micros / 1_000_000:g} seconds"


def alternatives(items: Sequence[str]) -> str:
    """Items of which one is enough: ``a, b or c``."""
    *most, last = items
    return f"{', '.join(most)} or {last}" if most else last


# -- conditions ------------------------------------------------------------------------------------


def said(condition: Leaf | Group, inside: bool = False) -> str:
    """A condition in words.

    :param inside: it stands in a list, so that a list of its own is put in brackets.
    """
    if isinstance(condition, Leaf):
        return said_leaf(condition)
    members = condition.members
    return _group(condition.least, [said(each, len(members) > 1) for each in members], inside)


def said_leaf(leaf: Leaf) -> str:
    """A leaf in words: its trigger, its tests, and how many events it takes."""
    text = names([leaf.trigger])
    if leaf.key != leaf.trigger:
        text += f" as {names([leaf.key])}"
    if leaf.where is not None:
        text += f" ({said_where(leaf)})"
    if leaf.count is None:
        return text
    if isinstance(leaf.count, int):
        return f"{leaf.count:,} of {text}"
    return f"as many of {text} as {leaf.count} says"


def said_where(leaf: Leaf) -> str:
    """The tests of a leaf in words: ``status is 'succeeded' and amount is at least 100``."""
    tests = () if leaf.where is None else leaf.where.tests
    return " and ".join(f"{test.path} is {said_test(test)}" for test in tests)


def awaited(missing: Missing | Leaf, describe: Callable[[Leaf], str], inside: bool = False) -> str:
    """What a condition lacks, in words."""
    if isinstance(missing, Leaf):
        return describe(missing)
    items = [awaited(each, describe, len(missing.of) > 1) for each in missing.of]
    return _group(missing.least, items, inside)


def _group(least: int, items: list[str], inside: bool) -> str:
    if least == len(items):
        text = listed(items)
    elif least == 1:
        text = alternatives(items)
    else:
        text = f"{least:,} of {listed(items)}"
    return f"({text})" if inside and len(items) > 1 else text


# -- tests -----------------------------------------------------------------------------------------


def said_test(test: Test) -> str:
    """What a test wants, after "is": ``'succeeded'``, ``at least 100 and less than 200``."""
    if type(test.written) is not dict:
        return _said_values(test.path, test.written)
    return " and ".join(_said_word(test.path, *item) for item in test.written.items())


def failing_part(test: Test, kwargs: object) -> str:
    """What a test that fails wants of these kwargs; of several things the first that is not so."""
    if type(test.written) is dict:
        for word, value in test.written.items():
            if not Test(test.path, {word: value}).holds(kwargs):
                return _said_word(test.path, word, value)
    return said_test(test)


def _said_word(path: str, word: str, value: Any) -> str:
    if word == "given":
        return "given" if value else "not given"
    return f"{_TESTS[word]} {_said_values(path, value)}"


def _said_values(path: str, value: Any) -> str:
    values = value if type(value) is list else [value]
    return alternatives([shown_value(path, each) for each in values])


def shown_value(path: str, value: Any) -> str:
    """A value at a path of an event's kwargs, as Python writes it: short, secrets masked.

    Example::

        shown_value("order.token", "tok_1")  # '***'
    """
    keys = path.split(".")
    nested = value
    for key in reversed(keys):
        nested = {key: nested}
    nested = mask(nested)
    for key in keys:
        if type(nested) is dict:
            nested = nested.get(key, MASK)
    return MASK if nested == MASK else short_repr(nested)
