"""JSON from outside: whatever it is, it is read as everybody reads it, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers_web.intake.bodies import MAX_DEPTH, parse_body
from triggers_web.intake.errors import NotTaken

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(value=values, ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_every_json_is_read_as_it_is(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    body = text.encode("utf-8", "surrogatepass" if ascii_only else "replace")
    if depth_of(value) <= MAX_DEPTH:
        assert parse_body(body) == json.loads(body)


@given(body=st.binary() | st.text(alphabet='[]{}":,\\ 01eE+-.nulltrueNaI\n\ud800').map(
    lambda text: text.encode("utf-8", "surrogatepass")
))  # fmt: skip
def test_anything_is_read_or_refused(body: bytes) -> None:
    try:
        found = parse_body(body)
    except NotTaken as error:
        found = {400: "refused"}[error.status]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"payload=%7B%7D", "not JSON"),
        (b'{"a": 1} {"a": 2}', "not JSON"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'[{"x": {"a": 1, "\\u0061": 2}}]', "same key twice"),
        (b'{"a": NaN}', "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "too large"),
        (b"1" * 1_235, "digits"),
        (b"-" + b"1" * 5_000, "digits"),
        (b'"\xff"', "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        ("[]".encode("utf-16"), "UTF-8"),
        ("[]".encode("utf-32-le"), "not JSON"),
        (b"\xef\xbb\xbf[]", "not JSON"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "64 levels"),
        (b"[" * 1_000_000, "64 levels"),
        (b'{"a":' * 200_000, "64 levels"),
        (b'"' + b"\\" * 999_999, "not JSON"),
        (b'"[' * 300_000, "64 levels"),
        (b'"' + b"[" * 300_000, "64 levels"),
    ],
    ids=lambda each: each if isinstance(each, str) else repr(each[:12]),
)
def test_what_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(NotTaken, match=reason) as caught:
        parse_body(body)
    assert caught.value.status == 400
    assert len(caught.value.reason) < 100


def test_brackets_in_texts_do_not_count() -> None:
    text = "[" * 1_000 + '\\"' + "{" * 1_000
    assert parse_body(json.dumps({"a": text}).encode()) == {"a": text}
    assert depth_of(parse_body(b"[" * 64 + b"]" * 64)) == 64
    assert parse_body(b"[" + b"[]," * 1_000 + b"[]]") == [[]] * 1_001
