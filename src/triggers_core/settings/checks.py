"""What each kind of setting accepts, and how a text stands for it.

A check raises `ValueError` with what it expected; `Settings` adds setting, source and value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.plugin_options import PluginOptions
from triggers_core.texts import convert, did_you_mean

S = TypeVar("S", bound=msgspec.Struct)

_BOOLEANS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_MANY: Final = 10_000
"""More entries than any list or mapping among the settings has; ends those that have no end."""
_NO_PLUGIN: Final = (type(None), bool, int, float, bytes, list, tuple, Mapping)


# -- texts (environment variables) ----------------------------------------------------------------


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
        problem = f"{error.msg} at character {error.pos}"
    except RecursionError:
        problem = "nested too deeply"
    raise ValueError(f'expected JSON, such as {{"key": "value"}}: {problem}')


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
        names = list(islice(value, _MANY))
        if all(isinstance(name, str) for name in names) and len(names) < _MANY:
            return MappingProxyType({name: value[name] for name in names})
    raise ValueError("expected a mapping of option to value")


def options_by_plugin(value: object) -> PluginOptions:
    """A mapping of plugin to its options."""
    found = {}
    for plugin, each in options(value).items():
        try:
            found[plugin] = options(each)
        except ValueError:
            expected = "expected a mapping of plugin to its options"
            raise ValueError(f"{expected}, {plugin!r} has none") from None
    return PluginOptions(found)


def plugins(value: object) -> tuple[object, ...] | None:
    """A plugin list; `triggers_core.plugins.loading` looks at what it names."""
    example = "plugins (names, paths, objects), such as ['retry', '*']"
    if value is None:
        return None
    return _several(value, example, lambda each: not isinstance(each, _NO_PLUGIN))


def modules(value: object) -> tuple[str, ...]:
    """Dotted paths of modules."""
    found = _several(
        value,
        "modules, such as ['shop.tasks']",
        lambda each: isinstance(each, str) and bool(each.strip()),
    )
    return tuple(each.strip() for each in found)


def _several(value: object, what: str, fits: Callable[[Any], bool]) -> tuple[Any, ...]:
    if not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        found = tuple(islice(value, _MANY))
        if len(found) == _MANY:
            noun = what.partition(" ")[0].rstrip(",")
            raise ValueError(f"expected a list of less than {_MANY:,} {noun}")
        if all(map(fits, found)):
            return found
    raise ValueError(f"expected a list of {what}")


def configuration(value: object) -> Mapping[str, Any] | Configuration | None:
    """A task configuration; its tasks are checked once the plugins' directives are known."""
    if value is None or isinstance(value, Configuration | Mapping):
        return value
    hint = ""
    if isinstance(value, str):
        hint = "; of a file, what it holds: json.load(open('flow.json'))"
    raise ValueError(f"expected a mapping of task name to directives{hint}")


def struct(kind: type[S]) -> Callable[[object], S]:
    """One of `kind`, or a mapping of some of its fields."""

    def check(value: object) -> S:
        if isinstance(value, kind):
            value = msgspec.structs.asdict(value)  # the types of its fields have not been checked
        known = kind.__struct_fields__
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping of some of {', '.join(known)}")
        for name in islice(value, _MANY):
            if name not in known:
                raise ValueError(f"there is no {name!r} in it{did_you_mean(name, known)}")
        try:
            checked: S = convert(dict(value), kind)
        except ValueError as error:
            raise ValueError(f"{str(error)[:1].lower()}{str(error)[1:]}") from None
        return checked

    return check
