"""Structured logging of attempts, through structlog."""

from triggers_structlog.configuration import setup

__all__ = ["setup"]
