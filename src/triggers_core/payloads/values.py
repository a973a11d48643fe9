"""The values that JSON lacks: how each is written under its tag, and read again."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from triggers_core.exceptions import is_time_limit
from triggers_core.payloads.refusals import Refused, TooLarge, a_kind

MAX_INT_BITS = 4_096
"""Width of the widest int: as wide as the widest keys and hashes in common use."""

_ALLOWED = (
    "None, bool, int, float, str, list, dict, bytes, datetime, date, time, timedelta, "
    "Decimal or UUID"
)


def _store_int(value: int) -> str:
    if (bits := value.bit_length()) > MAX_INT_BITS:
        raise Refused(f"an int of {bits:,} bits; the widest has {MAX_INT_BITS:,}: pass bytes")
    return hex(value)  # how many decimal digits int() accepts is a setting of the process


def _store_decimal(value: Decimal) -> str:
    if not value.is_finite():
        text = Decimal.__str__(value)  # the number, whatever a subclass shows
        raise Refused(f"the Decimal {text} cannot be stored; pass None or a finite number")
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
                raise Refused(f"{a_kind(value)} whose tzinfo gives no offset; use a ZoneInfo")
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
TAGS = {kind: (tag, store) for kind, tag, store, _ in _KINDS}
LOADERS = {tag: load for _, tag, _, load in _KINDS}


def _plain_text(value: str, room: int) -> str:
    # The text itself, whatever a subclass shows or says of its length.
    if (size := str.__len__(value)) > room:
        raise TooLarge(room - size)
    return str.__str__(value)


def _plain_list(value: Iterable[Any], room: int) -> list[Any]:
    size = _size(value, room)
    result = list(islice(iter(value), size + 1))
    if len(result) > size:
        raise _longer(value, size)
    return result


def _plain_dict(value: Mapping[Any, Any], room: int) -> dict[Any, Any]:
    size = _size(value, room)
    kind: Any = type(value)
    if isinstance(value, dict) and (kind.__iter__, kind.__getitem__) == _OF_DICT:
        return dict(value)  # what a subclass holds, at one go
    if any(hasattr(kind, each) for each in _SEVERAL):
        raise Refused(
            f"{a_kind(value)} holds several values under one key; pass a plain dict: its items()"
            " have one value of each key, and its getlist(key) or getall(key) all of them"
        )
    keys = list(islice(iter(value), size + 1))
    if len(keys) > size:
        raise _longer(value, size)
    return {key: value[key] for key in keys}


def _size(value: Any, room: int) -> int:
    size = len(value)
    if size > room:
        raise TooLarge(room - size)
    return size


def _longer(value: object, size: int) -> Refused:
    return Refused(
        f"{a_kind(value)} that goes on after the {size:,} items that its len() gives, or that"
        " changes while it is read; pass a copy of what is needed"
    )


_OF_DICT = (dict.__iter__, dict.__getitem__)
_SEVERAL = ("getlist", "getall")
"""Methods of mappings that have several values under a key: forms and queries of web frameworks,
which show one of them by ``[key]``, and store all."""

_BASES: tuple[tuple[Any, Callable[[Any, int], Any]], ...] = (
    (str, _plain_text),
    (int, lambda value, room: int.__int__(value)),
    (float, lambda value, room: float.__float__(value)),
    (list, _plain_list),
    (tuple, _plain_list),
    (Mapping, _plain_dict),
)
_BUFFERS = (bytes, bytearray, memoryview)


def plain_value(value: Any, room: int) -> Any:
    """Return the value of a subclass, mapping or buffer as a plain type, or refuse it."""
    try:
        for base, convert in _BASES:
            if isinstance(value, base):
                return convert(value, room)
        if isinstance(value, _BUFFERS):
            with memoryview(value) as view:
                if view.nbytes > room:
                    raise TooLarge(room - view.nbytes)
                return view.tobytes()
        for kind, _, store, load in _KINDS:
            if isinstance(value, kind):
                plain = load(store(value))
                # pandas keeps nanoseconds in a subclass of datetime, and has one that is no time.
                if _without_zone(plain) == _without_zone(value):
                    return plain
                raise Refused(f"{a_kind(value)} loses its value as a {kind.__name__}; convert it")
        fix = _fix(value)
    except Refused:
        raise
    except Exception as error:  # in methods of the value's own class
        if is_time_limit(error):
            raise
        raise fails(value, error) from error
    raise Refused(f"{a_kind(value)} cannot be stored; pass {fix}")


def fails(value: object, error: Exception) -> Refused:
    """Return the refusal of a value whose own methods fail."""
    name = type(error).__name__
    return Refused(
        f"{a_kind(value)} that raises {name} when it is read; convert it to a plain type"
    )


def _without_zone(value: Any) -> Any:
    # Times that a change of the clocks repeats never equal the same time in another zone object.
    return value.replace(tzinfo=None) if isinstance(value, (datetime, time)) else value


def _fix(value: object) -> str:
    kind = type(value)
    if isinstance(value, Set):
        return "a sorted list"
    if isinstance(value, Enum):
        return "its .value"
    if callable(value):
        return "a name by which the task can look it up"
    for attributes, fix in _FIXES:
        if all(hasattr(kind, each) for each in attributes):
            return fix
    if isinstance(value, Iterable):
        return "a list of its items"
    return f"one of {_ALLOWED}"


# By what a type has: the libraries themselves are never imported.
_FIXES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("splitlines", "upper"), "str() of it: it stands for a text that is translated later"),
    (("read", "seek"), "its name, or what it holds: read() gives bytes"),
    (("read", "size"), "its name, or what it holds: read() gives bytes"),
    (("chunks", "size"), "its name, or what it holds: read() gives bytes"),
    (("_meta", "pk"), "its .pk, by which the task can look it up"),
    (("model", "values_list"), "a list of primary keys: list(….values_list('pk', flat=True))"),
    (("model_dump",), "its model_dump()"),
    (("__dataclass_fields__",), "dataclasses.asdict() of it"),
    (("__attrs_attrs__",), "attrs.asdict() of it"),
    (("__struct_fields__",), "msgspec.to_builtins() of it"),
    (("tolist",), "its tolist()"),
)
