"""Tests of an event's kwargs: the `where` of a leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.comparing import (
    COMPARISONS,
    Check,
    canonical,
    compares,
    equals,
    has_order,
    instant,
    is_value,
)
from triggers_core.engine.refusals import STORED, inside, plain_value, read_words, refusal
from triggers_core.exceptions import InvalidConfiguration
from triggers_core.texts import short_repr

_WORDS: Final = ("atLeast", "atMost", "moreThan", "lessThan", "not", "given")

_CURES: Final = {
    **dict.fromkeys(("is", "eq", "equals", "=", "=="), "write the value itself"),
    **dict.fromkeys(("in", "oneOf", "anyOf"), "write a list of values: one of them is equal"),
    **dict.fromkeys(("ne", "!=", "notIn", "noneOf"), "did you mean 'not'?"),
    **dict.fromkeys(("gte", "ge", ">=", "min"), "did you mean 'atLeast'?"),
    **dict.fromkeys(("lte", "le", "<=", "max"), "did you mean 'atMost'?"),
    **dict.fromkeys(("gt", ">", "above"), "did you mean 'moreThan'?"),
    **dict.fromkeys(("lt", "<", "below"), "did you mean 'lessThan'?"),
    **dict.fromkeys(("exists", "present"), "did you mean 'given'?"),
}
_VALUES: Final = "None, a bool, number, text, date, datetime, Decimal, UUID or bytes"

MOST_COUNTED: Final = 10**18
"""What larger counts are read as: no session has so many events."""


def look_up(kwargs: object, path: str) -> tuple[bool, Any]:
    """Whether a path (names with dots between them, through dicts) is there, and its value.

    Example::

        look_up({"order": {"total": 5}}, "order.total")  # (True, 5)
    """
    return _look_up(kwargs, path.split("."))


def usable_moment(value: object) -> float | None:
    """Seconds since 1970, to the microsecond, of a value that `until` names.

    :return: None unless it is an aware datetime, or an ISO 8601 text with an offset.

    Example::

        usable_moment("1970-01-01T01:00:00.5+01:00")  # 0.5
    """
    try:
        at = instant(value)
    except _UNTESTABLE:  # in a tzinfo of the application's own
        return None
    return None if at is None else at / 1_000_000


def usable_count(value: object) -> int | None:
    """The count that a value names: a whole number of any type, 0 or more; at most `MOST_COUNTED`.

    :return: None for anything else, a bool included.

    Example::

        usable_count(Decimal("3.0"))  # 3
    """
    if type(value) is int:
        return min(value, MOST_COUNTED) if value >= 0 else None
    if type(value) is float:
        return min(int(value), MOST_COUNTED) if value >= 0 and value.is_integer() else None
    if type(value) is not Decimal or not value.is_finite():
        return None
    if value < 0 or value != value.to_integral_value():
        return None
    return MOST_COUNTED if value >= MOST_COUNTED else int(value)


_UNTESTABLE: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)
"""What a value may raise that is asked for something it has not. Whatever else is raised, by a
signal handler as likely as not, must not decide anything."""


def _look_up(found: Any, names: list[str]) -> tuple[bool, Any]:
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return False, None
        found = found[name]
    return True, found


class Test:
    """One path of a `where`, and what is tested there.

    :ivar path: names with dots between them.
    :ivar written: the plain form of the test.
    """

    __slots__ = ("_checks", "_given", "_names", "path", "written")
    __test__ = False  # no case for pytest

    def __init__(self, path: str, written: Any) -> None:
        self.path: str = path
        self.written: Any = written
        self._names = path.split(".")
        tests: dict[str, Any] = written if type(written) is dict else {"": written}
        self._given: bool | None = tests.get("given")
        self._checks: tuple[Check, ...] = tuple(
            _check(word, value) for word, value in tests.items() if word != "given"
        )

    def __repr__(self) -> str:
        return f"<test {self.path}: {short_repr(self.written)}>"

    def found(self, kwargs: object) -> tuple[bool, Any]:
        """Whether the path is there, and its value."""
        return _look_up(kwargs, self._names)

    def holds(self, kwargs: object) -> bool:
        """Whether an event's kwargs pass. Never raises: a test that cannot be made is false."""
        there, value = _look_up(kwargs, self._names)
        if self._given is not None and there is not self._given:
            return False
        if not there:
            return not self._checks
        try:
            for check in self._checks:
                if not check(value):
                    return False
        except _UNTESTABLE:  # a value of a strange class
            return False
        return True


