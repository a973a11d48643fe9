"""The directives that plugins own, collected from their `declare_directives`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from triggers_core.engine.configuration import DIRECTIVES, Directive
from triggers_core.entry_points import loads_badly
from triggers_core.exceptions import PluginError
from triggers_core.redaction import error_text
from triggers_core.texts import short_repr


def collect_directives(
    declarations: Iterable[tuple[str, Callable[[], Any]]],
) -> dict[str, Directive]:
    """Ask every plugin for its directives.

    :param declarations: plugin name, and its `declare_directives`.
    :raises PluginError: two plugins own one directive, a plugin claims one of the core's, names
        none or gives a type that values cannot be checked against, or its function failed.
    """
    found: dict[str, Directive] = {}
    for plugin, declare in declarations:
        try:
            declared = declare()
        except BaseException as error:
            if not loads_badly(error):
                raise
            raise PluginError(
                f"plugin {plugin!r}: declare_directives failed: {error_text(error)}"
            ) from error
        for name, kind in _pairs(plugin, declared):
            if name in DIRECTIVES or name in found:
                owner = f"the plugin {found[name].owner!r}" if name in found else "the core"
                raise PluginError(
                    f"plugin {plugin!r} declares the directive {name!r}, which {owner} owns: rename"
                    " it, or block one of the plugins ('no:name' in TRIGGER_PLUGINS)"
                )
            found[name] = Directive(name, kind, plugin)
    return found


def _pairs(plugin: str, declared: Any) -> list[tuple[str, Any]]:
    try:
        named = isinstance(declared, Mapping)
        pairs = declared.items() if named else [(each.name, each.type) for each in declared or ()]
    except (TypeError, AttributeError):
        raise PluginError(
            f"plugin {plugin!r}: declare_directives has to answer a mapping of name to type, or a"
            f" list of Directive objects, not {short_repr(declared)}"
        ) from None
    for name, kind in pairs:
        if not isinstance(name, str) or not name.isidentifier():
            raise PluginError(
                f"plugin {plugin!r}: a directive cannot be called {name!r}: take letters and"
                " digits, such as 'retry' or 'notBefore'"
            )
        try:
            msgspec.json.Decoder(kind)
        except Exception as error:
            raise PluginError(
                f"plugin {plugin!r}: values of its directive {name!r} cannot be checked against"
                f" {kind!r}: {error_text(error)}"
            ) from error
    return list(pairs)
