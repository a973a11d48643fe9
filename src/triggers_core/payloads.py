"""Payloads: the kwargs of events and the results of tasks, to bytes and back, unchanged.

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

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import islice
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from triggers_core.exceptions import InvalidPayload, LimitExceeded
from triggers_core.limits import Limits
from triggers_core.names import short_repr

MAX_INT_BITS = 4_096
"""Width of the widest int: as wide as the widest keys and hashes in common use."""

_ESCAPE = "$dict"
_MAX_PLAIN_INT = 0xFFFF_FFFF_FFFF_FFFF  # beyond 64 bits, JSON parsers start to differ
_MIN_PLAIN_INT = -0x8000_0000_0000_0000
_ALLOWED = (
    "None, bool, int, float, str, list, dict, bytes, datetime, date, time, timedelta, "
    "Decimal or UUID"
)

_to_json = msgspec.json.Encoder().encode
_to_sorted_json = msgspec.json.Encoder(order="deterministic").encode
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


# -- encode -------------------------------------------------------------------------------------


def encode(value: Mapping[str, Any] | None, limits: Limits, path: str = "kwargs") -> bytes:
    """Check and normalise a payload and return it as bytes, for `decode`.

    Tuples become lists; other mappings become dicts; bytearray and memoryview become bytes;
    subclasses (IntEnum, StrEnum, OrderedDict, namedtuple…) become the plain type. An aware
    datetime or time keeps its offset from UTC, its `fold`, and its zone if that is a `ZoneInfo`.

    Time and memory are bounded by the limits, however large, deep or circular `value` is.

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
        payload, room = _walk_dict(payload, limits.kwargs_depth, most)
        if room < 0:
            raise _TooLarge(room)
        data = _to_json(payload)
    except _TooLarge as refused:
        size = f"at least {most - refused.room:,}"
    except _Refused as refused:
        raise refused.error(path, limits) from refused.__cause__
    except UnicodeEncodeError:
        raise _surrogate_error(payload, path) from None
    except RecursionError:  # deep within other calls, or a huge kwargs_depth
        raise LimitExceeded(
            f"{path}: nested too deeply for what is left of Python's stack; flatten it"
        ) from None
    else:
        if len(data) <= most:
            return data
        size = f"{len(data):,}"
    raise LimitExceeded(
        f"{path}: {size} bytes encoded, but the limit kwargs_bytes is {most:,}; "
        "store large data elsewhere and pass a reference to it, or raise the limit"
    )


class _Refused(Exception):
    """Why a value is refused; collects the way to it while the walk unwinds, innermost first."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.keys: list[object] = []

    def passes(self, source: object, key: object) -> None:
        self.keys.append(key)

    def error(self, root: str, limits: Limits) -> InvalidPayload | LimitExceeded:
        path = _path(root, reversed(self.keys))
        return InvalidPayload(f"{path}: {self.reason}", path)


class _TooLarge(_Refused):
    """There is less room than needed: by `-room` bytes or more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room


class _TooDeep(_Refused):
    """`held` is nested too deeply, perhaps because it holds itself."""

    def __init__(self, held: object) -> None:
        super().__init__()
        self.held = held
        self.turn = 0  # keys in one turn of the circle

    def passes(self, source: object, key: object) -> None:
        super().passes(source, key)
        if source is self.held:  # show the way into the circle and one turn, not all of them
            self.turn = self.turn or len(self.keys)
            del self.keys[: -self.turn]

    def error(self, root: str, limits: Limits) -> LimitExceeded:
        path = _path(root, reversed(self.keys))
        most = limits.kwargs_depth
        if self.turn:
            reason, fix = "a circular reference, endlessly nested", "remove it"
        else:
            reason, fix = f"nested {most + 1} levels deep or more", "flatten it or raise the limit"
        return LimitExceeded(f"{path}: {reason}, but the limit kwargs_depth is {most}; {fix}")


def _path(root: str, keys: Iterator[object]) -> str:
    return root + "".join(f"[{short_repr(key)}]" for key in keys)


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _top_level(value: object, room: int) -> dict[Any, Any]:
    plain = _plain(value, room) if isinstance(value, Mapping) else None
    if type(plain) is not dict:
        raise _Refused(f"expected a mapping, got {_a(value)}; pass a dict with str keys")
    return plain


# The walk. Each function returns what to encode (the very object that it was given, if nothing in
# it needs a change) and the room that is left. `room` counts bytes. What is taken from it never
# exceeds what will be encoded, so that no valid payload is refused; the exact size is checked at
# the end. A container takes the least that its items can need (quotes, commas…) on entry,
# before it looks at any: so the work is bounded even where one list appears a million times.


