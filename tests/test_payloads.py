from __future__ import annotations

import collections
import enum
import itertools
import re
import sys
import tracemalloc
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers_core.exceptions import InvalidPayload, LimitExceeded, TriggersError
from triggers_core.limits import Limits
from triggers_core.payloads import decode, encode, encode_leniently, merge, same
from triggers_core.payloads import values as payload_values

LIMITS = Limits()
WIDE = Limits(kwargs_bytes=10_000_000, kwargs_depth=100)


def zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError:
        pytest.skip(f"this machine does not know the time zone {key}")


def known_zones() -> list[tzinfo]:
    found: list[tzinfo] = []
    for key in ("Europe/Berlin", "America/New_York", "Pacific/Apia", "Africa/Monrovia", "UTC"):
        try:
            found.append(ZoneInfo(key))
        except ZoneInfoNotFoundError:
            continue
    return found


def round_trip(value: Any) -> Any:
    return decode(encode({"value": value}, WIDE))["value"]


def identical(a: Any, b: Any) -> bool:
    """Whether two values are equal and of the same type, at every level."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, (datetime, time)):
        return (
            a == b
            and repr(a.replace(tzinfo=None)) == repr(b.replace(tzinfo=None))
            and a.utcoffset() == b.utcoffset()
            and type(a.tzinfo) is type(b.tzinfo)
            and str(a.tzinfo) == str(b.tzinfo)
        )
    return bool(a == b) and repr(a) == repr(b)  # repr tells 0.0 from -0.0 and 1.0 from 1.00


widest = 2**4096 - 1
offsets = st.timedeltas(
    timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1)
).map(timezone)
zones = st.none() | offsets | st.just(UTC) | st.sampled_from([*known_zones(), None])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-widest, widest),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.builds(datetime.replace, st.datetimes(timezones=zones), fold=st.integers(0, 1)),
    st.dates(),
    st.builds(time.replace, st.times(timezones=zones), fold=st.integers(0, 1)),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)
keys = st.text() | st.sampled_from(
    ["$dict", "$bytes", "$datetime", "$int", "$decimal", "$unknown", "$", "", "…"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10
)
kwargs = st.dictionaries(keys, values, max_size=4)


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


class Changing(tzinfo):
    """A zone of the application's own: 1 hour, but 2 in the summer."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return moment and timedelta(hours=2 if 3 < moment.month < 11 else 1)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "changing"


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


class Level(enum.IntEnum):
    HIGH = 3


