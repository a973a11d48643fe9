"""Comparing values of events with values of a configuration, compiled to one function each.

Whatever process compares, whenever: nothing here depends on the context of `decimal`, on the zone
of the machine, or on what a version of Python takes for ISO 8601.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

Check = Callable[[Any], bool]
"""Whether an event's value passes; may raise what a value of a strange class raises."""

# By exact type, as the codec of payloads hands them out. The types are bound in this table, once,
# because test tools such as freezegun replace the classes in every module's globals.
_KINDS: Final[dict[type, str]] = {
    type(None): "none",
    bool: "bool",
    int: "number",
    float: "float",
    Decimal: "decimal",
    str: "text",
    datetime: "moment",
    date: "day",
    UUID: "id",
    bytes: "bytes",
}
_NUMBERS: Final = frozenset({"number", "float", "decimal"})
_ORDERED: Final = _NUMBERS | {"text", "moment", "day"}

_ORDERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "atLeast": operator.ge,
    "atMost": operator.le,
    "moreThan": operator.gt,
    "lessThan": operator.lt,
}
COMPARISONS: Final = frozenset(_ORDERS)
"""The words of a comparison."""

_DAY_TEXT: Final = (
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-W[0-9]{2}(?:-[0-9])?|[0-9]{4}W[0-9]{2,3})"
)
_day_text: Final = re.compile(_DAY_TEXT)
_moment_text: Final = re.compile(
    _DAY_TEXT + r"[^0-9](?:[01][0-9]|2[0-3])(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)"
)
_read_moment: Final = datetime.fromisoformat
_read_day: Final = date.fromisoformat
_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)


def is_value(value: object) -> bool:
    """Whether it is of a type that an event's value can be compared with."""
    return type(value) in _KINDS


def has_order(value: object) -> bool:
    """Whether there is a more and a less of it."""
    return _KINDS.get(type(value)) in _ORDERED


def instant(value: object) -> int | None:
    """Microseconds since 1970 of an aware datetime, or an ISO 8601 text with an offset; or None."""
    kind = _KINDS.get(type(value))
    moment: Any = value
    try:
        if kind == "text":
            if not _moment_text.fullmatch(moment):
                return None
            moment = _read_moment(moment)
        elif kind != "moment":
            return None
        offset = moment.utcoffset()
        if offset is None:
            return None
        # Not by subtracting an aware one, which takes the clock's reading within one zone.
        since = moment.replace(tzinfo=None) - _EPOCH - offset
    except (ValueError, OverflowError):
        return None
    return int(since // _MICROSECOND)


def day(text: str) -> date | None:
    """The date that an ISO 8601 text means; or None."""
    try:
        return _read_day(text) if _day_text.fullmatch(text) else None
    except ValueError:
        return None


def equals(value: Any) -> Check:
    """A function that says whether an event's value equals this one.

    Example::

        equals(1)(Decimal("1.0"))  # True
        equals(1)(True)            # False
    """
    kind = _KINDS[type(value)]
    if kind in _ORDERED:
        return _compiled(kind, value, operator.eq)
    own = type(value)
    return lambda found: type(found) is own and found == value


def compares(word: str, value: Any) -> Check:
    """A function that says whether an event's value is at least, at most… this one.

    :param word: one of `COMPARISONS`.
    :param value: one that `has_order`.
    """
    return _compiled(_KINDS[type(value)], value, _ORDERS[word])


def _compiled(kind: str, value: Any, test: Callable[[Any, Any], Any]) -> Check:
    if kind in _NUMBERS:
        return _number_test(kind, value, test)
    if kind == "text":
        return _text_test(value, test)
    return _moment_test(value, test) if kind == "moment" else _day_test(value, test)


def _number_test(kind: str, value: Any, test: Callable[[Any, Any], Any]) -> Check:
    # Beside a Decimal, a float of the configuration is what its author wrote.
    decimal = Decimal(repr(value)) if kind == "float" else value

    def check(found: Any) -> bool:
        its = _KINDS.get(type(found))
        if its == "decimal":
            return bool(test(found, decimal))
        if its == "float" and kind == "decimal":
            return bool(test(Decimal.from_float(found), value))
        return (its == "number" or its == "float") and bool(test(found, value))

    return check


def _text_test(value: str, test: Callable[[Any, Any], Any]) -> Check:
    moment, its_day = instant(value), day(value)

    def check(found: Any) -> bool:
        kind = _KINDS.get(type(found))
        if kind == "text":
            return bool(test(found, value))
        if kind == "moment" and moment is not None:
            at = instant(found)
            return at is not None and bool(test(at, moment))
        return kind == "day" and its_day is not None and bool(test(found, its_day))

    return check


def _moment_test(value: datetime, test: Callable[[Any, Any], Any]) -> Check:
    moment = instant(value)

    def check(found: Any) -> bool:
        kind = _KINDS.get(type(found))
        if kind != "moment" and kind != "text":
            return False
        at = instant(found)
        if moment is not None:
            return at is not None and bool(test(at, moment))
        return kind == "moment" and at is None and bool(test(found, value))

    return check


def _day_test(value: date, test: Callable[[Any, Any], Any]) -> Check:
    def check(found: Any) -> bool:
        kind = _KINDS.get(type(found))
        if kind == "text":
            found = day(found)
            return found is not None and bool(test(found, value))
        return kind == "day" and bool(test(found, value))

    return check


def canonical(value: Any) -> str:
    """A text that is equal for two parts of a `where` exactly if they are equal by value and kind.

    Example::

        canonical([1.0, True]) == canonical([Decimal(1), True])  # True
    """
    if type(value) is list:
        return f"[{','.join(map(canonical, value))}]"
    if type(value) is dict:
        pairs = sorted((json.dumps(key), each) for key, each in value.items())
        return "{" + ",".join(f"{key}:{canonical(each)}" for key, each in pairs) + "}"
    kind = _KINDS[type(value)]
    if kind in _NUMBERS:
        return _canonical_number(kind, value)
    if kind == "text":
        return json.dumps(value)
    if kind == "moment":
        at = instant(value)
        return f"@{value.replace(fold=0).isoformat()}" if at is None else f"@{at}"
    if kind == "bytes":
        return f"b{value.hex()}"
    return f"{kind} {value}"


def _canonical_number(kind: str, value: Any) -> str:
    exact = Decimal.from_float(value) if kind == "float" else Decimal(value)
    sign, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    short = text.rstrip("0")
    if not short or not isinstance(exponent, int):
        return "0"
    return f"{'-' if sign else ''}{short}e{exponent + len(text) - len(short)}"
