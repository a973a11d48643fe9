"""From the plugin list to plugins: which ones, in which order, under which names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from typing import Any, Final

from triggers_core.entry_points import (
    KNOWN_DISTRIBUTIONS,
    Provider,
    find_providers,
    load_path,
    loads_badly,
)
from triggers_core.exceptions import PluginError
from triggers_core.redaction import error_text
from triggers_core.texts import did_you_mean

GROUP: Final = "triggers.plugins"
"""The entry-point group of plugins."""

REST: Final = "*"
BLOCK: Final = "no:"

KNOWN_PLUGINS: Final = KNOWN_DISTRIBUTIONS[GROUP]
"""Plugins of the project, and the distributions to install."""


class Installed:
    """The installed plugins, by name. Metadata is read on first use; nothing is imported."""

    @cached_property
    def by_name(self) -> dict[str, list[Provider]]:
        """Name → entry points; more than one when distributions disagree."""
        found: dict[str, list[Provider]] = {}
        for provider in find_providers(GROUP):
            found.setdefault(provider.name, []).append(provider)
        return found

    def one(self, name: str) -> Provider | None:
        """The entry point of a name, if there is exactly one."""
        found = self.by_name.get(name, ())
        return found[0] if len(found) == 1 else None

    def label(self, name: str) -> str:
        """How messages name a plugin: with its distribution, if it has one."""
        provider = self.one(name)
        return f"plugin {name!r} ({provider})" if provider else f"plugin {name!r}"

    def canonical(self, spelling: str) -> str:
        """The entry point's name for its name or path; any other spelling as it is."""
        path = "".join(spelling.split())
        if spelling not in self.by_name:
            # A path that several distributions give the same name for stays what it is: the way
            # to choose one of them.
            for name, [provider, *others] in self.by_name.items():
                if provider.path == path and not others:
                    return name
        return spelling

    def name_of(self, plugin: object, taken: Mapping[str, object]) -> str:
        """The canonical name of an object: equal in every process that lists the same plugins.

        :param taken: the names in use, with their objects. A second object of a type gets a number.
        """
        if inspect.ismodule(plugin):
            return self.canonical(plugin.__name__)
        for name, providers in self.by_name.items():
            if any(_imported(each.path) is plugin for each in providers):
                return name
        kind = plugin if inspect.isclass(plugin) else type(plugin)
        name = first = f"{kind.__module__}:{kind.__qualname__}"
        numbers = count(2)
        while taken.get(name, plugin) is not plugin:
            name = f"{first}#{next(numbers)}"
        return name

    def load(self, name: str) -> object:
        """Import the plugin of a name, or what is at a path.

        :raises PluginError: names plugin, distribution and cause.
        """
        label, providers = self.label(name), self.by_name.get(name, ())
        if len(providers) > 1:
            owners = " and by ".join(map(str, providers))
            paths = " or ".join(each.path for each in providers)
            raise PluginError(
                f"{label} is provided by {owners}: uninstall one of them, block it"
                f" ({BLOCK + name!r} in TRIGGER_PLUGINS), or list the one you mean by its path"
                f" ({paths})"
            )
        path = providers[0].path if providers else name
        try:
            return load_path(path)
        except BaseException as error:
            if not loads_badly(error):
                raise
            problem = ""
            if isinstance(error, ModuleNotFoundError) and not providers:
                problem = _missing(path, error.name)
            problem = problem or f"cannot be loaded: {error_text(error)}"
            raise PluginError(f"{label}: {problem}") from error


@dataclass
class Wanted:
    """What a plugin list comes to."""

    named: dict[str, object] = field(default_factory=dict)
    """Canonical name → the object, if that was listed: what the list itself names."""
    order: list[str] = field(default_factory=list)
    """Canonical names, first to run first; with those that ``"*"`` brought in."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Canonical name → why it is not loaded."""
    unmatched: list[str] = field(default_factory=list)
    """Blocks that name nothing, spelled almost like something: most likely typing errors."""