class Colour(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Words(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


class Number(int):
    def __int__(self) -> int:
        return 0


class Real(float):
    pass


class Raw(bytes):
    pass


class Money(Decimal):
    def __str__(self) -> str:
        return "10 crowns"


class Id(UUID):
    def __str__(self) -> str:
        return "shown"


class Stamp(datetime):
    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return "shown"


class Day(date):
    pass


class Hour(time):
    pass


class Span(timedelta):
    pass


class Items(list[Any]):
    pass


class View(Mapping[str, Any]):
    def __init__(self, data: dict[Any, Any]) -> None:
        self.data = data

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


UTC_NOON = datetime(2024, 7, 1, 12, 0, 0, 5, tzinfo=UTC)


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


# -- what is refused ----------------------------------------------------------------------------


class Shade(enum.Enum):
    DARK = 1


class NoOffset(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None


class BrokenZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise OSError("no such file")


class Precise(datetime):
    """As the datetime of pandas: it knows more than a datetime, and is not equal to one."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


class BrokenMapping(View):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("closed")


class BrokenClass:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("broken")


# What is refused, and what the message says of it.
REFUSED: dict[str, tuple[object, str]] = {
    "set": ({1}, "a set cannot be stored; pass a sorted list"),
    "frozenset": (frozenset(), "a frozenset cannot be stored; pass a sorted list"),
    "dict keys": ({}.keys(), "a dict_keys cannot be stored; pass a sorted list"),
    "lambda": (lambda: 1, "a function cannot be stored; pass a name"),
    "class": (dict, "a type cannot be stored; pass a name"),
    "enum": (Shade.DARK, "a Shade cannot be stored; pass its .value"),
    "iterator": (iter([1]), "a list_iterator cannot be stored; pass a list of its items"),
    "deque": (collections.deque([1]), "a deque cannot be stored; pass a list of its items"),
    "range": (range(3), "a range cannot be stored; pass a list of its items"),
    "object": (object(), "an object cannot be stored; pass one of None, bool, int"),
    "complex": (1j, "a complex cannot be stored; pass one of"),
    "error": (ValueError("x"), "a ValueError cannot be stored; pass one of"),
    "no name": (type("", (), {})(), "cannot be stored; pass one of"),
    "nan": (float("nan"), "nan cannot be stored; pass None or a finite number"),
    "inf": (float("inf"), "inf cannot be stored"),
    "-inf": (float("-inf"), "-inf cannot be stored"),
    "nan subclass": (Real("nan"), "nan cannot be stored"),
    "Decimal NaN": (Decimal("NaN"), "the Decimal NaN cannot be stored"),
    "Decimal sNaN": (Decimal("sNaN"), "the Decimal sNaN cannot be stored"),
    "Decimal inf": (Decimal("-Infinity"), "the Decimal -Infinity cannot be stored"),
    "Decimal subclass": (Money("NaN"), "cannot be stored"),
    "int": (2**4096, "an int of 4,097 bits; the widest has 4,096"),
    "negative int": (-(2**4096), "an int of 4,097 bits"),
    "int subclass": (Number(2**4096), "an int of 4,097 bits"),
    "surrogate": ("a\ud800", "the str holds a lone surrogate"),
    "surrogate subclass": (Words("\udfff"), "the str holds a lone surrogate"),
    "int key": ({3: 1}, "the key 3 is an int; make it a str"),
    "None key": ({"a": 1, None: 1}, "the key None is a NoneType; make it a str"),
    "bytes key": ({b"a": 1}, "the key b'a' is a bytes; make it a str"),
    "tuple key": ({("a", 1): 1}, "the key ('a', 1) is a tuple; make it a str"),
    "enum key": ({Shade.DARK: 1}, "the key <Shade.DARK: 1> is a Shade; make it a str"),
    "mapping's key": (View({3: 1}), "the key 3 is an int; make it a str"),
    "surrogate key": ({"\ud800": 1}, r"the key '\ud800' holds a lone surrogate"),
    "escaped surrogate key": ({"$\ud800": 1}, r"the key '$\ud800' holds a lone surrogate"),
    "no offset": (datetime(2024, 1, 1, tzinfo=NoOffset()), "a datetime whose tzinfo gives no"),
    "time's offset": (time(1, tzinfo=Changing()), "a time whose tzinfo gives no offset"),
    "broken zone": (datetime(2024, 1, 1, tzinfo=BrokenZone()), "a datetime that raises OSError"),
    "broken mapping": (BrokenMapping({"a": 1}), "a BrokenMapping that raises RuntimeError"),
    "broken class": (BrokenClass(), "a BrokenClass that raises RuntimeError when it is read"),
    "precise": (Precise(2024, 1, 1), "a Precise loses its value as a datetime; convert it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_path_to_it(case: str) -> None:
    value, reason = REFUSED[case]
    for kwargs, path in (
        ({"a": value}, "kwargs['a']"),
        ({"a": [1, b"x", {}, value]}, "kwargs['a'][3]"),
        (
            {"z": 1, "a b": ({"$dict": [0, {"x": value, "y": 2}]},)},
            "kwargs['a b'][0]['$dict'][1]['x']",
        ),
        (View({"v": View({"it's": value})}), """kwargs['v']["it's"]"""),
    ):
        with pytest.raises(InvalidPayload) as caught:
            encode(kwargs, LIMITS)

        assert caught.value.path == path
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)


def test_errors_are_what_users_would_catch() -> None:
    for kind in (TriggersError, TypeError, ValueError):
        with pytest.raises(kind):
            encode({"a": {1}}, LIMITS)


def test_the_path_starts_with_what_the_payload_is() -> None:
    with pytest.raises(InvalidPayload, match=re.escape("result['a']: a set")) as caught:
        encode({"a": {1}}, LIMITS, "result")
    assert caught.value.path == "result['a']"
    with pytest.raises(LimitExceeded, match=r"^result: "):
        encode({"a": "x" * 100_000}, LIMITS, "result")


@pytest.mark.parametrize("value", [3, "text", ["a"], [("a", 1)], {1}, b"{}", True, object(), ()])
def test_the_payload_must_be_a_mapping(value: Any) -> None:
    with pytest.raises(InvalidPayload, match=r"kwargs: expected a mapping, got an? \w+; pass a d"):
        encode(value, LIMITS)


def test_bad_keys_of_the_payload_itself() -> None:
    with pytest.raises(InvalidPayload, match=r"kwargs: the key 3 is an int"):
        encode({3: 1}, LIMITS)  # type: ignore[dict-item]
    with pytest.raises(InvalidPayload, match=r"kwargs: the key .* holds a lone surrogate"):
        encode({"\ud800": 1}, LIMITS)


class Twin(str):
    """A str that is never equal to another."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_keys_that_become_equal() -> None:
    with pytest.raises(InvalidPayload, match=re.escape("kwargs['a']: two keys are the same text")):
        encode({"a": {Twin("x"): 1, Twin("x"): 2}}, LIMITS)


def test_the_cause_is_chained() -> None:
    with pytest.raises(InvalidPayload) as caught:
        encode({"a": datetime(2024, 1, 1, tzinfo=BrokenZone())}, LIMITS)
    assert isinstance(caught.value.__cause__, OSError)


def test_messages_show_no_values() -> None:
    secret = "hunter2"
    for value in ({secret}, [lambda: secret], ValueError(secret), secret + "\ud800"):
        with pytest.raises(InvalidPayload) as caught:
            encode({"password": value}, LIMITS)
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__)


# -- limits -------------------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    """Return kwargs of this many levels, lists and dicts in turn."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"x": value}
    return {"a": value}


def test_depth() -> None:
    limits = Limits(kwargs_depth=5)
    assert encode(nested(5), limits)

    for levels in (6, 7, 1_000, 100_000):
        with pytest.raises(LimitExceeded) as caught:
            encode(nested(levels), limits)
        assert re.fullmatch(
            r"kwargs\['a'\](\[0\]|\['x'\]){4}: nested 6 levels deep or more, but the limit "
            r"kwargs_depth is 5; flatten it or raise the limit",
            str(caught.value),
        )


def test_scalars_are_no_level() -> None:
    assert encode({"a": UTC_NOON, "b": 2**70}, Limits(kwargs_depth=1))
    with pytest.raises(LimitExceeded):
        encode({"a": []}, Limits(kwargs_depth=1))


def test_circular_references() -> None:
    kwargs: dict[str, Any] = {}
    kwargs["a"] = [0, {"self": kwargs}]
    with pytest.raises(LimitExceeded, match=r"circular reference.*limit kwargs_depth is 32") as one:
        encode(kwargs, LIMITS)
    # One turn from any point in the circle, not 32 levels.
    assert len(str(one.value).split(":")[0]) < 60

    items: list[Any] = []
    items.append(items)
    with pytest.raises(LimitExceeded, match=re.escape("kwargs['a']['b'][0]: a circular")):
        encode({"a": {"b": items}}, LIMITS)


def at_every_depth(call: Callable[[], Any]) -> tuple[int, list[Any]]:
    """Call with ever less stack left, until there is none; return how deep that went."""

    def down(frames: int) -> Any:
        return down(frames - 1) if frames else call()

    results: list[Any] = []
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        for frames in range(500):
            results.append(down(frames))
    except RecursionError:
        pass
    finally:
        sys.setrecursionlimit(limit)
    return len(results), results


def test_no_recursion_error_however_little_stack_is_left() -> None:
    deep = nested(1_000)

    def refused() -> str:
        try:
            encode(deep, WIDE)
        except LimitExceeded as error:
            return str(error)
        return ""

    least, _ = at_every_depth(lambda: "")
    frames, messages = at_every_depth(refused)

    assert least - frames < 5
    assert "nested 101 levels deep or more" in messages[0]
    assert "nested too deeply for what is left of Python's stack" in messages[-1]
    assert all(messages)


def test_size_is_exact() -> None:
    size = len(encode({"a": "é\n" * 100, "b": [1, 2.5, b"x", None]}, LIMITS))

    assert encode({"a": "é\n" * 100, "b": [1, 2.5, b"x", None]}, Limits(kwargs_bytes=size))
    with pytest.raises(LimitExceeded) as caught:
        encode({"a": "é\n" * 100, "b": [1, 2.5, b"x", None]}, Limits(kwargs_bytes=size - 1))
    assert f"kwargs: {size} bytes encoded" in str(caught.value)
    assert f"the limit kwargs_bytes is {size - 1};" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"": 1},
        {"": {"": {"": {"": 1, "a": 2}}}},
        {"": [1, 2, 3, [], [4], ""]},
        {Words(""): {Words(""): {Words("a"): 1}}},
        {"": Level.HIGH, "a": enum.IntFlag("Flags", "A B C D")(15)},
    ],
    ids=repr,
)
def test_the_smallest_values_fit_exactly(value: dict[str, Any]) -> None:
    size = len(encode(value, LIMITS))

    assert encode(value, Limits(kwargs_bytes=size))


