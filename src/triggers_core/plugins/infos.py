"""Plugin information, for `triggers plugins`: of every plugin, loaded or not."""

from __future__ import annotations

from typing import Literal

import msgspec

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
