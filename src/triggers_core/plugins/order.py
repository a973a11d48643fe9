"""The order in which implementations are called: pluggy's, given plugins that are safe for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pluggy import HookimplOpts, PluginManager

from triggers_core.entry_points import Provider
from triggers_core.hookspecs import PROJECT, TriggersSpec
from triggers_core.plugins.checks import HOOKS, Implementation, bind

Call = Callable[..., Any]
"""An implementation that takes all parameters of its hook, by position."""

_PREFIX: Final = "implementation_"


@dataclass(eq=False)
class Loaded:
    """A loaded plugin, as pluggy gets it.

    pluggy compares plugins with ``==``, hashes them and (1.6) evaluates their properties: it is
    given this object in their place, with the functions that were found, checked and bound.
    """

    name: str
    plugin: object
    path: str
    provider: Provider | None
    implementations: Sequence[Implementation]

    def __post_init__(self) -> None:
        for number, implementation in enumerate(self.implementations):
            setattr(self, f"{_PREFIX}{number}", implementation.function)


class _Pluggy(PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        if not isinstance(plugin, Loaded) or not name.startswith(_PREFIX):
            return None
        implementation = plugin.implementations[int(name.removeprefix(_PREFIX))]
        options: HookimplOpts = {**implementation.options, "specname": implementation.hook}  # type: ignore[typeddict-item]
        return options


def ordered_calls(plugins: Sequence[Loaded]) -> dict[str, tuple[tuple[str, Call], ...]]:
    """Hook → (plugin name, implementation), in calling order.

    As listed, except for implementations marked with `tryfirst` or `trylast`.
    """
    pluggy = _Pluggy(PROJECT)
    pluggy.add_hookspecs(TriggersSpec)
    for plugin in reversed(plugins):  # pluggy calls the last one registered first
        pluggy.register(plugin, plugin.name)
    pluggy.check_pending()
    return {
        hook: tuple(
            (each.plugin_name, bind(each.function, hook))
            for each in reversed(getattr(pluggy.hook, hook).get_hookimpls())
        )
        for hook in HOOKS
    }


def noted(plugin: str, hook: str, call: Call, *arguments: Any) -> Any:
    """Call an implementation; an error of it passes, with a note that names the plugin."""
    try:
        return call(*arguments)
    except BaseException as error:
        with suppress(Exception):  # frozen data classes take no note
            error.add_note(f"raised by {hook} of the plugin {plugin!r}")
        raise