@given(kwargs)
def test_size_is_never_overestimated(value: dict[str, Any]) -> None:
    data = encode(value, WIDE)

    assert encode(value, Limits(kwargs_bytes=len(data), kwargs_depth=100)) == data
    with pytest.raises(LimitExceeded, match=rf"{len(data) - 1:,}; store"):
        encode(value, Limits(kwargs_bytes=len(data) - 1, kwargs_depth=100))


def shared(item: Any, levels: int = 20) -> Any:
    """Return what is small in memory, and has 10 ** levels items when it is written out."""
    for _ in range(levels):
        item = [item] * 10
    return item


LARGE: dict[str, Callable[[], Any]] = {
    "str": lambda: "x" * 10_000_000,
    "str subclass": lambda: Words("x" * 10_000_000),
    "bytes": lambda: b"x" * 10_000_000,
    "bytearray": lambda: bytearray(10_000_000),
    "memoryview": lambda: memoryview(bytes(10_000_000)),
    "list": lambda: [None] * 1_000_000,
    "list of lists": lambda: [[]] * 1_000_000,
    "list subclass": lambda: Items([None] * 1_000_000),
    "dict": lambda: dict.fromkeys(map(str, range(500_000))),
    "mapping": lambda: View(dict.fromkeys(map(str, range(500_000)))),
    "key": lambda: {"x" * 10_000_000: 1},
    "one str often": lambda: ["x" * 1_000] * 10_000,
    "one int often": lambda: [2**4_000] * 10_000,
    "one Decimal often": lambda: [Decimal("1" * 5_000)] * 10_000,
    "one bytes often": lambda: [b"x" * 10_000] * 10_000,
    "one list often": lambda: shared("x"),
    "one dict often": lambda: shared({"a": "x" * 1_000}),
    "one empty list often": lambda: shared([]),
}


