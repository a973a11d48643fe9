"""What kwargs may hold, and what of it becomes plain."""

from __future__ import annotations

import collections
import enum
import sys
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from payload_samples import (
    LIMITS,
    UTC_NOON,
    WIDE,
    Changing,
    Items,
    Level,
    Money,
    Number,
    Real,
    Stamp,
    View,
    Words,
    identical,
    kwargs,
    round_trip,
    widest,
    zone,
)

from triggers_core.exceptions import InvalidPayload
from triggers_core.payloads import decode, encode
from triggers_core.payloads import values as payload_values

# -- what is accepted ---------------------------------------------------------------------------


@given(kwargs)
def test_kwargs_come_back_identical(value: dict[str, Any]) -> None:
    data = encode(value, WIDE)

    assert identical(decode(data), value)
    assert encode(decode(data), WIDE) == data
    assert isinstance(msgspec.json.decode(data.decode("utf-8")), dict)


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.0, True, 0, 0.0, -0.0, False, "", "1", None),
        *(2**53 + 1, 1234567890123456789, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1),
        *(2**4096 - 1, -(2**4096) + 1),
        *(5e-324, 1.7976931348623157e308, 0.1, 1e16, 1e22, float(2**53)),
        *(Decimal("1.0"), Decimal("1.00"), Decimal("-0.00"), Decimal("1E+5"), Decimal("0E-10")),
        *(Decimal("1E+999999"), Decimal("1E-999999"), Decimal("1" * 500 + ".5")),
        *(timedelta.min, timedelta.max, timedelta.resolution, timedelta(0), -timedelta.resolution),
        *(date.min, date.max, datetime.min, datetime.max, time.min, time.max),
        *(datetime(2024, 10, 27), date(2024, 10, 27)),
        datetime(2024, 1, 1, fold=1),
        time(1, fold=1),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59, seconds=59))),
        datetime(1900, 1, 1, tzinfo=timezone(-timedelta(minutes=43, seconds=8, microseconds=1))),
        time(12, 30, 0, 1, tzinfo=timezone(-timedelta(microseconds=1))),
        *(b"", b"\0\xff", UUID(int=0), UUID(int=2**128 - 1)),
        *([], {}, [[]], [{}], {"a": {}}),
        *(
            "\0\x7f\x85\u2028\ufeff",
            "💻",
            '{"$',
            '"',
            "\\",
            "\udbff\udfff".encode("utf-16", "surrogatepass").decode("utf-16"),
        ),
        *({"$bytes": "AA=="}, {"$dict": {"$dict": {}}}, {"$": 1}, {"$a": 1, "$b": 2}),
        [{"$int": "0x1"}, {"$datetime": [1, {"$dict": b"x"}]}],
    ],
    ids=lambda value: repr(value)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_one_value_comes_back_identical(value: object) -> None:
    assert identical(round_trip(value), value)
    assert identical(round_trip([value, {"x": value}]), [value, {"x": value}])


def test_none_is_an_empty_payload() -> None:
    assert decode(encode(None, LIMITS)) == decode(encode({}, LIMITS)) == {}


def test_the_payload_itself_may_look_like_a_tag() -> None:
    for value in ({"$uuid": "x"}, {"$dict": {}}, {"$dict": {"$dict": 1}}, {"$new": [1]}):
        assert identical(decode(encode(value, LIMITS)), value)


def test_the_order_of_keys_is_kept() -> None:
    assert list(decode(encode({"b": 1, "a": b"x", "c": 3}, LIMITS))) == ["b", "a", "c"]


def test_a_zone_is_kept_with_its_rules() -> None:
    berlin = zone("Europe/Berlin")
    before, after = (datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))

    assert identical(round_trip(before), before)
    assert identical(round_trip(after), after)
    assert round_trip(before).utcoffset() - round_trip(after).utcoffset() == timedelta(hours=1)
    assert round_trip(after).tzinfo is berlin
    # The hour that does not exist, and a time of day, which has no offset.
    assert identical(round_trip(gap := datetime(2024, 3, 31, 2, 30, tzinfo=berlin)), gap)
    assert identical(round_trip(noon := time(12, tzinfo=berlin)), noon)


class Zone(ZoneInfo):
    """As the zones of pendulum."""


def test_a_subclass_in_the_hour_that_comes_twice() -> None:
    zone("Europe/Berlin")
    for fold in (0, 1):
        moment = Stamp(2024, 10, 27, 2, 30, tzinfo=Zone("Europe/Berlin"), fold=fold)

        back = round_trip(moment)

        assert identical(back, datetime(2024, 10, 27, 2, 30, tzinfo=back.tzinfo, fold=fold))
        assert back.utcoffset() == moment.utcoffset()
        assert str(back.tzinfo) == "Europe/Berlin"


