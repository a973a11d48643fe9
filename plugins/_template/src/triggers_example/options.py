"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["example"]``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from triggers_core.exceptions import InvalidSetting

Seconds = Annotated[float, msgspec.Meta(gt=0)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    slow_after: Seconds | None = None
    """How long a task may take that has no directive `slowAfter`; None: as long as it likes."""
    level: LogLevel = "WARNING"
    """Of the line in the log."""

    @property
    def level_number(self) -> int:
        """`level` as a number of `logging`."""
        return logging.getLevelNamesMapping()[self.level]


def read_options(values: Mapping[str, Any]) -> Options:
    """Check the options.

    :raises InvalidSetting: names what does not fit.
    """
    try:
        return msgspec.convert(dict(values), Options)
    except msgspec.ValidationError as error:
        message = str(error).replace("`$", "`TRIGGER_PLUGIN_OPTIONS['example']")
        raise InvalidSetting(f"example: {message}") from None
