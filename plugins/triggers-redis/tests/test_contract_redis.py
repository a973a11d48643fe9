"""The storage, against the contract of all storages: packed, spread, and on the edge between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.testing import StorageContract
from triggers_redis import RedisStore, writing


class TestRedis(StorageContract):
    @pytest.fixture
    def make_store(self, make_redis_store: Callable[..., RedisStore]) -> Callable[[Clock], Store]:
        return make_redis_store

    @pytest.fixture
    def reopen(self, make_redis_store: Callable[..., RedisStore]) -> Callable[[Store], Store]:
        def reopen(store: Store) -> Store:
            assert isinstance(store, RedisStore)
            store.close()
            return make_redis_store(store.virtual, namespace=store.namespace)

        return reopen


class TestSpreadRedis(TestRedis):
    """As if every session were too large for one value."""

    @pytest.fixture(autouse=True)
    def nothing_is_packed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, "PACKED_SIZE", 0)


class TestOverflowingRedis(TestRedis):
    """Sessions are spread in the middle of most tests."""

    @pytest.fixture(autouse=True)
    def little_is_packed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, "PACKED_SIZE", 700)
