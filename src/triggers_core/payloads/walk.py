"""The walk over a payload before it is encoded: it checks, normalises, tags and escapes."""

from __future__ import annotations

from math import isfinite
from typing import Any

from triggers_core.exceptions import is_time_limit
from triggers_core.payloads.refusals import Refused, TooDeep, TooLarge, a_kind
from triggers_core.payloads.values import TAGS, fails, plain_value
from triggers_core.texts import short_repr

ESCAPE = "$dict"
"""The tag of a real dict that would be read as a tag."""

CHANGED = "changed while it was read; pass a copy"
"""Why a payload is refused that another thread, or a value's own method, is still changing."""

_MAX_PLAIN_INT = 0xFFFF_FFFF_FFFF_FFFF  # beyond 64 bits, JSON parsers start to differ
_MIN_PLAIN_INT = -0x8000_0000_0000_0000

# The walk. Each function returns what to encode (the very object that it was given, if nothing in
# it needs a change) and the room that is left. `room` counts bytes. What is taken from it never
# exceeds what will be encoded, so that no valid payload is refused; the exact size is checked at
# the end. A container takes the least that its items can need (quotes, commas…) on entry,
# before it looks at any: so the work is bounded even where one list appears a million times.


def walk_dict(source: dict[Any, Any], levels: int, room: int) -> tuple[dict[str, Any], int]:
    """Walk a dict that may hold `levels` levels of containers, itself included."""
    at_entry = room
    room -= 5 * len(source)
    if room < 0:
        raise TooLarge(room)
    if levels < 1:
        raise TooDeep(source)
    result = source
    key: Any = ""
    try:
        for key, value in source.items():
            if type(key) is not str:
                break
            room -= len(key)
            kind = type(value)
            if kind is str:
                room -= len(value)
            elif not (
                value is None
                or kind is bool
                or (kind is int and _MIN_PLAIN_INT <= value <= _MAX_PLAIN_INT)
            ):
                new, room = walk(value, levels - 1, room)
                if new is not value:
                    if result is source:
                        result = source.copy()
                    result[key] = new
    except Refused as refused:
        refused.passes(source, key)
        raise
    except RuntimeError as error:
        if isinstance(error, RecursionError):
            raise
        raise Refused(CHANGED) from error
    if type(key) is not str:
        return walk_dict(_with_plain_keys(source), levels, at_entry)
    return (escaped(result) if len(source) == 1 else result), room


def _walk_list(source: list[Any] | tuple[Any, ...], levels: int, room: int) -> tuple[Any, int]:
    room -= 2 * len(source)
    if room < 0:
        raise TooLarge(room)
    if levels < 1:
        raise TooDeep(source)
    result: Any = source
    index, size = 0, len(source)
    try:
        for index, value in enumerate(source):
            kind = type(value)
            if kind is str:
                room -= len(value)
            elif not (
                value is None
                or kind is bool
                or (kind is int and _MIN_PLAIN_INT <= value <= _MAX_PLAIN_INT)
            ):
                new, room = walk(value, levels - 1, room)
                if len(source) != size:
                    raise Refused(CHANGED)
                if new is not value:
                    if result is source:
                        result = list(source)
                    result[index] = new
    except Refused as refused:
        refused.passes(source, index)
        raise
    return result, room


def walk(value: Any, levels: int, room: int) -> tuple[Any, int]:
    """Walk any value; see above for what is returned."""
    kind = type(value)
    if kind is int:
        if _MIN_PLAIN_INT <= value <= _MAX_PLAIN_INT:
            return value, room
    elif kind is dict:
        return walk_dict(value, levels, room)
    elif kind is list or kind is tuple:
        return _walk_list(value, levels, room)
    elif kind is float:
        if isfinite(value):
            return value, room
        raise Refused(f"{value} cannot be stored; pass None or a finite number")
    elif kind is str:
        return value, room - len(value)
    elif kind is bool or value is None:
        return value, room
    if (tagged := TAGS.get(kind)) is None:
        return walk(plain_value(value, room), levels, room)
    if kind is bytes and len(value) > room:
        raise TooLarge(room - len(value))
    tag, store = tagged
    try:
        stored = store(value)
    except Refused:
        raise
    except Exception as error:  # in a tzinfo of the application's own
        if is_time_limit(error):
            raise
        raise fails(value, error) from error
    room -= len(stored)
    if room < 0:
        raise TooLarge(room)
    return {tag: stored}, room


def escaped(node: dict[str, Any]) -> dict[str, Any]:
    """Mark a real dict that would be read as a tag."""
    return {ESCAPE: node} if len(node) == 1 and next(iter(node)).startswith("$") else node


def _with_plain_keys(source: dict[Any, Any]) -> dict[str, Any]:
    for key in source:
        if not isinstance(key, str):
            raise Refused(f"the key {short_repr(key)} is {a_kind(key)}; make it a str")
    result = {str.__str__(key): value for key, value in source.items()}
    if len(result) < len(source):
        raise Refused("two keys are the same text; keep one of them")
    return result
