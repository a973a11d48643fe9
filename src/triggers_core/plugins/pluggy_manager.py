"""pluggy's manager of the plugins of one application, and how one implementation is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any, Final

from pluggy import HookCaller, HookImpl, HookimplOpts, PluginManager, PluginValidationError

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import PROJECT, TriggersSpec
from triggers_core.plugins.checks import FIRST_RESULT, HOOKS, check_implementation, check_plugin
from triggers_core.plugins.loading import Installed

Call = Callable[..., Any]
"""An implementation that takes all parameters of its hook, by position."""

_FUNCTIONS: Final = (FunctionType, MethodType, staticmethod, classmethod)


class HookManager(PluginManager):
    """pluggy's manager for the project's hooks; its errors are `PluginError`, and name the fix.

    :param changed: told whenever what there is to call has changed.
    """

    def __init__(self, installed: Installed, changed: Callable[[], None]) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(TriggersSpec)
        self._installed, self._changed, self._monitors = installed, changed, 0

    def get_canonical_name(self, plugin: object) -> str:
        """The entry point's name; else the module's, or ``module:Type`` of an object."""
        return self._installed.name_of(plugin, dict(self.list_name_plugin()))

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """What `hookimpl` was given for a function. Evaluates no property, as pluggy 1.6 does."""
        held = inspect.getattr_static(plugin, name, None)
        if isinstance(held, _FUNCTIONS):
            for holder in (held, getattr(held, "__func__", None)):  # @staticmethod, above or below
                if options := getattr(holder, f"{PROJECT}_impl", None):
                    return options  # type: ignore[no-any-return]
        return None

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """As pluggy's: what was registered last is called first.

        :raises PluginError: it is there already, or breaks a rule of the hooks. Nothing changed.
        """
        name = name or self.get_canonical_name(plugin)
        if self.is_blocked(name):
            return None
        label = self._installed.label(name)
        marked = [each for each in dir(plugin) if self.parse_hookimpl_opts(plugin, each)]
        check_plugin(label, plugin, bool(marked))
        for each in marked:
            options = self.parse_hookimpl_opts(plugin, each)
            check_implementation(label, each, getattr(plugin, each), dict(options or {}))
        known = self.get_name(plugin)
        if known is not None:
            raise PluginError(f"{label} is registered already, as {known!r}")
        if self.has_plugin(name):
            raise PluginError(
                f"{label}: another plugin is registered under this name; unregister that first,"
                " or give this one another name"
            )
        try:
            super().register(plugin, name)
            self.check_pending()
        except PluginValidationError as error:
            super().unregister(name=name)
            raise PluginError(f"{label}: {' '.join(str(error).split())}") from error
        self._changed()
        return name

    def unregister(self, plugin: object = None, name: str | None = None) -> Any:
        """As pluggy's."""
        found = super().unregister(plugin, name)
        self._changed()
        return found

    def add_hookcall_monitoring(self, *arguments: Any) -> Callable[[], None]:
        """As pluggy's, which `enable_tracing` uses: sees each implementation's call by itself."""
        undo = super().add_hookcall_monitoring(*arguments)

        def unmonitored() -> None:
            undo()
            self._monitors -= 1
            self._changed()

        self._monitors += 1
        self._changed()
        return unmonitored

    def calls(self, hook: str) -> tuple[tuple[str, Call], ...]:
        """(plugin's name, implementation) of a hook, in pluggy's order.

        Where there are wrappers, pluggy calls all of them, as if they were one.
        """
        caller: HookCaller = getattr(self.hook, hook)
        implementations = caller.get_hookimpls()[::-1]  # pluggy calls the last one first
        plugins = {each.plugin_name: each.plugin for each in implementations}
        if any(each.wrapper or each.hookwrapper for each in implementations):
            return ((", ".join(plugins), _through_pluggy(caller)),)
        # pluggy keeps those that it leaves out in a set.
        if not self._monitors or not all(isinstance(each, Hashable) for each in plugins.values()):
            return tuple((each.plugin_name, _bind(each, HOOKS[hook])) for each in implementations)
        alone = {
            name: self.subset_hook_caller(hook, [p for p in plugins.values() if p is not plugin])
            for name, plugin in plugins.items()
        }
        return tuple((name, _through_pluggy(each)) for name, each in alone.items())


def _bind(implementation: HookImpl, offered: tuple[str, ...]) -> Call:
    """Take all parameters of a hook by position; one that wants them all costs nothing."""
    function: Call = implementation.function
    if implementation.argnames == offered and not implementation.kwargnames:
        return function
    positions = [offered.index(name) for name in implementation.argnames]
    named = {name: offered.index(name) for name in implementation.kwargnames if name in offered}
    if not named:
        return lambda *arguments: function(*[arguments[position] for position in positions])
    return lambda *arguments: function(
        *[arguments[position] for position in positions],
        **{name: arguments[position] for name, position in named.items()},
    )


def _through_pluggy(caller: HookCaller) -> Call:
    def call(*arguments: Any) -> Any:
        answer = caller(**dict(zip(HOOKS[caller.name], arguments, strict=True)))
        return answer if caller.name in FIRST_RESULT else next(iter(answer), None)

    return call


def noted(plugin: str, hook: str, call: Call, *arguments: Any) -> Any:
    """Call an implementation; an error of it passes, with a note that names the plugin."""
    try:
        return call(*arguments)
    except BaseException as error:
        with suppress(Exception):  # frozen data classes take no note
            error.add_note(f"raised by {hook} of the plugin {plugin!r}")
        raise
