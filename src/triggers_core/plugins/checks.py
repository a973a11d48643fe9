"""Which hooks a plugin implements, checked before pluggy sees them.

pluggy finds most of these mistakes late (at the call) or not at all, and its versions differ: 1.6
evaluates properties while it looks for hooks. So the looking is done here, statically.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import PROJECT, TriggersSpec
from triggers_core.texts import did_you_mean

_MARKER: Final = f"{PROJECT}_impl"


class Implementation(NamedTuple):
    """One marked function of a plugin."""

    hook: str
    function: Callable[..., Any]
    """Bound, ready to be called."""
    options: Mapping[str, Any]
    """What `hookimpl` was given."""


def _hooks() -> dict[str, tuple[str, ...]]:
    """Every hook with the names of its parameters, in order."""
    return {
        name: tuple(inspect.signature(function).parameters)[1:]
        for name, function in vars(TriggersSpec).items()
        if hasattr(function, f"{PROJECT}_spec")
    }


HOOKS: Final = _hooks()
"""Hook → names of its parameters."""


def find_implementations(plugin: object, label: str) -> list[Implementation]:
    """The hooks that a plugin implements.

    :param plugin: a module or an instance.
    :param label: how messages name it.
    :raises PluginError: it is a class or implements no hook, or one of its marked functions has an
        unknown name or cannot be called as a hook. The message says what to do.

    Example::

        find_implementations(my_app.plugins, "plugin 'my_app.plugins'")
    """
    if plugin is None:
        raise PluginError(f"{label} is None: list a module or an object")
    if inspect.isclass(plugin):
        raise PluginError(
            f"{label} is the class {plugin.__qualname__}: hooks are called on an instance. Name one"
            f" instead, such as `plugin = {plugin.__name__}()` in its module"
        )
    marked = list(_marked(plugin))
    if not marked:
        raise PluginError(_no_hook(plugin, label))
    found = []
    for attribute, function, options in marked:
        hook = options.get("specname") or attribute
        if hook not in HOOKS:
            if options.get("optionalhook"):
                continue  # for another version of the core
            raise PluginError(
                f"{label}: {attribute} is marked with @hookimpl, but there is no hook"
                f" {hook!r}{did_you_mean(hook, HOOKS)}"
            )
        _check_callable(f"{label}: {attribute}", function, options)
        _check_parameters(f"{label}: {attribute}", function, hook)
        found.append(Implementation(hook, function, options))
    return found


def bind(function: Callable[..., Any], hook: str) -> Callable[..., Any]:
    """Make a callable that takes all parameters of a hook, by position, in the order of its spec.

    A function that wants them all, in order, is returned as it is: nothing is added to its cost.
    """
    offered = HOOKS[hook]
    parameters = tuple(inspect.signature(function).parameters)
    if parameters == offered:
        return function
    wanted = [name for name in parameters if name in offered]
    positions = [offered.index(name) for name in wanted]
    if parameters[: len(wanted)] == tuple(wanted):
        return lambda *arguments: function(*[arguments[position] for position in positions])
    # A parameter of its own, with a default, stands between: the others are passed by name.
    return lambda *arguments: function(
        **{name: arguments[position] for name, position in zip(wanted, positions, strict=True)}
    )


def _marked(plugin: object) -> Iterator[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    for attribute in sorted(dir(plugin)):
        for holder, function in _functions(plugin, attribute):
            options = getattr(holder, _MARKER, None)
            if isinstance(options, dict):
                yield attribute, function, options
                break


def _functions(plugin: object, attribute: str) -> Iterator[tuple[object, Callable[..., Any]]]:
    """A plugin's function of a name, bound, and what may carry its marker. Evaluates nothing."""
    own = getattr(plugin, "__dict__", {})
    if attribute in own:
        value = own[attribute]
        if inspect.isfunction(value) or inspect.ismethod(value):
            yield value, value
        return
    value = inspect.getattr_static(type(plugin), attribute, None)
    if inspect.isfunction(value):
        yield value, value.__get__(plugin)
    elif isinstance(value, staticmethod | classmethod) and inspect.isfunction(value.__func__):
        # The marker may have been applied above or below the other decorator.
        for holder in (value, value.__func__):
            yield holder, value.__get__(plugin, type(plugin))


def _check_callable(place: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    if options.get("wrapper") or options.get("hookwrapper"):
        raise PluginError(
            f"{place} is a hook wrapper. Triggers calls every implementation by itself, so that an"
            " error of one stops no other; a wrapper would span them all. Make it a plain"
            " implementation, with @hookimpl(tryfirst=True) or @hookimpl(trylast=True) for its"
            " place in the order"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            f"{place} is an `async def`, but hooks are called from plain code, which would never"
            " await it. Write `def`, and inside hand the coroutine to your event loop"
            " (asyncio.run_coroutine_threadsafe)"
        )
    if inspect.isgeneratorfunction(function):
        raise PluginError(
            f"{place} is a generator function: calling it runs nothing. Return instead of yield;"
            " for a context manager, decorate it with @contextlib.contextmanager below @hookimpl"
        )


def _check_parameters(place: str, function: Callable[..., Any], hook: str) -> None:
    offered = HOOKS[hook]
    for parameter in inspect.signature(function).parameters.values():
        name, kind = parameter.name, parameter.kind
        if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(
                f"{place} takes {str(parameter)!r}, which would stay empty: name the parameters"
                f" that it wants ({_listed(offered)})"
            )
        if kind is parameter.KEYWORD_ONLY:
            raise PluginError(
                f"{place} has the keyword-only parameter {name!r}, which hooks cannot fill: remove"
                " the `*` before it"
            )
        if name not in offered and parameter.default is parameter.empty:
            raise PluginError(
                f"{place} takes the parameter {name!r}, which the hook {hook} does not offer"
                f"{did_you_mean(name, offered)} (it offers {_listed(offered)})"
            )


def _no_hook(plugin: object, label: str) -> str:
    unmarked = [name for name in HOOKS if any(True for _ in _functions(plugin, name))]
    if unmarked:
        return (
            f"{label} implements no hook: put @hookimpl (from triggers_core import hookimpl) above"
            f" {_listed(unmarked)}"
        )
    return (
        f"{label} implements no hook: it has no function marked with @hookimpl (from triggers_core"
        " import hookimpl). Modules that only define tasks belong into TRIGGER_IMPORTS"
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) or "none"
