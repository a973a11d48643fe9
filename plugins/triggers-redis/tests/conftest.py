from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from triggers_core.engine.names import new_id
from triggers_redis import RedisStore
from triggers_redis.testing import RedisServer

_RUN = f"triggers-test-{new_id()}"


@pytest.fixture(scope="module", autouse=True)
def earlier_tests_have_left_nothing() -> None:
    """Connections that they broke on purpose are let go of here, not in the middle of a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the run: REDIS_URL, else one that is started for it."""
    url = os.environ.get("REDIS_URL")
    if url is not None:
        yield url
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"{_RUN}*", count=1_000):
                client.unlink(key)
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    """A namespace of its own for each test."""
    return f"{_RUN}-{new_id()}"


@pytest.fixture
def make_redis_store(redis_url: str) -> Iterator[Callable[..., RedisStore]]:
    """Makes stores, each in a new namespace unless told otherwise; closed after the test.

    Few shards: the listings of all sessions read every bucket of every shard.
    """
    stores: list[RedisStore] = []

    def make(clock: Any = None, **options: Any) -> RedisStore:
        given = {"url": redis_url, "namespace": f"{_RUN}-{new_id()}", "shards": 2, **options}
        stores.append(RedisStore(clock=clock, **given))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_redis_store: Callable[..., RedisStore]) -> RedisStore:
    return make_redis_store()


@pytest.fixture
def aof_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps everything it has acknowledged."""
    with RedisServer(tmp_path, fsync="always") as server:
        yield server
