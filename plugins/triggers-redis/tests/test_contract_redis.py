"""The storage, against the contract of all storages: packed, spread, and on the edge between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from triggers_core.storages.base import Clock, Store
from triggers_core.testing import StorageContract
from triggers_redis import RedisStore, writing

LACKS = {
    "transactions": "a script of Redis is one commit, and it has no roll-back",
    "joined": "no application has a transaction in Redis that could be rolled back",
    "awaited": "no application has a transaction in Redis that could be rolled back",
}


class TestRedis(StorageContract):
    lacks = LACKS

    @pytest.fixture
    def make_store(self, make_redis_store: Callable[..., RedisStore]) -> Callable[[Clock], Store]:
        return make_redis_store

    @pytest.fixture
    def opener(self, redis_url: str) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, RedisStore)
            return partial(RedisStore, redis_url, store.namespace, None)

        return opener


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
