"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["structlog"]``."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from triggers_core.redaction import SECRET_KEYS, key_pattern, mask_objects, mask_url

NAME: Final = "structlog"
"""The plugin's name."""

Renderer = Literal["console", "json"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    renderer: Renderer = "console"
    """How lines look, as long as the application has not configured structlog itself."""
    secret_keys: tuple[str, ...] = ()
    """Regular expressions for keys to mask, besides `triggers_core.redaction.SECRET_KEYS`."""
    redact: bool = True
    """Whether secrets are masked at all."""

    def __post_init__(self) -> None:
        for position, pattern in enumerate(self.secret_keys):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"Expected a regular expression, got {pattern!r}: {error} - at"
                    f" `$.secret_keys[{position}]`"
                ) from None

    def masked(self, value: Any) -> Any:
        """Anything that is about to be shown, secrets masked."""
        return mask_objects(value, self._pattern) if self.redact else value

    def masked_text(self, text: str) -> str:
        """A text, secrets masked."""
        return mask_url(text, self._pattern) if self.redact else text

    @property
    def _pattern(self) -> re.Pattern[str]:
        return key_pattern((*SECRET_KEYS, *self.secret_keys))  # `re` remembers what it compiled
