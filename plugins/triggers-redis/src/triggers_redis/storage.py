"""`RedisStorage`: one session in Redis, as applications and the registry see it."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Final
from weakref import WeakValueDictionary

from triggers_core.storages.session import SessionStorage
from triggers_redis.store import DEFAULT_URL, RedisStore


class RedisStorage(SessionStorage):
    """One session in Redis or Valkey.

    Example::

        storage = storage_backends.get("redis", "order:1", url="redis://localhost:6379/0")
    """

    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "unix")

    def __init__(
        self,
        uid: str,
        url: str = DEFAULT_URL,
        namespace: str = "triggers",
        shards: int | None = None,
        idle_ttl: float | None = None,
        **options: Any,
    ) -> None:
        """Open a session; the server is asked for nothing yet.

        :param uid: the session's uid.

        The other parameters are those of `RedisStore`.
        """
        store = self.open_store(
            url=url, namespace=namespace, shards=shards, idle_ttl=idle_ttl, **options
        )
        super().__init__(uid, store)

    @classmethod
    def open_store(
        cls,
        url: str = DEFAULT_URL,
        namespace: str = "triggers",
        shards: int | None = None,
        idle_ttl: float | None = None,
        **options: Any,
    ) -> RedisStore:
        """The process's store for these options, opened on first use."""
        key = repr((url, namespace, shards, idle_ttl, sorted(options.items())))
        with _opening:
            store = _open.get(key)
            if store is None:
                store = _open[key] = RedisStore(url, namespace, shards, idle_ttl, **options)
            return store


_open: Final[WeakValueDictionary[str, RedisStore]] = WeakValueDictionary()
_opening: Final = threading.Lock()
