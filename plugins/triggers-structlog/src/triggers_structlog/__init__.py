"""Structured logging of attempts, through structlog."""

from triggers_structlog.configuration import setup

__version__ = "0.1.0"

__all__ = ["__version__", "setup"]
