"""Finalization: one trigger once every task of a session is resolved."""
