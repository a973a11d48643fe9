"""The storage `cache`: which server it takes, and which caches it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from triggers_core.exceptions import InvalidSetting
from triggers_core.storages import storage_backends
from triggers_django.cache import server_of

REDIS = "django.core.cache.backends.redis.RedisCache"
OTHERS = "django.core.cache.backends"


def caches(backend: str = REDIS, location: Any = "redis://cache:6379/1", **more: Any) -> Any:
    return override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": location, **more}})


@pytest.mark.parametrize(
    "location",
    [
        "redis://cache:6379/1",
        ["redis://cache:6379/1", "redis://replica:6379/1"],
        "redis://cache:6379/1,redis://replica:6379/1",
    ],
)
def test_writes_go_to_the_first_server(location: Any) -> None:
    with caches(location=location):
        assert server_of("default") == ("redis://cache:6379/1", {})


def test_options_of_djangos_own_backend() -> None:
    options = {"db": 3, "socket_timeout": 2.0, "pool_class": "redis.BlockingConnectionPool"}
    with caches(OPTIONS=options, KEY_PREFIX="shop", TIMEOUT=300):
        _, found = server_of("default")
    assert found == {"db": 3, "socket_timeout": 2.0, "namespace": "shop:triggers"}


def test_options_of_django_redis() -> None:
    options = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "PASSWORD": "sesame",
        "SOCKET_TIMEOUT": 2,
        "CONNECTION_POOL_KWARGS": {"max_connections": 100, "retry_on_timeout": True},
    }
    with caches("django_redis.cache.RedisCache", OPTIONS=options):
        _, found = server_of("default")
    assert found == {"password": "sesame", "socket_timeout": 2, "retry_on_timeout": True}


def test_sentinels_are_refused() -> None:
    options = {"SENTINELS": [("sentinel", 26379)]}
    with (
        caches("django_redis.cache.RedisCache", OPTIONS=options),
        pytest.raises(InvalidSetting, match="sentinels"),
    ):
        server_of("default")


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        (f"{OTHERS}.locmem.LocMemCache", "memory of one process"),
        (f"{OTHERS}.dummy.DummyCache", "stores nothing"),
        (f"{OTHERS}.filebased.FileBasedCache", "without another process"),
        (f"{OTHERS}.db.DatabaseCache", "culls"),
        (f"{OTHERS}.memcached.PyMemcacheCache", "forgets"),
    ],
)
def test_a_cache_that_cannot_keep_a_promise_says_why(backend: str, why: str) -> None:
    with caches(backend), pytest.raises(InvalidSetting, match=why) as raised:
        storage_backends.get("cache", "order:1")
    assert "RedisCache" in str(raised.value)
    assert "TRIGGER_STORAGE_TYPE = 'django'" in str(raised.value)


def test_an_alias_that_is_not_there() -> None:
    with caches(), pytest.raises(InvalidSetting, match=r"no alias 'defualt'.*'default'"):
        server_of("defualt")


@pytest.mark.parametrize("location", [None, "", []])
def test_no_location(location: Any) -> None:
    with caches(location=location), pytest.raises(InvalidSetting, match="no LOCATION"):
        server_of("default")


def test_a_location_that_is_no_url() -> None:
    with caches(location="127.0.0.1:6379"), pytest.raises(InvalidSetting, match="redis://"):
        server_of("default")


def test_a_class_of_ones_own_counts_by_what_it_derives_from() -> None:
    with caches(f"{__name__}.Missing"), pytest.raises(InvalidSetting, match="CACHES"):
        server_of("default")
    with caches(f"{OTHERS}.redis.RedisCache"):
        assert server_of("default")[0] == "redis://cache:6379/1"
