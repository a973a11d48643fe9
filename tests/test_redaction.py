"""Secrets are masked, by key and in URLs; everything else stays readable."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.redaction import SECRET_KEYS, key_pattern, mask, mask_url

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
    # No secrets in these.
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
    "credentials",
]


@pytest.mark.parametrize("key", KEYS)
def test_mask_by_key(key: str) -> None:
    data = {"outer": [{key: ["anything"], "other": 1}]}
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