def _walk_dict(source: dict[Any, Any], levels: int, room: int) -> tuple[dict[str, Any], int]:
    at_entry = room
    room -= 5 * len(source)
    if room < 0:
        raise _TooLarge(room)
    if levels < 1:
        raise _TooDeep(source)
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
                new, room = _walk(value, levels - 1, room)
                if new is not value:
                    if result is source:
                        result = source.copy()
                    result[key] = new
    except _Refused as refused:
        refused.passes(source, key)
        raise
    if type(key) is not str:
        return _walk_dict(_with_plain_keys(source), levels, at_entry)
    return (_escaped(result) if len(source) == 1 else result), room


def _walk_list(source: list[Any] | tuple[Any, ...], levels: int, room: int) -> tuple[Any, int]:
    room -= 2 * len(source)
    if room < 0:
        raise _TooLarge(room)
    if levels < 1:
        raise _TooDeep(source)
    result: Any = source
    index = 0
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
                new, room = _walk(value, levels - 1, room)
                if new is not value:
                    if result is source:
                        result = list(source)
                    result[index] = new
    except _Refused as refused:
        refused.passes(source, index)
        raise
    return result, room


def _walk(value: Any, levels: int, room: int) -> tuple[Any, int]:
    kind = type(value)
    if kind is int:
        if _MIN_PLAIN_INT <= value <= _MAX_PLAIN_INT:
            return value, room
    elif kind is dict:
        return _walk_dict(value, levels, room)
    elif kind is list or kind is tuple:
        return _walk_list(value, levels, room)
    elif kind is float:
        if isfinite(value):
            return value, room
        raise _Refused(f"{value} cannot be stored; pass None or a finite number")
    elif kind is str:
        return value, room - len(value)
    elif kind is bool or value is None:
        return value, room
    if (tagged := _TAGS.get(kind)) is None:
        return _walk(_plain(value, room), levels, room)
    if kind is bytes and len(value) > room:
        raise _TooLarge(room - len(value))
    tag, store = tagged
    try:
        stored = store(value)
    except _Refused:
        raise
    except Exception as error:  # in a tzinfo of the application's own
        raise _fails(value, error) from error
    room -= len(stored)
    if room < 0:
        raise _TooLarge(room)
    return {tag: stored}, room


def _escaped(node: dict[str, Any]) -> dict[str, Any]:
    """Mark a real dict that would be read as a tag."""
    return {_ESCAPE: node} if len(node) == 1 and next(iter(node)).startswith("$") else node


def _with_plain_keys(source: dict[Any, Any]) -> dict[str, Any]:
    for key in source:
        if not isinstance(key, str):
            raise _Refused(f"the key {short_repr(key)} is {_a(key)}; make it a str")
    result = {str.__str__(key): value for key, value in source.items()}
    if len(result) < len(source):
        raise _Refused("two keys are the same text; keep one of them")
    return result


def _surrogate_error(node: Any, root: str) -> InvalidPayload:
    """Say where in a walked payload the text is that has no UTF-8, and so failed to encode."""
    keys: list[object] = []
    what = "the str"
    while type(node) is not str:
        if type(node) is dict:
            node = node.get(_ESCAPE, node) if len(node) == 1 else node
            if wrong := [key for key in node if not _has_utf8(key)]:
                what = f"the key {short_repr(wrong[0])}"
                break
        pairs = node.items() if type(node) is dict else enumerate(node)
        key, node = next((key, value) for key, value in pairs if not _has_utf8(value))
        keys.append(key)
    path = _path(root, iter(keys))
    fix = "decode it with the right encoding, or pass bytes"
    return InvalidPayload(f"{path}: {what} holds a lone surrogate, which is no text; {fix}", path)


def _has_utf8(node: object) -> bool:
    try:
        _to_json(node)
    except UnicodeEncodeError:
        return False
    return True


# -- values that JSON lacks ---------------------------------------------------------------------


def _store_int(value: int) -> str:
    if (bits := value.bit_length()) > MAX_INT_BITS:
        raise _Refused(f"an int of {bits:,} bits; the widest has {MAX_INT_BITS:,}: pass bytes")
    return hex(value)  # how many decimal digits int() accepts is a setting of the process