@pytest.mark.parametrize("case", LARGE)
def test_large_payloads_cost_no_memory(case: str) -> None:
    value = {"a": LARGE[case]()}

    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded) as caught:
            encode(value, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    found = re.fullmatch(
        r"kwargs: at least ([\d,]+) bytes encoded, but the limit kwargs_bytes is 65,536; store .*",
        str(caught.value),
    )
    assert found is not None
    assert int(found.group(1).replace(",", "")) > 65_536
    assert peak < 1_000_000


# -- decode, same -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'{"a":',
        b'{"a":\xff}',
        b'{"$uuid":"x"}',
        b'{"$uuid":"8b8a9ad9-8a3b-4b0f-a1f7-2bd6f9a9e0a5"}',  # a payload is a mapping
        b'{"a":{"$uuid":3}}',
        b'{"a":{"$decimal":"x"}}',
        b'{"a":{"$bytes":"x"}}',
        b'{"a":{"$int":1}}',
        b'{"a":{"$datetime":["x"]}}',
        b'{"a":{"$timedelta":[1e99,0,0]}}',
        b'{"a":{"$dict":3}}',
    ],
)
def test_damaged_payloads(data: bytes) -> None:
    with pytest.raises(InvalidPayload, match="a stored payload cannot be read"):
        decode(data)


