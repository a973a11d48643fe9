"""The codec of payloads: kwargs of events and results of tasks, to bytes and back, unchanged.

`decode(encode(kwargs, limits))` equals `kwargs`, with the same type at every level, on every
storage and runner. What could not come back like that is refused, with the path to it, before
anything is stored. `encode_leniently` does the opposite, for the contexts of errors and logs: it
takes anything and keeps what it can.

The bytes are UTF-8 JSON. A value that JSON lacks is an object with one key, its *tag*, such as
``{"$uuid": "…"}``. A real dict of one key that starts with `$` is escaped: ``{"$dict": {…}}``.
(No encoder does this by itself: msgspec turns Decimal, UUID and datetimes into strings, sets
into lists and NaN into null, all silently. Hence the walk before it.)
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import msgspec

from triggers_core.exceptions import InvalidPayload, LimitExceeded
from triggers_core.limits import Limits
from triggers_core.payloads.lenient import encode_leniently
from triggers_core.payloads.refusals import Refused, TooLarge, a_kind, path_to
from triggers_core.payloads.values import LOADERS, MAX_INT_BITS, plain_value
from triggers_core.payloads.walk import CHANGED, ESCAPE, walk_dict
from triggers_core.texts import short_repr

__all__ = [
    "MAX_INT_BITS",
    "decode",
    "decoder_of",
    "digest",
    "encode",
    "encode_leniently",
    "merge",
    "same",
]

_to_json = msgspec.json.Encoder().encode
_to_sorted_json = msgspec.json.Encoder(order="deterministic").encode
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


def encode(value: Mapping[str, Any] | None, limits: Limits, path: str = "kwargs") -> bytes:
    """Check and normalise a payload and return it as bytes, for `decode`.

    Tuples become lists; other mappings become dicts; bytearray and memoryview become bytes;
    subclasses (IntEnum, StrEnum, OrderedDict, namedtuple…) become the plain type. An aware
    datetime or time keeps its offset from UTC, its `fold`, and its zone if that is a `ZoneInfo`.

    Time and memory are bounded by the limits, however large, deep, circular or endless `value` is.
    Mappings that hold several values under one key (forms, queries) are refused.

    :param value: the payload; None means an empty one. It is never changed.
    :param limits: `kwargs_bytes` and `kwargs_depth` apply.
    :param path: what messages call the payload (`kwargs`, `result`).
    :raises InvalidPayload: something in it cannot be stored; `path` names the place.
    :raises LimitExceeded: it is too large or nested too deeply.

    Example::

        encode({"page": 1, "total": Decimal("9.90")}, Limits())
    """
    if value is None:
        return b"{}"
    most = limits.kwargs_bytes
    payload: Any = value
    try:
        if type(payload) is not dict:
            payload = _top_level(payload, most)
        payload, room = walk_dict(payload, limits.kwargs_depth, most)
        if room < 0:
            raise TooLarge(room)
        data = _to_json(payload)
    except TooLarge as refused:
        size = f"at least {most - refused.room:,}"
    except Refused as refused:
        raise refused.error(path, limits) from refused.__cause__
    except UnicodeEncodeError:
        raise _surrogate_error(payload, path) from None
    except RecursionError:  # deep within other calls, or a huge kwargs_depth
        raise LimitExceeded(
            f"{path}: nested too deeply for what is left of Python's stack; flatten it"
        ) from None
    except (RuntimeError, TypeError, ValueError) as error:  # after the walk has seen it
        raise InvalidPayload(f"{path}: {CHANGED}", path) from error
    else:
        if len(data) <= most:
            return data
        size = f"{len(data):,}"
    raise LimitExceeded(
        f"{path}: {size} bytes encoded, but the limit kwargs_bytes is {most:,}; "
        "store large data elsewhere and pass a reference to it, or raise the limit"
    )


def _top_level(value: object, room: int) -> dict[Any, Any]:
    plain = plain_value(value, room) if isinstance(value, Mapping) else None
    if type(plain) is not dict:
        raise Refused(f"expected a mapping, got {a_kind(value)}; pass a dict with str keys")
    return plain


def _surrogate_error(node: Any, root: str) -> InvalidPayload:
    """Say where in a walked payload the text is that has no UTF-8, and so failed to encode."""
    keys: list[object] = []
    what = "the str"
    while type(node) is not str:
        if type(node) is dict:
            node = node.get(ESCAPE, node) if len(node) == 1 else node
            if wrong := [key for key in node if not _has_utf8(key)]:
                what = f"the key {short_repr(wrong[0])}"
                break
        pairs = node.items() if type(node) is dict else enumerate(node)
        key, node = next((key, value) for key, value in pairs if not _has_utf8(value))
        keys.append(key)
    path = path_to(root, iter(keys))
    fix = "decode it with the right encoding, or pass bytes"
    return InvalidPayload(f"{path}: {what} holds a lone surrogate, which is no text; {fix}", path)


def _has_utf8(node: object) -> bool:
    try:
        _to_json(node)
    except UnicodeEncodeError:
        return False
    return True


_UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


def decode(data: bytes) -> dict[str, Any]:
    """Return the payload that `encode` or `encode_leniently` wrote.

    A zone that this machine does not know, or knows by other rules, is replaced by the offset
    that was recorded: the instant counts.

    :raises InvalidPayload: the bytes are damaged or hold the tag of a newer version.

    Example::

        decode(b'{"id": {"$uuid": "8b8a9ad9-8a3b-4b0f-a1f7-2bd6f9a9e0a5"}}')
    """
    try:
        payload: dict[str, Any] = _from_json(data)
        # msgspec writes no spaces and escapes quotes in texts, so every tag looks like this.
        if b'{"$' in data and type(payload := _restore(payload)) is not dict:
            raise TypeError("not a mapping")
        return payload
    except InvalidPayload:
        raise
    except (msgspec.DecodeError, *_UNREADABLE) as error:
        raise InvalidPayload(
            f"a stored payload cannot be read: {error}; restore it, or add a missing time zone "
            "with the distribution tzdata"
        ) from error


def decoder_of(names: Iterable[str]) -> Callable[[bytes], dict[str, Any]]:
    """Return a `decode` that needs only some of the values at the top, and may leave out the rest.

    What is not read costs next to nothing, however large it is.

    Example::

        decoder_of(["page"])(b'{"page":1,"answers":["yes","no"]}')["page"]  # 1
    """
    wanted: Any = TypedDict("Kwargs", dict.fromkeys(names, Any), total=False)  # type: ignore[misc]
    from_json: Any = msgspec.json.Decoder(wanted).decode

    def decode_some(data: bytes) -> dict[str, Any]:
        if b'{"$' in data:  # a tag, maybe of the whole
            return decode(data)
        try:
            found: dict[str, Any] = from_json(data)
            return found
        except msgspec.DecodeError:
            return decode(data)  # says what is wrong

    return decode_some


def _restore(node: Any) -> Any:
    """Replace the tags in a parsed payload, in place, and return it."""
    if type(node) is dict:
        if len(node) == 1:
            [(key, stored)] = node.items()
            if key == ESCAPE:
                node = stored
            elif key.startswith("$"):
                if key not in LOADERS:
                    raise InvalidPayload(
                        f"a stored payload has the unknown tag {short_repr(key)}; "
                        "a newer version wrote it: update this one"
                    )
                return LOADERS[key](stored)
        for key, value in node.items():
            if type(value) is dict or type(value) is list:
                node[key] = _restore(value)
    else:
        for index, value in enumerate(node):
            if type(value) is dict or type(value) is list:
                node[index] = _restore(value)
    return node


def same(a: bytes, b: bytes) -> bool:
    """Return whether two encoded payloads mean the same; only the order of keys may differ.

    1, 1.0 and True are different, as are `Decimal("1.0")` and `Decimal("1.00")`, and one instant
    in two zones.

    Example::

        same(b'{"a":1,"b":2}', b'{"b":2,"a":1}')  # True
    """
    # Tags have one key each, so sorting leaves them alone.
    return a == b or _to_sorted_json(_from_json(a)) == _to_sorted_json(_from_json(b))


def digest(data: bytes) -> bytes:
    """A digest of what an encoded payload means: equal for payloads that are `same`; 22 letters.

    Example::

        digest(b'{"a":1,"b":2}') == digest(b'{"b":2,"a":1}')  # True
    """
    plain = _to_sorted_json(_from_json(data))
    return urlsafe_b64encode(hashlib.sha256(plain).digest()[:16]).rstrip(b"=")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two payloads, dicts within dicts recursively; otherwise `over` wins.

    The result shares no dict or list with either, so that a task may change its kwargs.

    Example::

        merge({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}})  # {"a": {"x": 1, "y": 2}}
    """
    merged = {key: _copy(value) for key, value in under.items()}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = _copy(value)
    return merged


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return merge(value, {})
    return [_copy(item) for item in value] if isinstance(value, (list, tuple)) else value
