"""What each kind of setting accepts, and how a text stands for it.

A check raises `ValueError` with what it expected; `triggers_core.settings` adds setting, source and
value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from triggers_core.configuration import Configuration, did_you_mean
from triggers_core.limits import Limits
from triggers_core.protocol import Timing

S = TypeVar("S", bound=msgspec.Struct)

_BOOLEANS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

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
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a mapping of option to value")
    return MappingProxyType(dict(value))


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
    """A plugin list; `triggers_core.plugin_loading` looks at what it names."""
    if value is None:
        return None
    if not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        found = tuple(value)
        if not any(each is None or isinstance(each, _NO_PLUGIN) for each in found):
            return found
    raise ValueError("expected a list of plugins (names, paths, objects), such as ['retry', '*']")


def modules(value: object) -> tuple[str, ...]:
    """Dotted paths of modules."""
    if not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        found = tuple(value)
        if all(isinstance(each, str) and each.strip() for each in found):
            return tuple(each.strip() for each in found)
    raise ValueError("expected a list of modules, such as ['shop.tasks']")


def configuration(value: object) -> Mapping[str, Any] | Configuration | None:
    """A task configuration; its tasks are checked once the plugins' directives are known."""
    if value is None or isinstance(value, Configuration | Mapping):
        return value
    raise ValueError("expected a mapping of task name to directives")


def limits(value: object) -> Limits:
    """`Limits`, or a mapping of some of its fields."""
    found = _struct(Limits)(value)
    for name in found.__struct_fields__:
        if getattr(found, name) < 1:
            raise ValueError(f"expected {name} to be at least 1")
    return found


def timing(value: object) -> Timing:
    """`Timing`, or a mapping of some of its fields."""
    found = _struct(Timing)(value)
    for name in found.__struct_fields__:
        number = getattr(found, name)
        if number is None and name in ("time_limit", "soft_time_limit"):
            continue
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"expected {name} to be positive")
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
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping of some of {', '.join(kind.__struct_fields__)}")
        for name in value:
            if name not in kind.__struct_fields__:
                raise ValueError(
                    f"there is no {name!r} in it{did_you_mean(name, kind.__struct_fields__)}"
                )
        try:
            return msgspec.convert(dict(value), kind)
        except msgspec.ValidationError as error:
            message = str(error).replace("`$.", "`").replace(" - at", ", at")
            raise ValueError(message[:1].lower() + message[1:]) from None

    return check