def test_a_tag_of_a_newer_version() -> None:
    with pytest.raises(InvalidPayload, match=r"unknown tag '\$new'.*update this one"):
        decode(b'{"a":[{"$new":1}]}')


def test_payloads_are_the_same_in_any_order() -> None:
    a = {"a": [1, {"x": b"1", "y": {"$p": 1, "$q": 2}}], "$b": UTC_NOON}
    b = {"$b": UTC_NOON, "a": [1, {"y": {"$q": 2, "$p": 1}, "x": b"1"}]}

    assert encode(a, LIMITS) != encode(b, LIMITS)
    assert same(encode(a, LIMITS), encode(b, LIMITS))


@given(kwargs)
def test_a_payload_is_the_same_reversed(value: dict[str, Any]) -> None:
    def turned(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: turned(node[key]) for key in reversed(node)}
        return [turned(item) for item in node] if isinstance(node, list) else node

    assert same(encode(value, WIDE), encode(turned(value), WIDE))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0, None),
        (1, "1"),
        (1, Decimal(1)),
        (Decimal("1.0"), Decimal("1.00")),
        ("x", b"x"),
        ([1, 2], [2, 1]),
        ([], {}),
        ({"$bytes": "eA=="}, b"x"),
        (date(2024, 7, 1), datetime(2024, 7, 1)),
        (UTC_NOON, UTC_NOON.replace(tzinfo=None)),
        ({"a": 1}, {"a": 1, "b": None}),
    ],
)
def test_payloads_that_are_not_the_same(a: object, b: object) -> None:
    assert not same(encode({"x": a}, LIMITS), encode({"x": b}, LIMITS))


# -- merge --------------------------------------------------------------------------------------


def test_merge() -> None:
    under = {"a": {"x": {"p": 1, "q": [1]}, "y": 1}, "b": [1, 2], "c": {"z": 1}, "d": 1}
    over = {"a": {"x": {"q": [2], "r": 3}}, "b": [3], "c": 5, "d": {"n": 1}, "e": None}

    assert merge(under, over) == {
        "a": {"x": {"p": 1, "q": [2], "r": 3}, "y": 1},
        "b": [3],
        "c": 5,
        "d": {"n": 1},
        "e": None,
    }


def test_merge_of_other_mappings() -> None:
    under = types.MappingProxyType({"a": types.MappingProxyType({"x": 1, "y": 1})})

    assert identical(merge(under, View({"a": View({"y": 2})})), {"a": {"x": 1, "y": 2}})


def test_merge_shares_nothing() -> None:
    under = {"a": {"x": [1, {"deep": []}]}, "only": {"under": [1]}}
    over = {"a": {"y": [[2]]}, "b": {"z": [3]}}
    before = repr((under, over))

    merged = merge(under, over)
    merged["a"]["x"][1]["deep"].append(1)
    merged["a"]["x"].clear()
    merged["a"]["y"][0].clear()
    merged["a"]["new"] = 1
    merged["only"]["under"].clear()
    merged["b"]["z"].append(1)

    assert repr((under, over)) == before


