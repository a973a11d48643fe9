"""Webhooks that become events, by a few words of configuration."""

from __future__ import annotations

from triggers_web.intake.intake import Intake

__all__ = ["Intake"]
