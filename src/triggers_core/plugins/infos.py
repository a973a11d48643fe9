"""What can be said about every plugin, loaded or not: for `triggers plugins`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from triggers_core.entry_points import Provider
from triggers_core.plugins.loading import Installed
from triggers_core.plugins.order import Loaded

PluginStatus = Literal["loaded", "blocked", "failed", "unlisted"]


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a plugin, loaded or not; `triggers plugins` shows it."""

    name: str
    """Canonical: the entry point's name, whichever way the plugin was listed."""
    status: PluginStatus
    """``unlisted``: installed, but the list does not mention it."""
    path: str
    """Where it comes from: module, ``module:attribute`` or the type of an object."""
    distribution: str | None = None
    version: str | None = None
    hooks: tuple[str, ...] = ()
    """What it implements, in alphabetical order."""
    order: int | None = None
    """1 for the plugin that runs first."""
    error: str = ""
    """Why it is not loaded."""


def not_loaded(
    name: str, status: PluginStatus, provider: Provider | None, error: str
) -> PluginInfo:
    """Information about a plugin that is not loaded, and why."""
    return PluginInfo(
        name=name,
        status=status,
        path=provider.path if provider else name,
        distribution=provider.distribution if provider else None,
        version=provider.version if provider else None,
        error=error,
    )


def infos_of(
    loaded: Sequence[Loaded],
    failed: Mapping[str, PluginInfo],
    blocked: Mapping[str, str],
    installed: Installed,
) -> list[PluginInfo]:
    """The loaded plugins, first to run first; then, by name, those that are not loaded.

    :param blocked: name → why.
    """
    infos = [
        PluginInfo(
            name=each.name,
            status="loaded",
            path=each.path,
            distribution=each.provider.distribution if each.provider else None,
            version=each.provider.version if each.provider else None,
            hooks=tuple(sorted({found.hook for found in each.implementations})),
            order=order,
        )
        for order, each in enumerate(loaded, 1)
    ]
    others = dict(failed)
    for name, reason in blocked.items():
        others[name] = not_loaded(name, "blocked", installed.one(name), reason)
    for each in installed.ignored:
        others.setdefault(
            each.name, not_loaded(each.name, "blocked", each, "belongs to the framework of 2017")
        )
    for name, providers in installed.by_name.items():
        reason = "TRIGGER_PLUGINS does not mention it"
        others.setdefault(name, not_loaded(name, "unlisted", providers[0], reason))
    names = {info.name for info in infos}
    return infos + [others[name] for name in sorted(others) if name not in names]
