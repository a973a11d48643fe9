"""How deep and how large kwargs may be, and that no value makes it cost more to say so."""

from __future__ import annotations

import enum
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from payload_samples import (
    LARGE,
    LIMITS,
    UTC_NOON,
    WIDE,
    Level,
    Words,
    at_every_depth,
    kwargs,
    nested,
)

from triggers_core.exceptions import LimitExceeded
from triggers_core.limits import Limits
from triggers_core.payloads import encode


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
