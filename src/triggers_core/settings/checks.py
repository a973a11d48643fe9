"""What each kind of setting accepts, and how a text stands for it.

A check raises `ValueError` with what it expected; `triggers_core.settings` adds setting, source and
value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.limits import Limits, Timing
from triggers_core.texts import did_you_mean

S = TypeVar("S", bound=msgspec.Struct)

_BOOLEANS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_MANY: Final = 10_000
"""More entries than any list or mapping among the settings has; ends those that have no end."""

_TEN_YEARS: Final = 10 * 366 * 86_400.0
_LEAST: Final = 0.001
"""Seconds: what is checked more often than that takes a whole processor."""

_MOST: Final = {"kwargs_depth": 500, "attempts": 1_000_000}
"""The largest values of fields that count, where the next is not enough: Python's stack ends."""
_MOST_OF_ALL: Final = 2**31 - 1

_NO_PLUGIN: Final = (bool, int, float, bytes, list, tuple, Mapping)


# -- texts (environment variables) ----------------------------------------------------------------


def as_it_is(text: str) -> Any:
    """The text itself."""
    return text


def boolean_text(text: str) -> bool:
    """``1``, ``true``, ``yes``, ``on`` and their opposites, in any case."""
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError("expected one of true, false, 1, 0, yes, no, on, off") from None


def json_text(text: str) -> Any:
    """Any JSON value. The message does not repeat the text: it may hold secrets."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f'expected JSON, such as {{"key": "value"}}: {error.msg} at character {error.pos}'
        ) from None
    except RecursionError:
        raise ValueError('expected JSON, such as {"key": "value"}: nested too deeply') from None


def list_text(text: str) -> Any:
    """A JSON list, or values with commas between; an empty text is the empty list."""
    if text.lstrip().startswith("["):
        return json_text(text)
    return [part.strip() for part in text.split(",") if part.strip()]


# -- values ---------------------------------------------------------------------------------------


def key(value: object) -> str:
    """A key of a registry."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a key, such as 'sqlite'")
    return value.strip()


def boolean(value: object) -> bool:
    """True or False, nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise ValueError("expected True or False")
    return value


def options(value: object) -> Mapping[str, Any]:
    """A mapping with str keys; read-only, because everybody gets the same one."""
    if isinstance(value, Mapping):
        names = list(islice(iter(value), _MANY))
        if all(isinstance(name, str) for name in names) and len(names) < _MANY:
            return MappingProxyType({name: value[name] for name in names})
    raise ValueError("expected a mapping of option to value")


def options_by_plugin(value: object) -> Mapping[str, Mapping[str, Any]]:
    """A mapping of plugin to its options."""
    by_plugin = options(value)
    for plugin, each in by_plugin.items():
        try:
            options(each)
        except ValueError:
            raise ValueError(
                f"expected a mapping of plugin to its options, {plugin!r} has none"
            ) from None
    return by_plugin


def plugins(value: object) -> tuple[object, ...] | None:
    """A plugin list; `triggers_core.plugins.loading` looks at what it names."""
    if value is None:
        return None
    if not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        found = tuple(islice(iter(value), _MANY))
        if len(found) == _MANY:
            raise ValueError(f"expected a list of less than {_MANY:,} plugins")
        if not any(each is None or isinstance(each, _NO_PLUGIN) for each in found):
            return found
    raise ValueError("expected a list of plugins (names, paths, objects), such as ['retry', '*']")


def modules(value: object) -> tuple[str, ...]:
    """Dotted paths of modules."""
    if not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        found = tuple(islice(iter(value), _MANY))
        if len(found) == _MANY:
            raise ValueError(f"expected a list of less than {_MANY:,} modules")
        if all(isinstance(each, str) and each.strip() for each in found):
            return tuple(each.strip() for each in found)
    raise ValueError("expected a list of modules, such as ['shop.tasks']")


def configuration(value: object) -> Mapping[str, Any] | Configuration | None:
    """A task configuration; its tasks are checked once the plugins' directives are known."""
    if value is None or isinstance(value, Configuration | Mapping):
        return value
    hint = ""
    if isinstance(value, str):
        hint = "; of a file, what it holds: json.load(open('flow.json'))"
    raise ValueError(f"expected a mapping of task name to directives{hint}")


def limits(value: object) -> Limits:
    """`Limits`, or a mapping of some of its fields."""
    found = _struct(Limits)(value)
    for name in found.__struct_fields__:
        number, most = getattr(found, name), _MOST.get(name, _MOST_OF_ALL)
        if number < 1:
            raise ValueError(f"expected {name} to be at least 1")
        if number > most:
            raise ValueError(f"expected {name} to be at most {most:,}")
    return found


def timing(value: object) -> Timing:
    """`Timing`, or a mapping of some of its fields."""
    found = _struct(Timing)(value)
    for name in found.__struct_fields__:
        number = getattr(found, name)
        if (
            number is None
            and Timing.__struct_defaults__[Timing.__struct_fields__.index(name)] is None
        ):
            continue
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"expected {name} to be positive")
        if isinstance(number, int):
            if number > (most := _MOST.get(name, _MOST_OF_ALL)):
                raise ValueError(f"expected {name} to be at most {most:,}")
        elif not _LEAST <= number <= _TEN_YEARS:
            raise ValueError(f"expected {name} to be between 0.001 seconds and ten years")
    if found.heartbeat >= found.lease:
        raise ValueError(
            f"expected heartbeat ({found.heartbeat:g} s) to be shorter than lease"
            f" ({found.lease:g} s): a worker would lose what it runs"
        )
    if found.time_limit and found.soft_time_limit and found.soft_time_limit >= found.time_limit:
        raise ValueError(
            f"expected soft_time_limit ({found.soft_time_limit:g} s) to be shorter than time_limit"
            f" ({found.time_limit:g} s)"
        )
    if found.redispatch_at_most < found.redispatch_after:
        raise ValueError(
            f"expected redispatch_at_most ({found.redispatch_at_most:g} s) not to be below"
            f" redispatch_after ({found.redispatch_after:g} s)"
        )
    return found


def _struct(kind: type[S]) -> Callable[[object], S]:
    def check(value: object) -> S:
        if isinstance(value, kind):
            value = msgspec.structs.asdict(value)  # its fields have not been checked
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping of some of {', '.join(kind.__struct_fields__)}")
        for name in islice(iter(value), _MANY):
            if name not in kind.__struct_fields__:
                raise ValueError(
                    f"there is no {name!r} in it{did_you_mean(name, kind.__struct_fields__)}"
                )
        try:
            return msgspec.convert({name: value[name] for name in value}, kind)
        except msgspec.ValidationError as error:
            message = str(error).replace("`$.", "`").replace(" - at", ", at")
            raise ValueError(message[:1].lower() + message[1:]) from None

    return check
