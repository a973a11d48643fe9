"""Kwargs of every kind, and values that are odd in one way each, for the tests of payloads."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import strategies as st

from triggers_core.limits import Limits
from triggers_core.payloads import decode, encode

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


class Changing(tzinfo):
    """A zone of the application's own: 1 hour, but 2 in the summer."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return moment and timedelta(hours=2 if 3 < moment.month < 11 else 1)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "changing"


class Level(enum.IntEnum):
    HIGH = 3


class Words(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


class Number(int):
    def __int__(self) -> int:
        return 0


class Real(float):
    pass


class Money(Decimal):
    def __str__(self) -> str:
        return "10 crowns"


class Stamp(datetime):
    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return "shown"


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


class Shade(enum.Enum):
    DARK = 1


class BrokenZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise OSError("no such file")


class BrokenMapping(View):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("closed")


class BrokenClass:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("broken")


def nested(levels: int) -> dict[str, Any]:
    """Return kwargs of this many levels, lists and dicts in turn."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"x": value}
    return {"a": value}


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
