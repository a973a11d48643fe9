"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["finalize"]``."""

from __future__ import annotations

import logging
from typing import Final, Literal

import msgspec

from triggers_core.engine.records import RESOLVED, Status

NAME: Final = "finalize"
"""The plugin's name."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    trigger: str = "sessionFinalized"
    """The trigger to fire."""
    resolved: frozenset[Status] = RESOLVED
    """The statuses that count as resolved."""
    unless_logged: LogLevel | None = None
    """Hold back while an instance has unresolved logs at or above this level."""

    @property
    def level(self) -> int | None:
        """`unless_logged` as a number of `logging`."""
        return (
            None
            if self.unless_logged is None
            else logging.getLevelNamesMapping()[self.unless_logged]
        )
