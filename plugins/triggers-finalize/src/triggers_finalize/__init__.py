"""Finalization: one trigger once every task of a session is resolved."""

__version__ = "0.2.0"
