"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["finalize"]``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from triggers_core.engine.records import RESOLVED, Status
from triggers_core.exceptions import InvalidSetting

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


def read_options(values: Mapping[str, Any]) -> Options:
    """Check the options.

    Those of one mapping are checked once, as long as it is asked for again and again: they are
    wanted at every commit, and the settings do not change what they have handed out.

    :raises InvalidSetting: names what does not fit.
    """
    global _last
    given, options = _last
    if given is not values:  # compared by identity: nothing of it has to be hashed
        options = _checked(values)
        _last = values, options
    return options


def _checked(values: Mapping[str, Any]) -> Options:
    try:
        return msgspec.convert(dict(values), Options)
    except msgspec.ValidationError as error:
        message = str(error).replace("`$", "`TRIGGER_PLUGIN_OPTIONS['finalize']")
        raise InvalidSetting(f"finalize: {message}") from None


_last: tuple[Mapping[str, Any], Options] = ({}, Options())
"""The mapping that was checked last (kept: no other can get its identity), and its options."""