class Where:
    """The tests of a leaf, compiled.

    :ivar written: path → test, in plain form.
    :ivar canonical: a text, equal for two that are equal by value and kind.
    :ivar tests: the single tests, in the order in which they are written.

    Example::

        parse_where("t_x.after[0].where", {"amount": {"atLeast": 100}}).passes({"amount": 120})
    """

    def __init__(self, written: dict[str, Any]) -> None:
        self.written: dict[str, Any] = written
        self.canonical: str = canonical(written)
        self.tests: tuple[Test, ...] = tuple(Test(path, test) for path, test in written.items())
        self._holds: tuple[Callable[[object], bool], ...] = tuple(x.holds for x in self.tests)
        self._decode: Callable[[bytes], dict[str, Any]] = payloads.decoder_of(
            path.split(".")[0] for path in written
        )

    def __repr__(self) -> str:
        return f"<where {short_repr(self.written)}>"

    @cached_property
    def encoded(self) -> bytes:
        """Its stored form: ``Where(payloads.decode(where.encoded))`` is the same."""
        return payloads.encode(self.written, STORED, "where")

    def passes(self, kwargs: object) -> bool:
        """Whether an event with these kwargs passes. Never raises."""
        for holds in self._holds:  # noqa: SIM110 - a generator takes as long as a test
            if not holds(kwargs):
                return False
        return True

    def passes_payload(self, payload: bytes) -> bool:
        """Whether an event with this payload passes.

        :raises InvalidPayload: it is damaged, or of a newer version.
        """
        return self.passes(self._decode(payload))


def parse_where(place: str, value: object) -> Where | None:
    """Check a `where` and compile it.

    :param place: where it stands, such as ``t_x.after[0].where``.
    :return: None for an empty one.
    :raises InvalidConfiguration: names the place and the cure.
    """
    if not isinstance(value, Mapping):
        raise refusal(
            place,
            "expected a mapping of path to test, such as {'status': 'paid', 'amount': {'atLeast':"
            f" 100}}}}, got {short_repr(value)}",
        )
    written = plain_value(place, value)
    for path, test in written.items():
        spot = inside(place, path)
        if not all(path.split(".")):
            raise refusal(
                spot, f"{short_repr(path)} is no path: write names, with dots between them"
            )
        _check_test(spot, path, test)
    return Where(written) if written else None


def _check(word: str, value: Any) -> Check:
    if word in COMPARISONS:
        return compares(word, value)
    checks = tuple(equals(each) for each in (value if type(value) is list else [value]))
    if word == "not":
        return lambda found: not any(check(found) for check in checks)
    if len(checks) == 1:
        return checks[0]
    return lambda found: any(check(found) for check in checks)


def _check_test(place: str, path: str, test: Any) -> None:
    if type(test) is not dict:
        _check_values(place, test)
        return
    if not test:
        raise refusal(place, f"an empty test: write a value, or a mapping with {_listed(_WORDS)}")
    try:
        words = read_words(place, test, _WORDS, _CURES)
    except InvalidConfiguration as error:
        raise refusal(
            place,
            f"{str(error).removeprefix(f'{place}: ')} (to look into a dict, write its path:"
            f" '{path}.{short_repr(next(iter(test)))[1:-1]}')",
        ) from None
    for word, value in words.items():
        spot = f"{place}.{word}"
        if word == "given":
            if type(value) is not bool:
                raise refusal(
                    spot,
                    f"expected true or false, whether the path is there, got {short_repr(value)}",
                )
        elif word == "not":
            _check_values(spot, value)
        elif not has_order(value):
            raise refusal(
                spot,
                f"{short_repr(value)} has no order: compare with a number, a text, a date or a"
                " datetime",
            )


def _check_values(place: str, value: Any) -> None:
    if type(value) is list and not value:
        raise refusal(place, "an empty list, which nothing equals: name at least one value")
    for position, each in enumerate(value) if type(value) is list else ((None, value),):
        if not is_value(each):
            spot = place if position is None else f"{place}[{position}]"
            raise refusal(spot, f"expected {_VALUES}, got {short_repr(each)}")


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
