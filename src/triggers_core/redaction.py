"""Masking of secrets, by key and in URLs, for everything that people read: settings, logs, errors.

It is the last line of defence. Values under telling keys and passwords in URLs are masked; a secret
under an innocent key is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

MASK: Final = "***"

SECRET_KEYS: Final = (
    "passw(or)?d",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api[-_ ]?key",
    "private[-_ ]?key",
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
# key=value: the query of a URL, or a connection string such as libpq's.
_ASSIGNMENT = re.compile(
    rf"((?:{SECRET_KEY.pattern})[\w.-]{{0,40}}\s?=\s?)('[^']*'|\"[^\"]*\"|[^&;,\s]+)",
    re.IGNORECASE,
)


def mask_url(text: str) -> str:
    """Mask passwords in URLs and connection strings, anywhere in a text.

    Example::

        mask_url("redis://user:s3cret@host/0")  # 'redis://user:***@host/0'
    """
    if "://" in text:
        text = _USERINFO.sub(rf"\1:{MASK}@", text)
        text = _BROKEN_USERINFO.sub(rf"\1:{MASK}@", text)
    if "=" in text:
        text = _ASSIGNMENT.sub(lambda match: match[1] + MASK, text)
    return text


def mask(value: Any, secret: re.Pattern[str] = SECRET_KEY) -> Any:
    """A copy of plain data with its secrets masked.

    :param value: mappings, lists and tuples are walked, texts go through `mask_url`, and anything
        else is returned as it is.
    :param secret: the keys whose values are masked, found with `search`; None stays None.

    Example::

        mask({"url": "redis://:pw@host", "api_key": "k"})
        # {'url': 'redis://:***@host', 'api_key': '***'}
    """
    return _mask(value, secret, 0)


def _mask(value: Any, secret: re.Pattern[str], depth: int) -> Any:
    if isinstance(value, str):
        return mask_url(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth == _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            key: MASK
            if each is not None and isinstance(key, str) and secret.search(key)
            else _mask(each, secret, depth + 1)
            for key, each in value.items()
        }
    return [_mask(each, secret, depth + 1) for each in value]
