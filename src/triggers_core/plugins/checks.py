"""Whether functions marked with `hookimpl` can be called as hooks; messages that say what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import PROJECT, TriggersSpec
from triggers_core.texts import did_you_mean

_SPECS: Final = {
    name: (function, options)
    for name, function in vars(TriggersSpec).items()
    if (options := getattr(function, f"{PROJECT}_spec", None))
}

HOOKS: Final = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, (function, _) in _SPECS.items()
}
"""Hook → names of its parameters, in order."""

FIRST_RESULT: Final = frozenset(n for n, (_, options) in _SPECS.items() if options["firstresult"])
"""The hooks that stop at the first answer."""

WRAPPABLE: Final = FIRST_RESULT | {"pre_fire"}
"""The hooks whose implementations may be wrapped. Those of the others are called one by one."""


def check_implementation(
    label: str, attribute: str, function: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Check one marked function of a plugin.

    :param label: how messages name the plugin.
    :param options: what `hookimpl` was given.
    :raises PluginError: there is no such hook, or the function cannot be called as one.
    """
    hook, place = options.get("specname") or attribute, f"{label}: {attribute}"
    if hook in HOOKS:
        _check_kind(place, function, hook, options)
        _check_parameters(place, function, hook)
    elif not options.get("optionalhook"):  # else it is for another version of the core
        hint = did_you_mean(hook, HOOKS)
        raise PluginError(f"{place} is marked with @hookimpl, but there is no hook {hook!r}{hint}")


def check_plugin(label: str, plugin: object, marked: bool) -> None:
    """Check what was listed or registered as a plugin.

    :param marked: whether it has a function marked with `hookimpl`.
    :raises PluginError: it is None or a class, or implements no hook.
    """
    if plugin is None:
        raise PluginError(f"{label} is None: list a module or an object")
    if inspect.isclass(plugin):
        raise PluginError(
            f"{label} is the class {plugin.__qualname__}: hooks are called on an instance. Name one"
            f" instead, such as `plugin = {plugin.__name__}()` in its module"
        )
    if marked:
        return
    unmarked = [name for name in HOOKS if callable(inspect.getattr_static(plugin, name, None))]
    problem = "it has no function marked with @hookimpl (from triggers_core import hookimpl)."
    if unmarked:
        problem = f"put @hookimpl (from triggers_core import hookimpl) above {', '.join(unmarked)}."
    raise PluginError(
        f"{label} implements no hook: {problem} Modules that only define tasks belong in"
        " TRIGGER_IMPORTS"
    )


def _check_kind(
    place: str, function: Callable[..., Any], hook: str, options: Mapping[str, Any]
) -> None:
    wrapper = options.get("wrapper") or options.get("hookwrapper")
    if wrapper and hook not in WRAPPABLE:
        raise PluginError(
            f"{place} is a hook wrapper. The implementations of {hook} are called one by one, so"
            " that an error of one stops no other; a wrapper would span them all. Make it a plain"
            " implementation, with @hookimpl(tryfirst=True) or @hookimpl(trylast=True) for its"
            " place in the order"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            f"{place} is an `async def`, but hooks are called from plain code, which would never"
            " await it. Write `def`, and inside hand the coroutine to your event loop"
            " (asyncio.run_coroutine_threadsafe)"
        )
    if not wrapper and inspect.isgeneratorfunction(function):
        raise PluginError(
            f"{place} is a generator function: calling it runs nothing. Return instead of yield;"
            " for a context manager, decorate it with @contextlib.contextmanager below @hookimpl"
        )


def _check_parameters(place: str, function: Callable[..., Any], hook: str) -> None:
    offered = HOOKS[hook]
    listed = ", ".join(offered) or "none"
    for parameter in inspect.signature(function).parameters.values():
        name, kind = parameter.name, parameter.kind
        if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(
                f"{place} takes {str(parameter)!r}, which would stay empty: name the parameters"
                f" that it wants ({listed})"
            )
        if kind is parameter.KEYWORD_ONLY:
            raise PluginError(
                f"{place} has the keyword-only parameter {name!r}, which hooks cannot fill: remove"
                " the `*` before it"
            )
        if name not in offered and parameter.default is parameter.empty:
            raise PluginError(
                f"{place} takes the parameter {name!r}, which the hook {hook} does not offer"
                f"{did_you_mean(name, offered)} (it offers {listed})"
            )
