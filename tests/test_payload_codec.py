"""Reading payloads back, whether two are the same, and one merged under another."""

from __future__ import annotations

import types
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from payload_samples import LIMITS, UTC_NOON, WIDE, View, identical, kwargs

from triggers_core.exceptions import InvalidPayload
from triggers_core.payloads import decode, decoder_of, encode, merge, same

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


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"b": 2},
        {"a": 1, "b": {"a": [1, 2.5, None, True]}, "c": "text"},
        {"a": {"b": {"c": "é"}}, "class": 1, "a b": 2, '"': 3, "": 4},
        {"a": Decimal("1.10"), "b": 1},
        {"a": 1, "b": Decimal("1.10")},
        {"$dict": {"a": 1}},
        {"a": {"$x": 1}},
        {"a": 'a text with {"$decimal": in it'},
        {"a": 2**70, "b": 1e300},
    ],
    ids=repr,
)
def test_only_some_values_are_read_as_they_are_by_decode(payload: dict[str, Any]) -> None:
    data = encode(payload, LIMITS)
    for names in ([], ["a"], ["a", "class", "a b", '"', "absent"], ["$dict"]):
        read = decoder_of(names)(data)
        whole = decode(data)
        for name in names:
            assert (name in read) == (name in whole)
            if name in whole:
                assert read[name] == whole[name]
                assert type(read[name]) is type(whole[name])


def test_reading_some_values_of_a_damaged_payload_says_what_decode_says() -> None:
    for data in (b'{"a":1', b"[1]", b'{"a":{"$new":1}}'):
        with pytest.raises(InvalidPayload) as some:
            decoder_of(["a"])(data)
        with pytest.raises(InvalidPayload) as whole:
            decode(data)
        assert str(some.value) == str(whole.value)
