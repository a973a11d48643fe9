"""The options of the plugin, from ``TRIGGER_PLUGIN_OPTIONS["otel"]``."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

NAME: Final = "otel"
"""The plugin's name."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    spans: bool = True
    """Whether there are spans, and events carry their producer's."""
    metrics: bool = True
    """Whether there are metrics."""
    session_uid: bool = True
    """Whether spans say the session's uid. Metrics never do."""
    waiting_groups: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    """Groups of sessions that are read for `triggers.sessions.waiting`, the largest first; 0
    leaves the metric out."""
    waiting_every: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Seconds for which what was read for it is shown again."""
