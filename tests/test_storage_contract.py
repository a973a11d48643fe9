"""Both storages of the core, against the contract of all storages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import StorageContract


class TestMemory(StorageContract):
    not_durable = "the storage memory is gone with its process"

    @pytest.fixture
    def make_store(self) -> Callable[[Clock], Store]:
        return MemoryStore


class TestSqlite(StorageContract):
    @pytest.fixture
    def make_store(self, fast_dir: Path) -> Callable[[Clock], Store]:
        numbers = count()
        return lambda clock: SqliteStore(fast_dir / f"{next(numbers)}.db", clock=clock)

    @pytest.fixture
    def reopen(self) -> Callable[[Store], Store]:
        def reopen(store: Store) -> Store:
            assert isinstance(store, SqliteStore)
            store.close()
            return SqliteStore(store.file.path, clock=store.clock)

        return reopen
