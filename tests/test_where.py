"""Which events pass a leaf: values, paths, comparisons; and what they are equal to."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from words.reference import oracle_or_skip

from triggers_core import payloads
from triggers_core.engine.where import (
    MOST_COUNTED,
    Where,
    look_up,
    parse_where,
    usable_count,
    usable_moment,
)
from triggers_core.exceptions import InvalidConfiguration
from triggers_core.testing.interruptions import interrupt_at

PLUS_1 = timezone(timedelta(hours=1))
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN)  # the clocks show it twice that night


def where(written: Any) -> Where:
    found = parse_where("t_x.after[0].where", written)
    assert found is not None
    return found


# -- one value -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "passing", "failing"),
    [
        (1, [1, 1.0, Decimal("1.00")], [True, "1", 2, None, [1], {"a": 1}]),
        (True, [True], [1, 1.0, "true", False]),
        (None, [None], [0, "", False, {}]),
        (0.1, [0.1, Decimal("0.1"), Decimal("0.10")], [Decimal.from_float(0.1)]),
        (Decimal("0.1"), [Decimal("0.10")], [0.1, "0.1"]),
        (2**53 + 1, [2**53 + 1, Decimal(2**53 + 1)], [float(2**53)]),
        ("é", ["é"], ["e\u0301", "É", b"\xc3\xa9"]),
        (b"a", [b"a"], ["a", b"A"]),
        (UUID(int=1), [UUID(int=1)], [str(UUID(int=1)), 1]),
        (date(2026, 1, 1), ["2026-01-01", "20260101", "2026-W01-4"], [datetime(2026, 1, 1), "x"]),
        ("2026-01-01", [date(2026, 1, 1), "2026-01-01"], ["20260101", date(2026, 1, 2)]),
        (
            NEW_YEAR,
            ["2026-01-01T00:00:00Z", "2026-01-01 01:00+01:00", NEW_YEAR.astimezone(PLUS_1)],
            ["2026-01-01T00:00:00", datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01", 1],
        ),
        ("2026-01-01T00:00Z", [NEW_YEAR, "2026-01-01T00:00Z"], ["2026-01-01T00:00+00:00"]),
        (datetime(2026, 1, 1), [datetime(2026, 1, 1)], [NEW_YEAR, "2026-01-01T00:00:00"]),
        (TWICE, [TWICE, "2025-10-26T00:30Z"], [TWICE.replace(fold=1)]),
        (TWICE.replace(fold=1), ["2025-10-26T01:30Z"], [TWICE]),
        (["a", 1], ["a", 1.0], ["b", True, ["a", 1]]),
        ({"not": "a"}, ["b", 1, None, ["a"], {}], ["a"]),
        ({"not": ["a", 1]}, ["b", True], ["a", Decimal(1)]),
        ({"atLeast": 100}, [100, 100.5, Decimal(101)], [99, "100", True, None, float("nan")]),
        ({"moreThan": 0.1}, [Decimal("0.11"), 0.2], [Decimal("0.1"), 0.1]),
        ({"lessThan": Decimal("0.1")}, [0, Decimal("-1E+999999")], [0.1, Decimal("0.1")]),
        ({"atMost": "b"}, ["a", "b", ""], ["c", "ba", 1, b"a"]),
        ({"atLeast": 2, "lessThan": 5}, [2, 4.9], [1, 5]),
        ({"atLeast": 2, "not": 3}, [2, 4], [3, 1]),
        ({"atLeast": date(2026, 1, 1)}, [date(2026, 1, 2), "2026-01-01"], [NEW_YEAR, "2025-12-31"]),
        ({"moreThan": NEW_YEAR}, ["2026-01-01T00:00:00.000001Z"], ["2026-01-01T00:00Z", "later"]),
        ({"atMost": "2026-01-01T00:00Z"}, [NEW_YEAR, "2026"], [NEW_YEAR.replace(tzinfo=None)]),
        ({"lessThan": datetime(2026, 1, 1)}, [datetime(2025, 1, 1)], [NEW_YEAR - timedelta(1)]),
        ({"given": True}, [None, 1, {}], []),
        ({"given": False}, [], [None, 1, {}]),
        ({"given": True, "atMost": 3}, [3], [4, None]),
        ({"given": False, "atMost": 3}, [], [3, 4]),
    ],
)  # fmt: skip
def test_values(test: Any, passing: list[Any], failing: list[Any]) -> None:
    for value in passing:
        assert where({"a": test}).passes({"a": value}), value
    for value in failing:
        assert not where({"a": test}).passes({"a": value}), value


@pytest.mark.parametrize("test", [1, [1, None], {"not": 1}, {"atLeast": 0}, {"given": True}])
def test_a_path_that_is_missing_passes_nothing_but_given_false(test: Any) -> None:
    for kwargs in ({}, {"a": {}}, {"a": 1}, {"a": None}, {"a": [{"b": 1}]}, {"a.b": 1}):
        assert not where({"a.b": test}).passes(kwargs)
        assert where({"a.b": {"given": False}}).passes(kwargs)
    assert where({"a.b": test, "c": {"given": False}}).passes({"a": {"b": 1}}) is (
        test != {"not": 1}
    )


class Broken:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize("value", [Broken(), Decimal("sNaN"), Decimal("NaN"), "\ud800", [[]] * 9])
@pytest.mark.parametrize("test", [1, Decimal(1), "a", NEW_YEAR, [b"a", None], {"atLeast": 1.5}])
def test_a_test_that_cannot_be_made_is_false(test: Any, value: Any) -> None:
    assert not where({"a": test}).passes({"a": value})


@pytest.mark.traces
@pytest.mark.parametrize("test", [1, {"atLeast": Decimal("0.5")}, ["a", NEW_YEAR], {"not": b"a"}])
def test_what_a_signal_handler_raises_decides_nothing(test: Any) -> None:
    tests, swallowed, number = where({"a.b": test}), list[str](), 1
    while interrupt_at(number, lambda: tests.passes({"a": {"b": 1}}), swallowed=swallowed):
        number += 1
    assert number > 5
    assert not swallowed


def test_the_context_of_decimal_does_not_matter() -> None:
    tests = where({"a": {"atLeast": Decimal("0.1"), "not": 0.25}})
    with localcontext() as context:
        context.prec = 1
        for signal in context.traps:
            context.traps[signal] = True
        assert tests.passes({"a": 0.5})
        assert tests.passes({"a": Decimal("0.1000000000000001")})
        assert not tests.passes({"a": Decimal("0.25")})
        assert where({"a": 0.12345}).canonical == where({"a": 0.12345}).canonical
        assert usable_count(Decimal("12345")) == 12345


def test_deep_kwargs() -> None:
    kwargs: dict[str, Any] = {"a": 1}
    for _ in range(10_000):
        kwargs = {"a": kwargs}
    assert where({".".join("a" * 10_001): 1}).passes(kwargs)
    assert not where({"a": 1}).passes(kwargs)


def test_what_explain_shows() -> None:
    tests = where({"status": "ok", "order.total": {"atLeast": 5}, "note": {"given": False}})
    kwargs = {"status": "late", "order": {"total": 7}}
    told = [(x.path, x.written, x.holds(kwargs), x.found(kwargs)) for x in tests.tests]
    assert told == [
        ("status", "ok", False, (True, "late")),
        ("order.total", {"atLeast": 5}, True, (True, 7)),
        ("note", {"given": False}, True, (False, None)),
    ]


# -- against the oracle ----------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1, Decimal("0.1"), Decimal("0.10"), -0.0, Decimal("1E+999999")]),
)
OFFSETS = st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.integers(0, 120).map(lambda n: (NEW_YEAR + timedelta(minutes=n)).astimezone(PLUS_1)),
)
TEXTS = st.one_of(
    st.text(max_size=3),
    MOMENTS.map(datetime.isoformat),
    MOMENTS.map(lambda at: at.isoformat().replace("+00:00", "Z").replace("T", " ")),
    st.dates().map(date.isoformat),
    st.from_regex(r"20[0-9]{2}-?W?[0-9]{2}-?[0-9]{1,2}(T[0-9]{2}(:?[0-9]{2})?Z)?", fullmatch=True),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    MOMENTS,
    st.dates(),
    st.sampled_from([UUID(int=1), UUID(int=2)]),
    st.binary(max_size=1),
)
ORDERED = st.one_of(NUMBERS, TEXTS, MOMENTS, st.dates())
MANY = st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3))
TESTS = st.one_of(
    MANY,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("atLeast", "atMost", "moreThan", "lessThan"), ORDERED),
            "not": MANY,
            "given": st.booleans(),
        },
    ).filter(bool),
)
WHERES = st.dictionaries(st.sampled_from(["a", "b.c"]), TESTS, min_size=1)
FOUND = st.one_of(VALUES, st.lists(VALUES, max_size=1), st.just({}))
KWARGS = st.fixed_dictionaries(
    {}, optional={"a": FOUND, "b": st.one_of(FOUND, FOUND.map(lambda value: {"c": value}))}
)


class Leaf(NamedTuple):
    trigger: str
    where: Any


class Event(NamedTuple):
    trigger: str
    kwargs: Any


@given(WHERES, KWARGS)
def test_the_oracle_lets_the_same_events_pass(written: Any, kwargs: Any) -> None:
    expected = oracle_or_skip().passes(Leaf("x", written), Event("x", kwargs))
    assert where(written).passes(kwargs) is expected


@given(st.data())
def test_the_oracle_takes_the_same_tests_for_equal(data: st.DataObject) -> None:
    one = data.draw(WHERES)
    other = data.draw(st.one_of(WHERES, st.just(_varied(one))))
    assert (where(one).canonical == where(other).canonical) is oracle_or_skip().alike(one, other)


def _varied(part: Any) -> Any:
    """The same in other words: numbers of other types, keys in another order."""
    if isinstance(part, dict):
        return {key: _varied(part[key]) for key in reversed(part)}
    if isinstance(part, list):
        return [_varied(each) for each in part]
    if isinstance(part, float) and part.is_integer():
        return int(part)
    return Decimal(part) if type(part) is int else part


@given(WHERES)
def test_what_is_stored_is_the_same(written: Any) -> None:
    found = where(written)
    again = Where(payloads.decode(found.encoded))
    assert again.canonical == found.canonical == where(found.written).canonical
    assert again.written == found.written


def test_equal_tests() -> None:
    same = [
        {"a": 1, "b": {"atLeast": Decimal("2.50"), "not": [NEW_YEAR]}},
        {"b": {"not": (NEW_YEAR.astimezone(PLUS_1),), "atLeast": 2.5}, "a": Decimal("1.0")},
    ]
    assert where(same[0]).canonical == where(same[1]).canonical
    different = [
        *({"a": each} for each in (1, True, "1", None, b"1", [1], [1, 2], [2, 1], {"not": 1})),
        {"b": 1},
        {"a": NEW_YEAR},
        {"a": NEW_YEAR.replace(tzinfo=None)},
        {"a": NEW_YEAR.isoformat()},
        {"a": date(2026, 1, 1)},
        {"a": 10**20},
        {"a": 10**20 + 1},
        {"a": 0.1},
        {"a": Decimal("0.1")},
        {"a": TWICE},
        {"a": TWICE.replace(fold=1)},
        {"a": '1","b":"1'},
        {"a": "1", "b": "1"},
    ]
    assert len({where(each).canonical for each in different}) == len(different)


# -- values that a time or a count is read from ----------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("19700101T000001.0000019Z", 1.000001),
        ("1969-12-31 23:59:59,25-00:00", -0.75),
        (NEW_YEAR, 1767225600.0),
        (TWICE.replace(fold=1), 1761442200.0),
        (datetime.max.replace(tzinfo=UTC), 253402300800.0),
        (datetime.min.replace(tzinfo=PLUS_1), -62135600400.0),
        *((each, None) for each in ("", "now", "2026-01-01", "2026-01-01T00:00:00", 5, 5.0, True)),
        ("2026-01-01T24:00:00Z", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01T00:00:00+25:00", None),
        ("2026-01-01T00:00:00+00:00:00.000001", None),
        ("２026-01-01T00:00:00Z", None),
        (" 2026-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z\n", None),
        (datetime(2026, 1, 1), None),
        (date(2026, 1, 1), None),
        (time(1, tzinfo=UTC), None),
        (None, None),
    ],
)  # fmt: skip
def test_usable_moments(value: Any, expected: float | None) -> None:
    assert usable_moment(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        (-0.0, 0),
        (Decimal("7.00"), 7),
        (Decimal("7E+1"), 70),
        (Decimal("-0"), 0),
        (10**400, MOST_COUNTED),
        (1e300, MOST_COUNTED),
        (Decimal("1E+999999999"), MOST_COUNTED),
        *((each, None) for each in (-1, -1.0, 0.5, Decimal("1E-999999"), Decimal("-1"))),
        *((each, None) for each in (float("nan"), float("inf"), Decimal("NaN"), Decimal("Inf"))),
        *((each, None) for each in (True, False)),
        *((each, None) for each in ("7", None, [7], {"a": 7}, b"7")),
    ],
)  # fmt: skip
def test_usable_counts(value: Any, expected: int | None) -> None:
    found = usable_count(value)
    assert found == expected
    assert found is None or type(found) is int


def test_look_up() -> None:
    kwargs = {"a": {"b": None}, "c.d": 1}
    assert look_up(kwargs, "a.b") == (True, None)
    assert look_up(kwargs, "a") == (True, {"b": None})
    assert look_up(kwargs, "a.b.c") == (False, None)
    assert look_up(kwargs, "c.d") == (False, None)


# -- refusals --------------------------------------------------------------------------------------


def test_an_empty_where_is_none() -> None:
    assert parse_where("t_x.after[0].where", {}) is None


P = "t_x.after[0].where"


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        (["a"], P, "expected a mapping of path to test"),
        ({"": 1}, f"{P}['']", "'' is no path: write names"),
        ({"a..b": 1}, f"{P}['a..b']", "is no path"),
        ({1: 1}, P, "make it a str"),
        ({"a": []}, f"{P}.a", "an empty list.*name at least one value"),
        ({"a": {}}, f"{P}.a", "an empty test: write a value, or a mapping with atLeast"),
        ({"a": {"atleast": 1}}, f"{P}.a", "unknown word 'atleast': did you mean 'atLeast'"),
        ({"a": {">=": 1}}, f"{P}.a", "unknown word '>=': did you mean 'atLeast'"),
        ({"a": {"is": 1}}, f"{P}.a", "unknown word 'is': write the value itself"),
        ({"a": {"in": [1]}}, f"{P}.a", "unknown word 'in': write a list of values"),
        ({"a": {"total": 1}}, f"{P}.a", "unknown word 'total'.*write its path: 'a.total'"),
        ({"a.b": {"atLeast": True}}, f"{P}['a.b'].atLeast", "True has no order: compare with"),
        ({"a": {"moreThan": [1]}}, f"{P}.a.moreThan", r"\[1\] has no order"),
        ({"a": {"atMost": b"x"}}, f"{P}.a.atMost", "has no order"),
        ({"a": {"lessThan": None}}, f"{P}.a.lessThan", "None has no order"),
        ({"a": {"not": []}}, f"{P}.a.not", "an empty list"),
        ({"a": {"not": [1, [2]]}}, f"{P}.a.not[1]", r"expected None, a bool.*got \[2\]"),
        ({"a": [1, {"b": 2}]}, f"{P}.a[1]", "expected None, a bool"),
        ({"a": time(1)}, f"{P}.a", "expected None, a bool, number, text"),
        ({"a": {"given": 1}}, f"{P}.a.given", "expected true or false"),
        ({"a": {1, 2}}, f"{P}.a", "a sorted list"),
        ({"a": float("nan")}, f"{P}.a", "nan cannot be stored"),
        ({"a": [1, object()]}, f"{P}.a[1]", "cannot be stored"),
    ],
)
def test_refusals(written: Any, place: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        parse_where(P, written)
    assert caught.value.path == place
    assert str(caught.value).startswith(f"{place}: ")
