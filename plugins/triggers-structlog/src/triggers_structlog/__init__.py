"""Structured logging of attempts, through structlog."""

from triggers_structlog.configuration import setup

__version__ = "0.2.0"

__all__ = ["__version__", "setup"]
