"""Kwargs as people edit them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from payload_samples import identical, kwargs

from triggers_core.limits import Limits
from triggers_web.pages.editing import Unreadable, as_text, check, from_text


@given(kwargs)
def test_what_is_not_changed_comes_back_the_same(value: dict[str, Any]) -> None:
    assert identical(from_text(as_text(value, secrets=True), {}, secrets=True), value)
    assert identical(from_text(as_text(value), value), value)


def test_what_is_masked_is_kept() -> None:
    stored = {
        "paid": {"amount": 4, "card": {"token": "tok_1"}, "url": "redis://:pw@host/0"},
        "items": [{"secret": b"s"}, {"secret": Decimal("1.0")}],
    }
    text = as_text(stored)
    assert "tok_1" not in text
    assert ":pw" not in text
    edited = json.loads(text)
    edited["paid"]["amount"] = 5
    found = from_text(json.dumps(edited), stored)
    assert found == {**stored, "paid": {**stored["paid"], "amount": 5}}
    assert identical(found["items"], stored["items"])


@pytest.mark.parametrize(
    ("edited", "place"),
    [
        ({"other": "***"}, r"kwargs\['other'\]"),
        ({"card": {"token": {"inner": "***"}}}, r"kwargs\['card'\]\['token'\]\['inner'\]"),
        ({"url": "redis://:***@elsewhere/0"}, r"kwargs\['url'\]"),
        ({"list": ["***"]}, r"kwargs\['list'\]\[0\]"),
    ],
)
def test_a_mask_stands_for_nothing_elsewhere(edited: dict[str, Any], place: str) -> None:
    stored = {"card": {"token": "tok_1"}, "url": "redis://:pw@host/0"}
    with pytest.raises(Unreadable, match=f"{place}: .* stands for a value"):
        from_text(json.dumps(edited), stored)


def test_small_changes_count() -> None:
    stored = {"a": 1, "b": Decimal("1.0"), "c": datetime(2026, 1, 1, tzinfo=UTC), "token": "x"}
    text = as_text(stored).replace('"a": 1', '"a": true').replace('"1.0"', '"1.00"')
    found = from_text(text, stored)
    assert found["a"] is True
    assert str(found["b"]) == "1.00"
    assert found["token"] == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is not JSON"),
        ("[]", "has to be an object"),
        ("{'a': 1}", r"not JSON \(line 1, column 2\)"),
        ('{"a": 1, "a": 2}', "same key twice"),
        ('{"a": NaN}', "NaN, which is not JSON"),
        ('{"a": {"$nothing": 1}}', "unknown tag"),
        ('{"a": {"$date": "yesterday"}}', "cannot be read"),
        ('{"a": {"$decimal": []}}', "cannot be read"),
        ('{"$decimal": "1"}', "cannot be read"),
        ("[" * 5_000, "nested more than"),
        ('{"a": ' + "9" * 9_999 + "}", "digits"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        from_text(text, {}, secrets=True)


def test_the_place_of_what_cannot_be_stored() -> None:
    limits = Limits(kwargs_bytes=100)
    with pytest.raises(Unreadable, match="kwargs_bytes is 100"):
        check({"a": "x" * 200}, limits)
    text = '{"paid": {"note": "\\ud800"}}'
    with pytest.raises(Unreadable, match=r"kwargs\['paid'\]\['note'\]"):
        check(from_text(text, {}, secrets=True), Limits())