def test_another_kind_of_zone_is_kept_as_its_offset() -> None:
    summer = datetime(2024, 7, 1, 12, tzinfo=Changing())

    back = round_trip(summer)

    assert back == summer
    assert back.replace(tzinfo=None) == summer.replace(tzinfo=None)
    assert back.tzinfo == timezone(timedelta(hours=2))


def test_the_instant_counts_where_a_zone_is_unknown_or_has_other_rules() -> None:
    zone("Europe/Berlin")
    stored = '{"a":{"$datetime":["2024-07-01T12:00:00+05:00",0,"%s"]}}'
    there = datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=5)))

    assert identical(decode((stored % "Europe/Berlin").encode())["a"], there)
    assert identical(decode((stored % "Atlantis/Capital").encode())["a"], there)
    assert identical(decode((stored % "../etc/passwd").encode())["a"], there)
    with pytest.raises(InvalidPayload, match="Atlantis/Capital"):  # a time of day has no instant
        decode(b'{"a":{"$time":["12:00:00",0,"Atlantis/Capital"]}}')


def test_int_digits_are_no_matter() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert round_trip(widest) == widest
    finally:
        sys.set_int_max_str_digits(before)


def test_decimals_do_not_depend_on_the_context() -> None:
    value = Decimal("1.23456789012345678901234567890E+40")
    with localcontext() as context:
        context.prec = 3
        assert identical(round_trip(value), value)


# -- what is normalised -------------------------------------------------------------------------


class Colour(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Raw(bytes):
    pass


class Id(UUID):
    def __str__(self) -> str:
        return "shown"


class Day(date):
    pass


class Hour(time):
    pass


class Span(timedelta):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((), []),
        ((1, (2, b"3")), [1, [2, b"3"]]),
        (Point(1, 2), [1, 2]),
        (Items([1, (2,)]), [1, [2]]),
        (collections.OrderedDict(a=(1,)), {"a": [1]}),
        (collections.defaultdict(list, a=(1,)), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
        (View({"$a": (1,)}), {"$a": [1]}),
        (View({}), {}),
        ({Words("key"): Words("text")}, {"key": "text"}),
        ({"a": 1, Colour.RED: b"x"}, {"a": 1, "red": b"x"}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (enum.IntFlag("Flags", "A B").B, 2),
        (Number(7), 7),
        (Number(2**100), 2**100),
        (Real(-0.0), -0.0),
        (Raw(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"abcdef"), b"abcdef"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (Money("1.50"), Decimal("1.50")),
        (Id(int=5), UUID(int=5)),
        (Stamp(2024, 7, 1, 12, 0, 0, 5, tzinfo=UTC), UTC_NOON),
        (Stamp(2024, 7, 1, fold=1), datetime(2024, 7, 1, fold=1)),
        (Day(2024, 7, 1), date(2024, 7, 1)),
        (Hour(1, 2, tzinfo=UTC), time(1, 2, tzinfo=UTC)),
        (Span(1, 2, 3), timedelta(1, 2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_and_relatives_become_plain(value: object, plain: object) -> None:
    assert identical(round_trip(value), plain)
    assert identical(round_trip([value]), [plain])


@pytest.mark.parametrize("make", [dict, collections.OrderedDict, types.MappingProxyType, View])
def test_any_mapping_is_a_payload(make: Callable[[dict[str, int]], Mapping[str, int]]) -> None:
    assert identical(decode(encode(make({"a": 1}), LIMITS)), {"a": 1})


def test_the_callers_value_is_not_changed() -> None:
    inner = [1, (2,), {"x": b"y", Words("k"): 1}]
    value = {"a": inner, "$b": UTC_NOON}

    encode(value, LIMITS)

    assert value == {"a": inner, "$b": UTC_NOON}
    assert value["a"] is inner
    assert inner == [1, (2,), {"x": b"y", "k": 1}]
    assert type(list(inner[2])[1]) is Words  # type: ignore[call-overload]


def test_classes_that_a_test_tool_replaced_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_values, "datetime", Stamp)  # as freezegun does
    monkeypatch.setattr(payload_values, "date", Day)

    for value in (UTC_NOON, UTC_NOON.date(), Stamp(2024, 7, 1), Day(2024, 7, 1)):
        back = round_trip(value)
        assert back == value
        assert type(back) in (datetime, date)
