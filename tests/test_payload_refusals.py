"""What kwargs may not hold: the path to it, what to pass in its place, and values that lie."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from payload_samples import (
    LIMITS,
    BrokenClass,
    BrokenMapping,
    BrokenZone,
    Changing,
    Money,
    Number,
    Real,
    Shade,
    View,
    Words,
)

from triggers_core.exceptions import InvalidPayload, LimitExceeded, TriggersError
from triggers_core.limits import Limits
from triggers_core.payloads import decode, encode, encode_leniently

# -- what is refused ----------------------------------------------------------------------------


class NoOffset(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None


class Precise(datetime):
    """As the datetime of pandas: it knows more than a datetime, and is not equal to one."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


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
