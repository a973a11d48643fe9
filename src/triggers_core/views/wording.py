"""Short texts of the language of conditions, for labels and messages."""

from __future__ import annotations

from typing import Any, Final

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.rule import Rule
from triggers_core.engine.where import Test, Where
from triggers_core.texts import count, short_repr

_SIGNS: Final = {"": "=", "atLeast": "≥", "atMost": "≤", "moreThan": ">", "lessThan": "<"}
_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_SHOWN: Final = 4  # values of one list


def span(micros: int) -> str:
    """A duration, exactly, in the largest unit in which it is a whole number.

    Example::

        span(129_600_000_000)  # "36 hours"
    """
    for unit, length in _UNITS:
        if micros % (length * 1_000_000) == 0:
            return count(micros // (length * 1_000_000), unit)
    return f"{micros / 1_000_000:,.6f}".rstrip("0") + " seconds"


def where_text(where: Where) -> str:
    """The tests of a `where`.

    Example::

        where_text(leaf.where)  # "status = 'paid', amount ≥ 100"
    """
    return ", ".join(_test(test) for test in where.tests)


def _test(test: Test) -> str:
    words = test.written if type(test.written) is dict else {"": test.written}
    told = []
    for word, value in words.items():
        if word == "given":
            told.append(f"{test.path} is {'' if value else 'not '}given")
        elif word == "not":
            told.append(f"{test.path} is not {_values(value)}")
        else:
            told.append(f"{test.path} {_SIGNS[word]} {_values(value)}")
    return ", ".join(told)


def _values(value: Any) -> str:
    values = value if type(value) is list else [value]
    shown = [_value(each) for each in values[:_SHOWN]]
    if len(values) > _SHOWN:
        shown.append("…")
    return " or ".join(shown)


def _value(value: Any) -> str:
    if value is None or type(value) is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is str:
        return short_repr(value, 40)
    return short_repr(str(value), 42)[1:-1] if type(value) is not bytes else short_repr(value, 40)


def leaf_text(leaf: Leaf) -> str:
    """What a leaf says beside its trigger; empty when it says no more.

    Example::

        leaf_text(leaf)  # "× placed.items, colour = 'red'"
    """
    told = []
    if leaf.count is not None:
        told.append(f"× {leaf.count}")
    if leaf.where is not None:
        told.append(where_text(leaf.where))
    if leaf.required and leaf.keep in ("latest", "all"):
        told.append("the latest" if leaf.keep == "latest" else "all")
    if leaf.key != leaf.trigger:
        told.append(f"as {leaf.key}")
    return ", ".join(told)


def rule_notes(rule: Rule) -> list[str]:
    """What a rule says of time and repetition, beside its conditions.

    Example::

        rule_notes(rule)  # ["within 14 days", "waiting 2 days"]
    """
    notes = []
    if rule.every_time:
        notes.append("every time")
    if rule.within is not None:
        of = "" if rule.within_of is None else f" of {rule.within_of}"
        notes.append(f"within {span(rule.within)}{of}")
    if rule.waiting is not None:
        most = "" if rule.at_most is None else f", at most {span(rule.at_most)}"
        notes.append(f"waiting {span(rule.waiting)}{most}")
    if rule.until is not None:
        notes.append(f"waiting until {rule.until}")
    return notes
