"""The storage `sqlite`: one file, many processes, no service. The embedded default."""

from __future__ import annotations

from triggers_core.storages.sqlite.store import SqliteStorage, SqliteStore

__all__ = ["SqliteStorage", "SqliteStore"]
