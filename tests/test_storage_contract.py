"""Both storages of the core, against the contract of all storages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from triggers_core.storages import packed
from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.packed import PackedStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import StorageContract, VirtualClock


class TestMemory(StorageContract):
    not_durable = "the storage memory is gone with its process"

    @pytest.fixture
    def make_store(self) -> Callable[[Clock], Store]:
        return MemoryStore


class TestPacked(StorageContract):
    not_durable = "the storage is gone with its process"

    @pytest.fixture
    def make_store(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Clock], Store]:
        monkeypatch.setattr(packed, "_MAX_OPEN", 1)
        return PackedStore


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


class TestTheSuite:
    """The contract as something to derive from."""

    def test_only_subclasses_named_test_are_collected(self) -> None:
        class Base(StorageContract): ...

        class TestDerived(Base): ...

        collected = [each.__test__ for each in (StorageContract, Base, TestDerived)]
        assert collected == [False, False, True]

    def test_replacing_a_promise_is_noticed(self) -> None:
        class TestCheating(StorageContract):
            def test_one_owner_at_a_time_holds_a_lease(self, *_: object) -> None: ...

            def test_of_its_own(self) -> None: ...

        with pytest.raises(AssertionError, match="promises of its contract: test_one_owner_at"):
            TestCheating().test_no_promise_is_overridden()

    def test_a_clock_only_goes_forward(self) -> None:
        clock = VirtualClock(100)
        clock.advance(0.5)
        with pytest.raises(ValueError, match="only goes forward"):
            clock.advance(-1)
        assert clock() == 100.5
