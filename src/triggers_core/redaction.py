"""Masking of secrets, by key and in texts, for everything that people read: settings, logs, errors.

It is the last line of defence. Values under telling keys and passwords in URLs are masked; a secret
under an innocent key is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"

SECRET_KEYS: Final = (
    "passw(or)?d",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "cookie",
    "(api|access|private)[-_ ]?key",
    "credential",
)
"""Regular expressions, searched in keys, whatever their case: the names under which secrets are
kept in settings, HTTP headers and connection strings (after what log collectors redact)."""

_MAX_DEPTH: Final = 32  # as deep as kwargs may be (`Limits.kwargs_depth`); also ends cycles


def key_pattern(patterns: Iterable[str]) -> re.Pattern[str]:
    """Compile patterns such as `SECRET_KEYS` into the one that `mask` takes.

    Example::

        mask(data, key_pattern([*SECRET_KEYS, "iban"]))
    """
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


SECRET_KEY: Final = key_pattern(SECRET_KEYS)

# user:password@ of a URL. The authority of a URL ends at the first / ? or #, and its last @ ends
# the password.
_USERINFO = re.compile(r"(?<=://)([^:@/?#\s\[]*):([^/?#\s]*)@")
# A password with an unescaped / ? or # in it is no valid URL, and must not be shown all the same.
# A port looks alike: digits, then the path. Bounded, so that no text makes it slow.
_BROKEN_USERINFO = re.compile(r"(?<=://)([^:@/?#\s\[]*):(?!\*\*\*@|\d{1,5}[/?#])(\S{0,300})@")
# An HTTP header, up to the end of its line or of the text in quotes that it is part of.
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)(\s?:\s?)([^\s\"'][^\r\n\"']*)", re.IGNORECASE
)
# The credentials of one, wherever they are. As short as this, they could be an ordinary word.
_SCHEME = re.compile(r"\b(bearer|basic)(\s+)([\w.~+/-]{16,}=*)", re.IGNORECASE)

# A text in quotes as Python and JSON write it (perhaps cut), what brackets hold, or a word.
_VALUE: Final = (
    r"""[bru]{0,2}(?:"(?:\\.|[^"\\\n])*(?:"|$)|'(?:\\.|[^'\\\n])*(?:'|$))"""
    r"|\[[^\]\n]*\]|\{[^}\n]*\}|\([^)\n]*\)|[^&;,\s]*[^&;,\s\"')\]}]"
)


@lru_cache(maxsize=64)
def _pair(secret: re.Pattern[str]) -> re.Pattern[str]:
    """Matches a telling key and its value in a text.

    ``key=value``: the query of a URL, a connection string such as libpq's, the `repr` of an object.
    ``"key": value``: JSON, and the `repr` of a mapping.
    """
    return re.compile(
        rf"((?:{secret.pattern})[\w.-]{{0,40}}(?:\s?=(?!=)\s?|\\?[\"']\s?:\s?))(?:{_VALUE})",
        re.IGNORECASE | re.MULTILINE,
    )


def mask_url(text: str, secret: re.Pattern[str] = SECRET_KEY) -> str:
    """Mask passwords in URLs, connection strings, headers and printed data, anywhere in a text.

    :param secret: the keys whose values are masked, as in `mask`.

    Example::

        mask_url("redis://user:s3cret@host/0")  # 'redis://user:***@host/0'
    """
    if "://" in text:
        text = _USERINFO.sub(rf"\1:{MASK}@", text)
        text = _BROKEN_USERINFO.sub(rf"\1:{MASK}@", text)
    if secret.search(text):
        text = _pair(secret).sub(lambda match: match[1] + MASK, text)
        text = _HEADER.sub(rf"\1\2{MASK}", text)
    return _SCHEME.sub(rf"\1\2{MASK}", text)


def mask(value: Any, secret: re.Pattern[str] = SECRET_KEY) -> Any:
    """A copy of plain data with its secrets masked.

    :param value: mappings, lists and tuples are walked, texts go through `mask_url`, and anything
        else is returned as it is.
    :param secret: the keys whose values are masked, found with `search`; None stays None.

    Example::

        mask({"url": "redis://:pw@host", "api_key": "k"})
        # {'url': 'redis://:***@host', 'api_key': '***'}
    """
    return _mask(value, secret, 0, False)


def mask_objects(value: Any, secret: re.Pattern[str] = SECRET_KEY) -> Any:
    """As `mask`, for what is about to be shown: objects whose text has secrets become that text.

    Example::

        mask_objects({"login": Login(password="pw")})  # {'login': "Login(password=***)"}
    """
    return _mask(value, secret, 0, True)


def _mask(value: Any, secret: re.Pattern[str], depth: int, objects: bool) -> Any:
    if isinstance(value, str):
        return mask_url(value, secret)
    if not isinstance(value, Mapping | list | tuple):
        return _object(value, secret) if objects else value
    if depth == _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            key: MASK
            if each is not None and _is_secret(key, secret)
            else _mask(each, secret, depth + 1, objects)
            for key, each in value.items()
        }
    return [_mask(each, secret, depth + 1, objects) for each in value]


def _is_secret(key: object, secret: re.Pattern[str]) -> bool:
    if isinstance(key, bytes):  # the headers of ASGI and of some clients
        key = key.decode("latin-1")
    return isinstance(key, str) and secret.search(key) is not None


def _object(value: Any, secret: re.Pattern[str]) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    try:
        text, other = repr(value), str(value)
    except Exception:  # whoever shows it will fail: its type must do
        return object.__repr__(value)
    masked = mask_url(text, secret)
    return value if masked == text and mask_url(other, secret) == other else masked
