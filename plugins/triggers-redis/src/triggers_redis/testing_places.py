"""The storage `redis` for the fixture `triggers`: a namespace for each test, on one server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import redis

from triggers_core.engine.names import new_id
from triggers_core.storages.base import Clock
from triggers_core.testing.kit.places import OpenPlace, Place
from triggers_redis.store import RedisStore
from triggers_redis.testing import RedisServer, find_server

_SHARDS: Final = 2  # the listings of all sessions read every bucket of every shard


@contextmanager
def places() -> Iterator[OpenPlace]:
    """What opens a place for one test: an entry point of `triggers.test_places`.

    On the server that ``REDIS_URL`` names, else on one that is started here and stopped at the end.
    """
    with server_url() as url:
        yield partial(open_place, url)


@contextmanager
def server_url() -> Iterator[str]:
    """The address of a Redis for tests: `REDIS_URL`, else of one of its own.

    :raises FileNotFoundError: there is neither; says what to install.
    """
    url = os.environ.get("REDIS_URL")
    if url:
        yield url
        return
    try:
        program = find_server()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or set REDIS_URL") from None
    with (
        tempfile.TemporaryDirectory(prefix="triggers-redis-") as folder,
        RedisServer(Path(folder), program=program) as server,
    ):
        yield server.url


@contextmanager
def open_place(url: str, clock: Clock) -> Iterator[Place]:
    """A place for one test: a namespace of its own on a server, erased at the end."""
    namespace = f"triggers-test-{new_id()}"
    store = RedisStore(url, namespace, shards=_SHARDS, clock=clock)
    try:
        yield Place(store)
    finally:
        store.close()
        erase(url, f"{namespace}*")


def erase(url: str, pattern: str) -> None:
    """Delete the keys of a pattern."""
    with redis.Redis.from_url(url) as client:
        for key in list(client.scan_iter(match=pattern, count=10_000)):
            client.unlink(key)
