"""The storage `cache`: sessions on the Redis server behind an alias of Django's `CACHES`.

The cache itself is not used: what is in it may be evicted, expire and be written by two at a time.
Its server keeps what triggers-redis stores there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from triggers_core.exceptions import InvalidSetting
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.texts import did_you_mean

DJANGO_REDIS: Final = "django_redis."
"""What the path of a backend of the package django-redis begins with."""

_WHY_NOT: Final[Mapping[str, str]] = {
    "locmem.LocMemCache": "lives in the memory of one process, where no other one sees it",
    "dummy.DummyCache": "stores nothing",
    "filebased.FileBasedCache": "cannot change a session without another process in between",
    "db.DatabaseCache": "cannot change a session without another process in between, and culls",
    "memcached.": "forgets whatever it likes, and cannot change several records in one go",
}
"""Part of a backend's path → why it cannot hold sessions."""

_NO_CONNECTION_OPTIONS: Final = {"pool_class", "parser_class", "serializer"}
_FROM_DJANGO_REDIS: Final[Mapping[str, str]] = {
    "USERNAME": "username",
    "PASSWORD": "password",
    "SOCKET_TIMEOUT": "socket_timeout",
    "SOCKET_CONNECT_TIMEOUT": "socket_connect_timeout",
}
_SENTINELS: Final = ("SENTINELS", "SENTINEL_KWARGS")


class CacheStorage(SessionStorage):
    """One session on the Redis server of a cache.

    Example::

        TRIGGER_STORAGE_TYPE = "cache"                          # the alias "default"
        TRIGGER_STORAGE_OPTIONS = {"alias": "triggers"}         # another one

        storage_backends.get("cache", "applicant:42", alias="triggers")
    """

    def __init__(
        self,
        uid: str,
        alias: str = "default",
        timeout: float | None = None,
        cache: str | None = None,
        **options: Any,
    ) -> None:
        """Open a session; the server is asked for nothing yet.

        :param uid: the session's uid.

        The other parameters are those of `open_store`.
        """
        super().__init__(uid, self.open_store(alias, timeout, cache, **options))

    @classmethod
    def open_store(
        cls,
        alias: str = "default",
        timeout: float | None = None,
        cache: str | None = None,
        **options: Any,
    ) -> Store:
        """The process's store on the server of a cache, opened on first use.

        :param alias: which of `CACHES`.
        :param cache: another word for `alias`, that of the framework of 2017.
        :param timeout: seconds after which a session expires that nothing has changed; the same as
            `idle_ttl`. The `TIMEOUT` of the cache does not count.
        :param options: of triggers-redis, such as `namespace`, or of its connections: they win over
            the `OPTIONS` of the cache. The namespace is ``triggers``, after the cache's
            `KEY_PREFIX` if it has one.
        :raises InvalidSetting: there is no such cache, or it cannot hold sessions; says why, and
            what to use. Or triggers-redis is not installed.
        """
        url, of_cache = server_of(alias if cache is None else cache)
        try:
            from triggers_redis.storage import RedisStorage  # an extra
        except ModuleNotFoundError as error:
            raise InvalidSetting(
                "the storage 'cache' takes the distribution triggers-redis:"
                " pip install 'triggers-django[cache]'"
            ) from error
        if timeout is not None:
            options.setdefault("idle_ttl", timeout)
        return RedisStorage.open_store(**{**of_cache, "url": url, **options})


def server_of(alias: str) -> tuple[str, dict[str, Any]]:
    """The URL of the Redis server of a cache, and options for triggers-redis.

    :raises InvalidSetting: there is no such cache, or it cannot hold sessions.
    """
    caches = settings.CACHES
    if alias not in caches:
        raise InvalidSetting(
            f"the storage 'cache': CACHES has no alias {alias!r}{did_you_mean(alias, caches)}"
        )
    entry = caches[alias]
    place, backend = f"CACHES[{alias!r}]", str(entry.get("BACKEND", ""))
    of_django_redis = backend.startswith(DJANGO_REDIS)
    if not of_django_redis and not _is_redis(place, backend):
        raise InvalidSetting(f"the storage 'cache': {place} {_refusal(backend)}")
    url = _first_server(place, entry.get("LOCATION"))
    given = dict(entry.get("OPTIONS") or {})
    options = _of_django_redis(place, given) if of_django_redis else _of_django(given)
    prefix = str(entry.get("KEY_PREFIX") or "")
    if prefix:
        options.setdefault("namespace", f"{prefix}:triggers")
    return url, options


def _is_redis(place: str, backend: str) -> bool:
    from django.core.cache.backends.redis import RedisCache

    try:
        found = import_string(backend)
    except ImportError as error:
        raise InvalidSetting(f"the storage 'cache': {place}: {error}") from error
    return isinstance(found, type) and issubclass(found, RedisCache)


def _refusal(backend: str) -> str:
    why = next((why for part, why in _WHY_NOT.items() if part in backend), None)
    told = f": it {why}" if why else ""
    return (
        f"cannot hold sessions, which must not be lost ({backend}{told}). Take a cache on a Redis"
        " server (django.core.cache.backends.redis.RedisCache), or a storage in the database:"
        " TRIGGER_STORAGE_TYPE = 'django'"
    )


def _first_server(place: str, location: Any) -> str:
    """The server that writes go to; the others are replicas."""
    if isinstance(location, str):
        location = [each.strip() for each in re.split("[;,]", location)]
    servers = [str(each) for each in location or () if each]
    if not servers:
        raise InvalidSetting(
            f"the storage 'cache': {place} has no LOCATION, such as redis://localhost:6379/1"
        )
    if not servers[0].startswith(("redis://", "rediss://", "unix://")):
        raise InvalidSetting(
            f"the storage 'cache': the LOCATION of {place} is no URL of a Redis server: write"
            " redis://, rediss:// or unix:// before it"
        )
    return servers[0]


def _of_django(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in given.items() if name not in _NO_CONNECTION_OPTIONS}


def _of_django_redis(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if any(given.get(name) for name in _SENTINELS):
        raise InvalidSetting(
            f"the storage 'cache': {place} finds its server through sentinels, which the storage"
            " cannot: name the server itself in another alias"
        )
    pool = given.get("CONNECTION_POOL_KWARGS") or {}
    if not isinstance(pool, Mapping):
        raise ImproperlyConfigured(f"{place}: CONNECTION_POOL_KWARGS has to be a dict")
    options = {name: each for name, each in pool.items() if name != "max_connections"}
    for name, ours in _FROM_DJANGO_REDIS.items():
        if given.get(name) is not None:
            options[ours] = given[name]
    return options
