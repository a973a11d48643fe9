"""From the plugin list to plugins: which ones, in which order, under which names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from itertools import chain, count
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


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plugin that the list asks for, not loaded yet."""

    name: str
    """Canonical: the entry point's name, whichever way the plugin was listed."""
    path: str
    plugin: object = None
    """The object itself, if that was listed."""
    providers: Sequence[Provider] = ()
    """The entry points that have this name; more than one is an error."""
    listed: bool = True
    """False for those that ``"*"`` or an unset list brought in: their failures are warnings."""

    @property
    def label(self) -> str:
        """How messages name it."""
        return label(self.name, self.providers[0] if len(self.providers) == 1 else None)

    def load(self) -> object:
        """Import the plugin.

        :raises PluginError: names plugin, distribution and cause.
        """
        if self.plugin is not None:
            return self.plugin
        if len(self.providers) > 1:
            owners = " and by ".join(map(str, self.providers))
            paths = " or ".join(each.path for each in self.providers)
            raise PluginError(
                f"{self.label} is provided by {owners}: uninstall one of them, block it"
                f" ({BLOCK + self.name!r} in TRIGGER_PLUGINS), or list the one you mean by its path"
                f" ({paths})"
            )
        try:
            return load_path(self.path)
        except BaseException as error:
            if not loads_badly(error):
                raise
            if isinstance(error, ModuleNotFoundError) and not self.providers:
                self._explain_missing(error)
            raise PluginError(f"{self.label}: cannot be loaded: {error_text(error)}") from error

    def _explain_missing(self, error: ModuleNotFoundError) -> None:
        """Raise something better if it is the plugin's own module that does not exist."""
        module = self.path.partition(":")[0]
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            return
        parent, _, attribute = module.rpartition(".")
        if (
            ":" not in self.path
            and error.name == module
            and hasattr(sys.modules.get(parent), attribute)
        ):
            raise PluginError(
                f"{self.label}: {attribute!r} is not a module but something in {parent}: write"
                f" '{parent}:{attribute}'"
            ) from error
        raise PluginError(f"{self.label}: there is no module {error.name!r}") from error


def label(name: str, provider: Provider | None = None) -> str:
    """How messages name a plugin: with its distribution, if it has one."""
    return f"plugin {name!r} ({provider})" if provider else f"plugin {name!r}"


class Installed:
    """The installed plugins, by name. Metadata is read on first use; nothing is imported."""

    @cached_property
    def _found(self) -> tuple[list[Provider], list[Provider]]:
        return find_providers(GROUP)

    @cached_property
    def by_name(self) -> dict[str, list[Provider]]:
        """Name → entry points; more than one when distributions disagree."""
        found: dict[str, list[Provider]] = {}
        for provider in self._found[0]:
            found.setdefault(provider.name, []).append(provider)
        return found

    @property
    def ignored(self) -> list[Provider]:
        """Those of the 2017 distribution."""
        return self._found[1]

    def one(self, name: str) -> Provider | None:
        """The entry point of a name, if there is exactly one."""
        found = self.by_name.get(name, ())
        return found[0] if len(found) == 1 else None

    def canonical(self, spelling: str) -> str:
        """The entry point's name for its name or path; any other spelling as it is."""
        if spelling in self.by_name:
            return spelling
        path = "".join(spelling.split())
        names = [each.name for each in self._found[0] if each.path == path]
        # A path that several distributions give the same name for stays what it is: the way to
        # choose one of them.
        return names[0] if names and len(self.by_name[names[0]]) == 1 else spelling

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
        name = f"{kind.__module__}:{kind.__qualname__}"
        numbered = chain([name], (f"{name}#{number}" for number in count(2)))
        return next(each for each in numbered if taken.get(each, plugin) is plugin)