def read_list(listed: Sequence[object] | None, autoload: bool, installed: Installed) -> Wanted:
    """Work out a plugin list. Nothing is imported.

    :param listed: names, paths, objects, ``"*"``, ``"no:name"``; None: every installed plugin.
    :param autoload: whether ``"*"`` and an unset list bring in anything.
    :raises PluginError: the list is not one, or holds something impossible.
    """
    entries = [REST] if listed is None else _checked(listed)
    blocks = [e[len(BLOCK) :] for e in entries if isinstance(e, str) and e.startswith(BLOCK)]
    entries = [e for e in entries if not (isinstance(e, str) and e.startswith(BLOCK))]
    if blocks and not entries:
        entries = [REST]  # a list that only blocks means "all but these"
    wanted = Wanted(blocked={installed.canonical(name): "blocked in the list" for name in blocks})
    places: list[str] = []
    for entry in entries:
        name = REST if entry == REST else _name(entry, installed, wanted.named)
        if name not in places:
            places.append(name)
        if name != REST:
            wanted.named.setdefault(name, None if isinstance(entry, str) else entry)
    rest = [name for name in sorted(installed.by_name) if name not in wanted.named]
    if REST in places and not autoload:
        if listed is not None:
            reason = "autoloading is switched off"
            wanted.blocked = {**dict.fromkeys(rest, reason), **wanted.blocked}
        rest = []
    for name in places:
        wanted.order += rest if name == REST else [name]
    wanted.order = [name for name in wanted.order if name not in wanted.blocked]
    known = {*wanted.named, *installed.by_name} if blocks else set()
    for name in blocks:
        hint = did_you_mean(name, known)
        if installed.canonical(name) not in known and hint.endswith("?"):
            wanted.unmatched.append(f"{BLOCK}{name} blocks nothing{hint}")
    return wanted


def _checked(listed: object) -> list[Any]:
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        raise PluginError(f"the plugins: expected a list, such as ['retry', '*'], got {listed!r}")
    entries = [each.strip() if isinstance(each, str) else each for each in listed]
    for entry in entries:
        if entry is None:
            raise PluginError("the plugins: None is no plugin; remove it from the list")
        if isinstance(entry, str) and not entry.removeprefix(BLOCK).strip():
            raise PluginError(f"the plugins: {entry!r} names no plugin; remove it")
    if BLOCK + REST in entries:
        raise PluginError(f"the plugins: {BLOCK + REST!r} blocks nothing: leave out '*' instead")
    return entries


def _name(entry: object, installed: Installed, named: Mapping[str, object]) -> str:
    if not isinstance(entry, str):
        return installed.name_of(entry, named)
    name = installed.canonical(entry)
    if name in installed.by_name or ":" in name or "." in name or _is_module(name):
        return name
    if name in KNOWN_PLUGINS:
        install = f"python -m pip install {KNOWN_PLUGINS[name]}"
        raise PluginError(f"plugin {name!r} is not installed: {install}")
    hint = did_you_mean(name, {*installed.by_name, *KNOWN_PLUGINS})
    raise PluginError(
        f"plugin {name!r}: no installed distribution provides it and there is no module of this"
        f" name{hint}{'' if hint.endswith('?') else '.'} Install the distribution that provides it,"
        " or list a dotted path or 'module:attribute'"
    )


def _is_module(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):  # no name of a module at all
        return False


def _missing(path: str, missing: str | None) -> str:
    """What is wrong if it is the plugin's own module that does not exist; else nothing."""
    module = path.partition(":")[0]
    if missing is None or not f"{module}.".startswith(f"{missing}."):
        return ""
    parent, _, attribute = module.rpartition(".")
    if path == missing and hasattr(sys.modules.get(parent), attribute):
        hint = f"write '{parent}:{attribute}'"
        return f"{attribute!r} is not a module but something in {parent}: {hint}"
    return f"there is no module {missing!r}"


def _imported(path: str) -> object:
    """The object at a path if its module has been imported; looks without evaluating anything."""
    module, _, attribute = path.partition(":")
    found: object = sys.modules.get(module)
    for part in attribute.split(".") if attribute else ():
        found = inspect.getattr_static(found, part, None)
    return found
