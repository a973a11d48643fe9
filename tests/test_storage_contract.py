"""Both storages of the core, against the contract of all storages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest

from triggers_core.storages import packed
from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.packed import PackedStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import StorageContract

_GONE = "sessions are in the memory of one process"
_NO_DATABASE = "there is no database that an application could share"


class TestMemory(StorageContract):
    lacks: ClassVar = {
        "durable": _GONE,
        "processes": _GONE,
        "transactions": "nothing takes back what was changed in memory",
        "joined": _NO_DATABASE,
        "awaited": _NO_DATABASE,
    }

    @pytest.fixture
    def make_store(self) -> Callable[[Clock], Store]:
        return MemoryStore


class TestPacked(StorageContract):
    lacks = TestMemory.lacks

    @pytest.fixture
    def make_store(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Clock], Store]:
        monkeypatch.setattr(packed, "_MAX_OPEN", 1)
        return PackedStore


class TestSqlite(StorageContract):
    lacks: ClassVar = {
        "joined": "an application has no connection to this file, and SQLite one writer at a time",
        "awaited": "the sqlite3 of the standard library blocks",
    }

    @pytest.fixture
    def make_store(self, fast_dir: Path) -> Callable[[Clock], Store]:
        numbers = count()
        return lambda clock: SqliteStore(fast_dir / f"{next(numbers)}.db", clock=clock)

    @pytest.fixture
    def opener(self) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, SqliteStore)
            return partial(SqliteStore, store.file.path)

        return opener