@dataclass
class Wanted:
    """What a plugin list comes to."""

    candidates: list[Candidate] = field(default_factory=list)
    """In calling order."""
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
    blocks = [each[len(BLOCK) :] for each in entries if _blocks(each)]
    entries = [each for each in entries if not _blocks(each)]
    if blocks and not entries:
        entries = [REST]  # a list that only blocks means "all but these"
    wanted = Wanted(blocked={installed.canonical(name): "blocked in the list" for name in blocks})
    named: dict[str, Candidate] = {}
    places: list[str] = []
    for entry in entries:
        if entry == REST and isinstance(entry, str):
            places.append(REST)
            continue
        candidate = _candidate(entry, installed, named)
        if named.setdefault(candidate.name, candidate) is candidate:
            places.append(candidate.name)
    order: dict[str, Candidate] = {}
    for place in places:
        if place != REST:
            order[place] = named[place]
            continue
        for name in sorted(installed.by_name) if autoload or listed is not None else ():
            if name in named:
                continue
            if autoload:
                providers = installed.by_name[name]
                order.setdefault(
                    name, Candidate(name, providers[0].path, providers=providers, listed=False)
                )
            else:
                wanted.blocked.setdefault(name, "autoloading is switched off")
    wanted.candidates = [each for name, each in order.items() if name not in wanted.blocked]
    known = {*named, *installed.by_name} if blocks else set()
    wanted.unmatched = [
        f"{BLOCK}{name} blocks nothing{hint}"
        for name in blocks
        if installed.canonical(name) not in known
        and (hint := did_you_mean(name, known)).endswith("?")
    ]
    return wanted


def missing_plugin(name: str, installed: Installed) -> PluginError:
    """The error for a listed name that is neither installed nor a module."""
    if any(each.name == name for each in installed.ignored):
        return PluginError(
            f"plugin {name!r} is only provided by the framework of 2017, which does not fit this"
            " one: install its successor"
        )
    if name in KNOWN_PLUGINS:
        return PluginError(
            f"plugin {name!r} is not installed: python -m pip install {KNOWN_PLUGINS[name]}"
        )
    hint = did_you_mean(name, {*installed.by_name, *KNOWN_PLUGINS})
    return PluginError(
        f"plugin {name!r}: no installed distribution provides it and there is no module of this"
        f" name{hint}{'' if hint.endswith('?') else '.'} Install the distribution that provides it,"
        " or list a dotted path or 'module:attribute'"
    )


def _checked(listed: object) -> list[Any]:
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        raise PluginError(f"the plugins: expected a list, such as ['retry', '*'], got {listed!r}")
    entries = list(listed)
    for entry in entries:
        if isinstance(entry, str) and not entry.removeprefix(BLOCK).strip():
            raise PluginError(f"the plugins: {entry!r} names no plugin; remove it")
    if BLOCK + REST in entries:
        raise PluginError(f"the plugins: {BLOCK + REST!r} blocks nothing: leave out '*' instead")
    return [entry.strip() if isinstance(entry, str) else entry for entry in entries]


def _blocks(entry: object) -> bool:
    return isinstance(entry, str) and entry.startswith(BLOCK)


def _candidate(entry: object, installed: Installed, named: dict[str, Candidate]) -> Candidate:
    if not isinstance(entry, str):
        if entry is None:
            raise PluginError("the plugins: None is no plugin; remove it from the list")
        name = installed.name_of(entry, {key: each.plugin for key, each in named.items()})
        provider = installed.one(name)
        return Candidate(name, name, entry, [provider] if provider else ())
    name = installed.canonical(entry)
    providers = installed.by_name.get(name, ())
    if providers:
        return Candidate(name, providers[0].path, providers=providers)
    word = ":" not in name and "." not in name
    if word and name not in sys.modules and not _exists(name):
        raise missing_plugin(name, installed)
    return Candidate(name, name)


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # no name of a module at all
        return False


def _imported(path: str) -> object:
    """The object at a path if its module has been imported; looks without evaluating anything."""
    module, _, attribute = path.partition(":")
    found: object = sys.modules.get(module)
    for part in attribute.split(".") if attribute else ():
        found = inspect.getattr_static(found, part, None)
    return found