def _store_decimal(value: Decimal) -> str:
    if not value.is_finite():
        text = Decimal.__str__(value)  # the number, whatever a subclass shows
        raise _Refused(f"the Decimal {text} cannot be stored; pass None or a finite number")
    return Decimal.__str__(value)


def _stores_moment(to_text: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Make the store function of datetimes or times: a text, or a text, fold and zone."""

    def store(value: datetime | time) -> str | list[Any]:
        zone = value.tzinfo
        name: str | int | None = None
        if isinstance(zone, ZoneInfo):
            name = zone.key
        if zone is not None and name is None:
            if (offset := value.utcoffset()) is None:
                raise _Refused(f"{_a(value)} whose tzinfo gives no offset; use a ZoneInfo")
            if offset.microseconds:  # Python 3.11 reads "+00:00:00.000001" as UTC
                name = offset // timedelta.resolution
        text = to_text(value)
        return text if name is None and not value.fold else [text, value.fold, name]

    return store


def _loads_moment(from_text: Callable[[str], Any]) -> Callable[[Any], Any]:
    def load(stored: Any) -> Any:
        if type(stored) is str:
            return from_text(stored)
        text, fold, name = stored
        moment = from_text(text).replace(fold=fold)
        if name is None:
            return moment
        if type(name) is int:
            return moment.replace(tzinfo=timezone(name * timedelta.resolution))
        try:
            local = moment.replace(tzinfo=ZoneInfo(name))
        except (LookupError, OSError, ValueError):  # this machine does not know the zone
            if moment.tzinfo is None:
                raise
            return moment
        # The instant counts: if the zone's rules are other ones here, only the offset is kept.
        return local if local.utcoffset() == moment.utcoffset() or not moment.tzinfo else moment

    return load


# Type, tag, what is stored of a value, and how it is loaded. The types and methods are bound
# here, once, because test tools such as freezegun replace the classes in every module's globals.
_KINDS: tuple[tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (int, "$int", _store_int, lambda text: int(text, 16)),
    (bytes, "$bytes", lambda value: b64encode(value).decode(), b64decode),
    (Decimal, "$decimal", _store_decimal, Decimal),
    (UUID, "$uuid", UUID.__str__, UUID),
    (
        datetime,
        "$datetime",
        _stores_moment(datetime.isoformat),
        _loads_moment(datetime.fromisoformat),
    ),
    (date, "$date", date.isoformat, date.fromisoformat),
    (time, "$time", _stores_moment(time.isoformat), _loads_moment(time.fromisoformat)),
    (
        timedelta,
        "$timedelta",
        lambda delta: [delta.days, delta.seconds, delta.microseconds],
        lambda parts: timedelta(*parts),
    ),
)
_TAGS = {kind: (tag, store) for kind, tag, store, _ in _KINDS}
_LOADERS = {tag: load for _, tag, _, load in _KINDS}

_BASES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (list, list),
    (tuple, list),
    (Mapping, dict),
)
_BUFFERS = (bytes, bytearray, memoryview)


def _plain(value: Any, room: int) -> Any:
    """Return the value of a subclass, mapping or buffer as a plain type, or refuse it."""
    try:
        for base, convert in _BASES:
            if isinstance(value, base):
                if base not in (int, float) and len(value) > room:
                    raise _TooLarge(room - len(value))
                return convert(value)
        if isinstance(value, _BUFFERS):
            with memoryview(value) as view:
                if view.nbytes > room:
                    raise _TooLarge(room - view.nbytes)
                return view.tobytes()
        for kind, _, store, load in _KINDS:
            if isinstance(value, kind):
                plain = load(store(value))
                # pandas keeps nanoseconds in a subclass of datetime, and has one that is no time.
                if _without_zone(plain) == _without_zone(value):
                    return plain
                raise _Refused(f"{_a(value)} loses its value as a {kind.__name__}; convert it")
        fix = _fix(value)
    except _Refused:
        raise
    except Exception as error:  # in methods of the value's own class
        raise _fails(value, error) from error
    raise _Refused(f"{_a(value)} cannot be stored; pass {fix}")


def _fails(value: object, error: Exception) -> _Refused:
    name = type(error).__name__
    return _Refused(f"{_a(value)} that raises {name} when it is read; convert it to a plain type")


def _without_zone(value: Any) -> Any:
    # Times that a change of the clocks repeats never equal the same time in another zone object.
    return value.replace(tzinfo=None) if isinstance(value, (datetime, time)) else value


def _fix(value: object) -> str:
    if isinstance(value, Set):
        return "a sorted list"
    if isinstance(value, Enum):
        return "its .value"
    if callable(value):
        return "a name by which the task can look it up"
    if isinstance(value, Iterable):
        return "a list of its items"
    return f"one of {_ALLOWED}"


# -- decode -------------------------------------------------------------------------------------


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


def _restore(node: Any) -> Any:
    """Replace the tags in a parsed payload, in place, and return it."""
    if type(node) is dict:
        if len(node) == 1:
            [(key, stored)] = node.items()
            if key == _ESCAPE:
                node = stored
            elif key.startswith("$"):
                if key not in _LOADERS:
                    raise InvalidPayload(
                        f"a stored payload has the unknown tag {short_repr(key)}; "
                        "a newer version wrote it: update this one"
                    )
                return _LOADERS[key](stored)
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


# -- encode leniently ---------------------------------------------------------------------------

_LENIENT_LEVELS = (8, 4, 2, 1)  # what explains an error to people is hardly ever deeper than 8
_MORE = "…"


def encode_leniently(value: object, max_bytes: int) -> bytes:
    """Return anything as bytes for `decode`; what cannot be stored becomes a short text.

    For the contexts of errors and logs: recording a failure must not fail. It never raises an
    `Exception`, whatever it is given: broken `__repr__`, cycles, NaN, keys that are no str. Long
    texts are cut in their middle, long collections at their end (where `…` says how much is
    missing), and what is nested more than 8 levels deep is abridged, until the whole fits.

    :param value: a mapping is kept as one, None is empty, anything else is put under `value`.
    :param max_bytes: size of the result, in bytes; less than 2 counts as 2, an empty dict.

    Example::

        encode_leniently({"job": object(), "page": 3}, 1_000)
    """
    # Texts and collections get shorter first, down to 8 items; then it gets flatter.
    for levels in _LENIENT_LEVELS if value is not None else ():
        longest, most = max(max_bytes, 16), max_bytes
        while most >= (8 if levels > 1 else 1):
            try:
                lenient = _Lenient(longest, most, max_bytes)
                data = _to_json(lenient.keep_top(value, levels))
                if lenient.left >= 0 and len(data) <= max_bytes:
                    return data
            except Exception:  # no stack or memory left: less may do
                pass
            longest, most = max(longest // 2, 16), most // 2
    return b"{}"


class _Lenient:
    """One try at keeping a value: in texts of `longest` characters and `most` items each."""

    def __init__(self, longest: int, most: int, left: int) -> None:
        self.longest = longest
        self.most = most
        self.left = left  # bytes, as `room` above; once it is below 0, this try has failed

    def keep_top(self, value: object, levels: int) -> dict[str, Any]:
        try:
            is_mapping = isinstance(value, Mapping)
        except Exception:  # a property __class__ that fails
            is_mapping = False
        kept = self.keep(value, levels)
        return kept if is_mapping and type(kept) is dict else {"value": kept}

    def keep(self, value: Any, levels: int) -> Any:
        self.left -= 1
        try:
            if isinstance(value, str):
                return self.text(value)
            if not isinstance(value, (Mapping, list, tuple)):
                kept, room = _walk(value, 0, self.longest)
                self.left -= self.longest - room
                return kept
            if not levels:
                return self.text(f"{_MORE} {_a(value)} of {len(value):,}")
            if isinstance(value, Mapping):
                return self.mapping(value, levels - 1)
            return self.items(value, levels - 1)
        except Exception:  # it is refused, or its class is broken
            return self.text(short_repr(value, 200))

    def mapping(self, source: Mapping[Any, Any], levels: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key in islice(source, self.most):
            name = self.text(key if isinstance(key, str) else short_repr(key))
            if name in result:  # 1 and "1", or long keys that were cut
                name = f"{name} ({len(result)})"
            result[name] = self.keep(source[key], levels)
            if self.left < 0:
                break
        if (more := len(source) - len(result)) > 0:
            result[_MORE] = f"{more:,} more"
        return _escaped(result)

    def items(self, source: list[Any] | tuple[Any, ...], levels: int) -> list[Any]:
        result: list[Any] = []
        for item in islice(source, self.most):
            result.append(self.keep(item, levels))
            if self.left < 0:
                break
        if (more := len(source) - len(result)) > 0:
            result.append(f"{_MORE} {more:,} more")
        return result

    def text(self, text: str) -> str:
        if len(text) > self.longest:
            half = self.longest // 2
            text = f"{text[:half]}…{text[-half:]}"
        self.left -= len(text)
        return str.encode(text, "utf-8", "backslashreplace").decode()