@given(kwargs, kwargs)
def test_merge_lets_over_win(under: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(under, over)

    assert merged.keys() == under.keys() | over.keys()
    assert identical(merge(merged, over), merged)
    assert identical(merge({}, over), over)
    assert identical(merge(under, {}), under)
    for key, value in over.items():
        if not isinstance(value, dict):
            assert identical(merged[key], value)


# -- encode leniently ---------------------------------------------------------------------------


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError("broken")


class BrokenName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("broken")


class Hopeless(metaclass=BrokenName):
    def __repr__(self) -> str:
        raise RuntimeError("broken")


class BrokenLength(list[Any]):
    def __len__(self) -> int:
        return -1


class Endless(View):
    def __init__(self) -> None:
        super().__init__({})

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            yield str(number := number + 1)

    def __getitem__(self, key: str) -> Any:
        return self

    def __len__(self) -> int:
        return sys.maxsize


class SurrogateRepr:
    def __repr__(self) -> str:
        return "\ud800"


class BrokenItem(View):
    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)


def circle() -> Any:
    items: list[Any] = []
    items.append({"items": items, "again": (items,)})
    return items


class Odd(NamedTuple):
    """Stands for an object that Hypothesis itself could not show."""

    name: str


ODD: dict[str, Callable[[], object]] = {
    "broken repr": BrokenRepr,
    "broken class": BrokenClass,
    "hopeless": Hopeless,
    "surrogate repr": SurrogateRepr,
    "endless": Endless,
    "broken length": lambda: BrokenLength([1]),
    "broken mapping": lambda: BrokenMapping({"a": 1}),
    "broken item": lambda: BrokenItem({"a": 1}),
    "broken zone": lambda: datetime(2024, 1, 1, tzinfo=BrokenZone()),
    "circle": circle,
    "shared": lambda: shared("x"),
    "huge int": lambda: 10**5000,
    "long text": lambda: "x" * 5_000,
    "long bytes": lambda: b"x" * 5_000,
    "set": lambda: {1, 2},
    "function": lambda: len,
    "error": lambda: ValueError("x"),
    "enum": lambda: Shade.DARK,
    "subclass": lambda: Words("x"),
    "range": lambda: range(10**9),
}
odd = st.sampled_from(sorted(ODD)).map(Odd)
surrogates = st.text(st.characters())
numbers = st.floats() | st.decimals() | st.complex_numbers()
odd_keys = st.one_of(
    surrogates,
    st.integers(),
    st.none(),
    st.tuples(st.integers()),
    st.just(Odd("broken repr")),
    st.sampled_from(["$a", "$dict", "…", "k" * 3_000]),
)
anything = st.recursive(
    scalars | numbers | surrogates | odd,
    lambda inner: st.lists(inner) | st.dictionaries(odd_keys, inner),
    max_leaves=10,
)


def planted(node: Any) -> Any:
    if isinstance(node, Odd):
        return ODD[node.name]()
    if isinstance(node, dict):
        return {planted(key): planted(value) for key, value in node.items()}
    return [planted(item) for item in node] if isinstance(node, list) else node


@given(anything, st.integers(-5, 3_000))
def test_recording_a_failure_never_fails(value: object, max_bytes: int) -> None:
    data = encode_leniently(planted(value), max_bytes)

    assert len(data) <= max(max_bytes, 2)
    assert type(decode(data)) is dict


@pytest.mark.parametrize("case", ODD)
def test_what_is_beside_an_odd_value_is_kept(case: str) -> None:
    shown = lenient({"page": 1, "odd": ODD[case](), "last": 2}, 4_000)

    assert shown.pop("page") == 1
    assert shown.pop("last") == 2
    assert list(shown) == ["odd"]


