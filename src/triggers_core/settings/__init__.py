"""Settings: what there is, what is accepted, and where each value came from."""

from __future__ import annotations

from triggers_core.settings.settings import Settings

__all__ = ["Settings"]
