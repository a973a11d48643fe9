"""JSON from outside: bounded, and of one meaning only."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, Final

from triggers_web.intake.errors import NotTaken

MAX_DEPTH: Final = 64
"""Levels of lists and objects in a body: twice what the kwargs of an event may have by default."""
_MAX_DIGITS: Final = 1_234
"""Digits of 4,096 bits, the largest integer that kwargs may hold."""

# Strings are passed over whole, so that brackets in them do not count. The possessive quantifier
# keeps an unterminated string from being tried again at every length.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def parse_body(body: bytes) -> Any:
    """The JSON value that a body is.

    :raises NotTaken: 400: it is not UTF-8, no JSON, nested too deeply, has a key twice in one
        object, or numbers that Python and others would read in different ways (NaN, 1e999).

    Example::

        parse_body(b'{"id": "evt_1"}')  # {'id': 'evt_1'}
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong("the body is not UTF-8") from None
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _wrong(f"the body is not JSON ({place})") from None


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = text[token.start()]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _wrong(f"the body is nested more than {MAX_DEPTH} levels deep")
        elif sign in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _wrong("an object in the body has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise _wrong(f"the body holds {name}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise _wrong(f"a number in the body has more than {_MAX_DIGITS:,} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _wrong("a number in the body is too large")
    return number


def _wrong(reason: str) -> NotTaken:
    return NotTaken(400, "malformed", reason)