@given(st.dictionaries(keys, scalars | st.lists(scalars) | st.dictionaries(keys, scalars)))
def test_what_can_be_stored_is_kept(value: dict[str, Any]) -> None:
    assert identical(decode(encode_leniently(value, 10_000_000)), value)


def lenient(value: object, max_bytes: int = 2_000) -> dict[str, Any]:
    data = encode_leniently(value, max_bytes)
    assert len(data) <= max_bytes
    return decode(data)


def test_what_cannot_be_stored_is_described() -> None:
    shown = lenient(
        {
            "nan": float("nan"),
            "set": {1},
            "error": ValueError("no such page"),
            "text": "a\ud800b",
            "\udfff": 1,
            3: "int",
            None: "None",
            "broken": BrokenRepr(),
            "hopeless": Hopeless(),
            "wide": 10**5000,
            "level": Level.HIGH,
            "page": 3,
        }
    )

    assert shown.pop("broken").startswith("<BrokenRepr instance at 0x")
    assert "Hopeless object at 0x" in shown.pop("hopeless")
    assert shown == {
        "nan": "nan",
        "set": "{1}",
        "error": "ValueError('no such page')",
        "text": "a\\ud800b",
        "\\udfff": 1,
        "3": "int",
        "None": "None",
        "wide": "<int of 16,610 bits>",
        "level": 3,
        "page": 3,
    }


def test_keys_that_look_alike_are_all_kept() -> None:
    assert lenient({1: "a", "1": "b"}) == {"1": "a", "1 (1)": "b"}


def test_the_top_level_is_always_a_dict() -> None:
    assert lenient(None) == lenient({}) == {}
    assert lenient(3) == {"value": 3}
    assert lenient(b"x") == {"value": b"x"}
    assert lenient("text") == {"value": "text"}
    assert lenient([1, (2,)]) == {"value": [1, [2]]}
    assert lenient({"$a": 1}) == {"$a": 1}
    assert "BrokenMapping" in lenient(BrokenMapping({"a": 1}))["value"]
    assert "BrokenClass" in lenient(BrokenClass())["value"]


def test_long_texts_are_cut_before_short_ones() -> None:
    shown = lenient({"page": "first", "sql": "SELECT" + "x" * 1_000_000 + "LIMIT 1", "n": 5}, 500)

    assert shown["page"] == "first"
    assert shown["n"] == 5
    assert re.fullmatch("SELECTx+…x+LIMIT 1", shown["sql"])
    assert len(shown["sql"]) > 200


def test_long_collections_are_cut_at_their_end() -> None:
    shown = lenient({"page": 1, "rows": list(range(1_000)), "cells": dict.fromkeys("abc")}, 500)

    assert shown["page"] == 1
    assert shown["cells"] == {"a": None, "b": None, "c": None}
    kept = len(shown["rows"]) - 1
    assert shown["rows"] == [*range(kept), f"… {1_000 - kept} more"]
    assert kept > 20

    many = lenient({str(n): "x" * 20 for n in range(1_000)}, 500)
    assert many.pop("…") == f"{1_000 - len(many)} more"
    assert len(many) > 2


def test_deep_and_circular_contexts_are_abridged() -> None:
    text = str(lenient({"a": circle(), "deep": nested(1_000)}))

    assert "… a list of 1" in text or "… a dict of" in text


@pytest.mark.parametrize("case", LARGE)
def test_large_contexts_cost_little(case: str) -> None:
    value = {"a": LARGE[case](), "page": 3}

    tracemalloc.start()
    try:
        data = encode_leniently(value, 16_384)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(data) <= 16_384
    assert decode(data)["page"] == 3
    assert peak < 3_000_000


def test_recording_a_failure_needs_next_to_no_stack() -> None:
    value = {"a": nested(30), "b": BrokenRepr()}

    def nothing(value: object, max_bytes: int) -> bytes:
        return b"{}"

    least, _ = at_every_depth(lambda: nothing(value, 1_000))
    frames, results = at_every_depth(lambda: encode_leniently(value, 1_000))

    assert least - frames < 5
    assert {type(decode(data)) for data in results} == {dict}
    assert b"{}" in results
    assert len(set(results)) > 2


