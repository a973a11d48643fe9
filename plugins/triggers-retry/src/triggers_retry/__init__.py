"""Retries of failed instances, as a directive of the task's configuration."""

__version__ = "0.2.0"
