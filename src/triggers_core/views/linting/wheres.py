"""What can be known of `where`s without an event: whether any could pass, and which imply which.

Where that cannot be known, an event may pass, and nothing is implied: nobody is warned in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from triggers_core.engine.comparing import COMPARISONS, canonical, day, instant
from triggers_core.engine.conditions import Leaf
from triggers_core.engine.where import Test, Where

_LOWER: Final = {"atLeast": False, "moreThan": True}
_UPPER: Final = {"atMost": False, "lessThan": True}
"""Word → whether it leaves out the bound itself."""


def impossible_path(*wheres: Where | None) -> str | None:
    """A path at which no value passes all of several `where`s; None when there may be an event.

    Example::

        impossible_path(parse_where("", {"n": {"atLeast": 5, "lessThan": 3}}))  # "n"
    """
    paths: dict[str, list[Test]] = {}
    for where in wheres:
        for test in () if where is None else where.tests:
            paths.setdefault(test.path, []).append(test)
    for path, tests in paths.items():
        if not _some_value_passes(tests):
            return path
        below = f"{path}."
        if any(other.startswith(below) for other in paths) and not _may_be_a_dict(tests):
            deeper = [each for other in paths if other.startswith(below) for each in paths[other]]
            if any(_needs_a_value(test) for test in deeper):
                return path
    return None


def exclude_each_other(one: Leaf, other: Leaf) -> bool:
    """Whether no event can pass both of two leaves, for certain."""
    return one.trigger != other.trigger or impossible_path(one.where, other.where) is not None


def implies(strong: Leaf, weak: Leaf) -> bool:
    """Whether every event that passes one leaf passes the other, for certain; counts aside."""
    if strong.trigger != weak.trigger:
        return False
    if weak.where is None or strong.same(weak):
        return True
    if strong.where is None:
        return False
    tests = {test.path: test for test in strong.where.tests}
    return all(
        (test.path in tests and _test_implies(tests[test.path], test))
        or (test.written == {"given": True} and _is_there(test.path, tests.values()))
        for test in weak.where.tests
    )


# -- one path --------------------------------------------------------------------------------------


def _words(test: Test) -> dict[str, Any]:
    return test.written if type(test.written) is dict else {"": test.written}


def _needs_a_value(test: Test) -> bool:
    return bool(test.written != {"given": False})


def _may_be_a_dict(tests: Iterable[Test]) -> bool:
    """Whether what passes may hold more paths: a dict equals nothing, and has no order."""
    words = {word for test in tests for word in _words(test)}
    given = [_words(test).get("given") for test in tests]
    return not (words & COMPARISONS) and "" not in words and False not in given


def _some_value_passes(tests: list[Test]) -> bool:
    given = {_words(test)["given"] for test in tests if "given" in _words(test)}
    if False in given:
        return not any(map(_needs_a_value, tests))
    for test in tests:
        if "" in _words(test):
            return any(_passes(form, tests) for each in _values(test) for form in _forms(each))
    return _bounds_meet(tests)


def _passes(value: Any, tests: Iterable[Test]) -> bool:
    """Whether a value passes tests; True where another text of the same moment might."""
    if all(test.holds(_at(test.path, value)) for test in tests):
        return True
    if type(value) is not str or (instant(value) is None and day(value) is None):
        return False
    kinds = {type(each) for test in tests for each in _values(test)}
    return str in kinds and bool(kinds & {date, datetime})


def _at(path: str, value: Any) -> Any:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def _values(test: Test) -> Iterator[Any]:
    for value in _words(test).values():
        yield from value if type(value) is list else [value]


def _forms(value: Any) -> Iterator[Any]:
    """Values of other types that are equal to one of a configuration."""
    yield value
    if isinstance(value, date):
        yield value.isoformat()
    elif type(value) is str:
        if instant(value) is not None:
            yield datetime.fromisoformat(value)
        if (its_day := day(value)) is not None:
            yield its_day
    elif type(value) is float:
        yield Decimal(repr(value))
    elif type(value) is int:
        yield Decimal(value)
    elif type(value) is Decimal and value.is_finite() and Decimal.from_float(float(value)) == value:
        yield float(value)


_Reading = Callable[[Any], Any]
"""A bound as a value of one kind; None where it is none."""


def _number(value: Any) -> Any:
    if type(value) is float:
        return Decimal(repr(value))
    return Decimal(value) if type(value) in (int, Decimal) else None


def _moment(value: Any) -> Any:
    return instant(value)


def _naive(value: Any) -> Any:
    return value if isinstance(value, datetime) and value.utcoffset() is None else None


def _day(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return day(value) if type(value) is str else None


def _text(value: Any) -> Any:
    return value if type(value) is str else None


_KINDS: Final[tuple[_Reading, ...]] = (_number, _text, _moment, _naive, _day)


def _bounds_meet(tests: list[Test]) -> bool:
    """Whether there is a value between all bounds, of whatever kind."""
    bounds = [
        (word, value)
        for test in tests
        for word, value in _words(test).items()
        if word in COMPARISONS
    ]
    if not bounds:
        return True
    kinds = {type(value) for _, value in bounds}
    if str in kinds and kinds & {date, datetime} and not kinds & {int, float, Decimal}:
        return True  # a text may lie between texts, and mean a moment between moments
    if {float, Decimal} <= kinds:
        return True  # a float of an event is what it is beside one, and its shortest text no more
    return any(_meet_as(reading, bounds, tests) for reading in _KINDS)


def _meet_as(reading: _Reading, bounds: list[tuple[str, Any]], tests: list[Test]) -> bool:
    read = [(word, value, reading(value)) for word, value in bounds]
    if any(each is None for _, _, each in read):
        return False
    lows = [(each, _LOWER[word], value) for word, value, each in read if word in _LOWER]
    highs = [(each, _UPPER[word], value) for word, value, each in read if word in _UPPER]
    for low, low_open, value in lows:
        for high, high_open, _ in highs:
            if low > high or (low == high and (low_open or high_open)):
                return False
            if low == high:  # one value is left, and `not` may name it
                return any(_passes(form, tests) for form in _forms(value))
    return True


# -- implied ---------------------------------------------------------------------------------------


def _is_there(path: str, tests: Iterable[Test]) -> bool:
    """Whether a path is there for certain, as something is tested at it or below it."""
    return any(
        (test.path == path or test.path.startswith(f"{path}.")) and _needs_a_value(test)
        for test in tests
    )


def _test_implies(strong: Test, weak: Test) -> bool:
    if canonical(strong.written) == canonical(weak.written):
        return True
    words = _words(strong)
    if "" in words:
        return all(
            not isinstance(each, date)
            and not (type(each) is str and (instant(each) is not None or day(each) is not None))
            and all(weak.holds(_at(weak.path, form)) for form in _forms(each))
            for each in _values(strong)
        )
    if not _needs_a_value(strong):
        return False
    return all(_word_implied(words, word, value) for word, value in _words(weak).items())


def _word_implied(words: dict[str, Any], word: str, value: Any) -> bool:
    """Whether comparisons of numbers imply another one."""
    if word == "given":
        return value is True
    if word in words and canonical(words[word]) == canonical(value):
        return True
    its = _number(value)
    if its is None:
        return False
    for side, less in ((_LOWER, False), (_UPPER, True)):
        if word in side:
            for other in side.keys() & words.keys():
                bound = _number(words[other])
                if bound is None or {type(value), type(words[other])} == {float, Decimal}:
                    continue
                tighter = bound < its if less else bound > its
                if tighter or (bound == its and (side[other] or not side[word])):
                    return True
    return False
