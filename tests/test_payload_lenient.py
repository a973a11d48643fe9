"""What is kept of values that cannot be stored: recording a failure never fails."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payload_samples import (
    LARGE,
    BrokenClass,
    BrokenMapping,
    BrokenZone,
    Level,
    Shade,
    View,
    Words,
    at_every_depth,
    identical,
    keys,
    nested,
    scalars,
    shared,
)

from triggers_core.payloads import decode, encode_leniently


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
