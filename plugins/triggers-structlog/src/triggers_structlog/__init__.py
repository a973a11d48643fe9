"""Structured logging of attempts, through structlog."""

from triggers_structlog.setting_up import setup

__all__ = ["setup"]
