"""Secrets are masked, by key and in URLs; everything else stays readable."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.redaction import SECRET_KEYS, key_pattern, mask, mask_objects, mask_url

URLS = [
    ("redis://:pw@host/0", "redis://:***@host/0"),
    ("redis://user:p@ss@host:6379/0", "redis://user:***@host:6379/0"),
    ("redis://:pa/ss@host/0", "redis://:***@host/0"),
    ("redis://:p#a/s@s@host", "redis://:***@host"),
    ("to amqp://a:b@h1;amqp://c:d@h2 now", "to amqp://a:***@h1;amqp://c:***@h2 now"),
    ("redis://host/0?password=pw&db=1", "redis://host/0?password=***&db=1"),
    ("host=db password='p w' user=me", "host=db password=*** user=me"),
    ("api-key = k1, x = 2", "api-key = ***, x = 2"),
    ("redis://:@host", "redis://:***@host"),
    # Headers and printed data.
    ("Authorization: Bearer abc, next", "Authorization: ***"),
    ("curl -H 'authorization: Basic abc' -v", "curl -H 'authorization: ***' -v"),
    ("Set-Cookie: a=b; Path=/\nx", "Set-Cookie: ***\nx"),
    ("sent Bearer abcdefghijklmnop==", "sent Bearer ***"),
    ("{'password': 'p w', 'x': 1}", "{'password': ***, 'x': 1}"),
    ('{"api_key": "k", "x": 1}', '{"api_key": ***, "x": 1}'),
    ("{'tokens': ['a', 'b'], 'x': 1}", "{'tokens': ***, 'x': 1}"),
    (r"""Login(user='a', password='it\'s', n=1)""", "Login(user='a', password=***, n=1)"),
    ("{b'cookie': b'a'}", "{b'cookie': ***}"),
    ('secret="cut in its mid', "secret=***"),
    ('ValueError("token=t")', 'ValueError("token=***")'),
    ("AWS_SECRET_ACCESS_KEY=a/b+c", "AWS_SECRET_ACCESS_KEY=***"),
    # No secrets in these.
    ("if token == other", "if token == other"),
    ("Basic authentication failed", "Basic authentication failed"),
    ("t_x.token: expected a text", "t_x.token: expected a text"),
    ("the 'secret' is out", "the 'secret' is out"),
    ("redis://host:6379/0", "redis://host:6379/0"),
    ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ("http://host:8080/x?mail=a@b", "http://host:8080/x?mail=a@b"),
    ("redis://user:pw@host/0?mail=a@b", "redis://user:***@host/0?mail=a@b"),
    ("token ring", "token ring"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "masked"), URLS)
def test_mask_url(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked


KEYS = [
    *("password", "PASSWORD", "db_password", "passwd", "passphrase", "Authorization"),
    *("client_secret", "token", "accessToken", "api_key", "apiKey", "X-Api-Key", "private_key"),
    *("credentials", "Cookie", "access_key", b"authorization"),
]


@pytest.mark.parametrize("key", KEYS)
def test_mask_by_key(key: str | bytes) -> None:
    data: dict[str, Any] = {"outer": [{key: ["anything"], "other": 1}]}
    assert mask(data) == {"outer": [{key: "***", "other": 1}]}
    assert data["outer"][0][key] == ["anything"], "a copy"


def test_mask_leaves_the_rest() -> None:
    thing = object()
    assert mask({"key": thing, "idempotency_key": "k", 5: "x", "n": None, "password": None}) == {
        "key": thing,
        "idempotency_key": "k",
        5: "x",
        "n": None,
        "password": None,
    }
    assert mask(("a", 1)) == ["a", 1]


def test_mask_takes_other_patterns() -> None:
    pattern = key_pattern([*SECRET_KEYS, "^iban$"])
    assert mask({"iban": "DE00", "libanon": 1, "token": "t"}, pattern) == {
        "iban": "***",
        "libanon": 1,
        "token": "***",
    }


def test_mask_ends_on_circles() -> None:
    circle: dict[str, Any] = {"password": "pw"}
    circle["self"] = circle
    assert "pw" not in repr(mask(circle))


def test_mask_objects_shows_objects_with_secrets_as_text() -> None:
    harmless, error = object(), ValueError("token=t")
    shown = mask_objects({"a": harmless, "b": [error], "c": b"token=t", "d": {"token=t"}, "n": 1})
    assert shown == {
        "a": harmless,
        "b": ["ValueError('token=***')"],
        "c": "b'token=***'",
        "d": "{'token=***'}",
        "n": 1,
    }
    assert mask({"b": error}) == {"b": error}, "plain data only"


class TalksDifferently:
    def __repr__(self) -> str:
        return "<a login>"

    def __str__(self) -> str:
        return "token=t"


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_mask_objects_looks_at_both_texts_and_survives_broken_ones() -> None:
    assert mask_objects([TalksDifferently()]) == ["<a login>"]
    assert "Speechless object" in mask_objects([Speechless()])[0]


def test_other_patterns_hold_in_texts_too() -> None:
    pattern = key_pattern([*SECRET_KEYS, r"\biban\b"])
    assert mask({"text": "iban=DE00 token=t"}, pattern) == {"text": "iban=*** token=***"}
    assert mask_url("iban=DE00") == "iban=DE00"
