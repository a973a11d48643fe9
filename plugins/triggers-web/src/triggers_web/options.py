"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["web"]``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

NAME: Final = "web"
"""The plugin's name."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    webhooks: dict[str, Any] = {}
    """Path → what a webhook there is; see `triggers_web.intake`."""