# -- values whose methods lie ----------------------------------------------------------------------


class Endless(Mapping[str, Any]):
    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())

    def __getitem__(self, key: str) -> Any:
        return 1


class EndlessKey(Endless):
    def __iter__(self) -> Iterator[str]:
        return itertools.repeat("a")


class EndlessList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.count()


class EndlessTuple(tuple[Any, ...]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.count()


class Negative(list[Any]):
    def __len__(self) -> int:
        return -1


class LongText(str):
    def __len__(self) -> int:
        return 0


LYING = [Endless(), EndlessKey(), EndlessList([1]), EndlessTuple([1])]


@pytest.mark.parametrize("value", LYING, ids=lambda value: type(value).__name__)
def test_what_does_not_end_is_read_as_far_as_its_len(value: Any) -> None:
    with pytest.raises(InvalidPayload, match=r"^kwargs\['rows'\]: an? Endless\w* that goes on"):
        encode({"rows": value}, Limits())
    assert len(encode_leniently({"rows": value}, 1_000)) <= 1_000


def test_lengths_that_lie() -> None:
    with pytest.raises(InvalidPayload, match=r"raises ValueError when it is read"):
        encode({"rows": Negative()}, Limits())
    with pytest.raises(LimitExceeded):
        encode({"text": LongText("x" * 100_000)}, Limits())
    with pytest.raises(InvalidPayload, match=r"^kwargs: an Endless that goes on"):
        encode(Endless(), Limits())


def test_what_changes_while_it_is_read_is_refused() -> None:
    rows: list[Any] = []

    class Grows(Mapping[str, Any]):
        def __len__(self) -> int:
            rows.append(Grows())
            return 0

        def __iter__(self) -> Iterator[str]:
            return iter(())

        def __getitem__(self, key: str) -> Any:
            raise KeyError(key)

    rows.append(Grows())
    with pytest.raises(InvalidPayload, match=r"^kwargs\['rows'\]\[0\]: changed while it was read"):
        encode({"rows": rows}, Limits())
    table: dict[str, Any] = {}

    class Adds(Grows):
        def __len__(self) -> int:
            table["more"] = 1
            return 0

    table["first"] = Adds()
    with pytest.raises(InvalidPayload, match=r"^kwargs\['table'\]: changed while it was read"):
        encode({"table": table}, Limits())


class Form(dict[str, Any]):
    """As Django's QueryDict: it stores lists, and shows the last value."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)[-1]

    def getlist(self, key: str) -> Any:
        return super().__getitem__(key)


class Lazy:
    """As Django's lazy translations."""

    def __str__(self) -> str:
        return "x"

    def splitlines(self) -> list[str]:
        return ["x"]

    def upper(self) -> str:
        return "X"

    def __iter__(self) -> Iterator[str]:
        return iter("x")


class Upload:
    size = 1

    def read(self) -> bytes:
        return b""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b""])


@dataclass
class Point:
    x: int


HINTS = [
    (Form(a=["1", "2"]), "several values under one key; pass a plain dict"),
    (Lazy(), r"pass str\(\) of it"),
    (Upload(), r"pass its name, or what it holds: read\(\)"),
    (Point(1), r"pass dataclasses.asdict\(\) of it"),
    ((each for each in "ab"), "pass a list of its items"),
]


@pytest.mark.parametrize(("value", "hint"), HINTS, ids=lambda each: type(each).__name__)
def test_hints_say_what_to_pass(value: Any, hint: str) -> None:
    with pytest.raises(InvalidPayload, match=hint):
        encode({"a": value}, Limits())


def test_an_overridden_item_is_what_a_reader_would_see() -> None:
    class Shouts(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            return super().__getitem__(key).upper()

    assert decode(encode({"a": Shouts(b="c")}, Limits())) == {"a": {"b": "C"}}
