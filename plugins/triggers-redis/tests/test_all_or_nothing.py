"""A commit whose commands the server refuses, one or all, has changed nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from triggers_core.exceptions import StorageError
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_redis import RedisStore, writing
from triggers_redis.testing import RedisServer

COMMANDS = (
    *("GET", "SET", "ZADD", "ZREM", "HGET", "HSET", "HKEYS"),
    *("HGETALL", "RPUSH", "LRANGE", "EXISTS", "UNLINK", "PERSIST", "PEXPIRE"),
)
CONFIGURATION = {
    "t_ship": {"after": ["paid", "packed"]},
    "t_mail": {"andEvery": "t_ship"},
    "t_page": {"after": ["never"], "andEvery": "page"},
}

Make = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def own_client(own_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_server.url) as client:
        client.flushall()
        client.acl_setuser(
            "shop", enabled=True, nopass=True, keys=["*"], categories=["+@all"], reset=True
        )
        yield client


@pytest.fixture(params=["packed", "growing", "spread"])
def store(
    request: pytest.FixtureRequest,
    make_redis_store: Make,
    own_server: RedisServer,
    own_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> RedisStore:
    if request.param != "packed":
        size = 0 if request.param == "spread" else 700
        monkeypatch.setattr(writing, "PACKED_SIZE", size)
    url = own_server.url.replace("redis://", "redis://shop@")
    return make_redis_store(VirtualClock(), url=url, shards=1, idle_ttl=3_600)


def prepared(store: RedisStore) -> tuple[SessionDriver, list[Callable[[], Any]]]:
    """A session, and changes that can be made to it now."""
    session = SessionDriver(store)
    session.configure(CONFIGURATION)
    session.fire("page")
    session.fire("paid", {"text": "x" * 100}, event_id="stripe:1")
    session.configure(t_go={"andEvery": "go"})
    for _ in range(3):
        session.fire("go")
    running = session.claim("t_go#0")
    session.fail_now("t_go#1")
    generation = session.header.generation
    return session, [
        lambda: session.fire("packed", {"text": "y" * 300}, event_id="stripe:2"),
        lambda: session.fire("page"),
        lambda: session.finish(running, {"n": 1}),
        lambda: session.fail(running),
        lambda: session.heartbeat(running),
        lambda: session.replay("t_go#1"),
        lambda: session.skip("t_go#1"),
        lambda: session.claim("t_go#2", attempt=1, generation=generation),
        lambda: session.configure(t_new={"after": ["new"]}),
        lambda: SessionDriver(store, "order:2").fire("go"),
        lambda: store.delete(session.uid),
        lambda: store.prune(-1, resolved_only=False),
    ]


def dump(client: redis.Redis, store: RedisStore) -> dict[bytes, Any]:
    """All that is stored; not the leases, nor the configurations, which stand for themselves."""
    keys = [key for key in client.keys(f"{store.namespace}:*") if b":c:" not in key]
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in keys if b":configurations" not in key}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_the_user_may_no_longer_use(
    store: RedisStore, own_client: redis.Redis, command: str
) -> None:
    refused = 0
    for number in range(12):
        own_client.flushall()
        _, changes = prepared(store)
        before = dump(own_client, store)
        own_client.execute_command("ACL", "SETUSER", "shop", f"-{command.lower()}")
        try:
            changes[number]()
        except StorageError:
            refused += 1
            assert dump(own_client, store) == before, f"change {number}"
        finally:
            own_client.execute_command("ACL", "SETUSER", "shop", f"+{command.lower()}")
        check_store(store)
    assert refused or command not in ("GET", "SET", "ZADD", "ZREM")


KINDS = [
    "due",
    "all",
    "waiting",
    "failed",
    "failures",
    "groups",
    "uses",
    "amounts",
    "ids",
    "coming",
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_that_holds_something_else(
    store: RedisStore, own_client: redis.Redis, kind: str
) -> None:
    refused = 0
    for number in range(12):
        own_client.flushall()
        _, changes = prepared(store)
        keys = [
            key for key in own_client.keys(f"{store.namespace}:*") if f":{kind}" in key.decode()
        ]
        saved = {key: own_client.dump(key) for key in keys}
        names, bucket = store.keyspace, store.keyspace.session("order:1").bucket
        wrong = {
            "due": names.due(0),
            "all": names.all(0, bucket),
            "waiting": names.waiting(0, bucket),
            "failed": names.failed(0),
            "failures": names.failures(0, bucket),
            "groups": names.groups(0, bucket),
            "uses": names.uses(0, bucket),
            "amounts": names.amounts(0),
            "ids": names.event_ids(0, bucket),
            "coming": names.coming(0),
        }[kind]
        own_client.set(wrong, "somebody else's")
        before = dump(own_client, store)
        try:
            changes[number]()
        except StorageError:
            refused += 1
            assert dump(own_client, store) == before, f"change {number}"
            own_client.delete(wrong)
            if wrong in saved:
                own_client.restore(wrong, 0, saved[wrong])
            check_store(store)
    assert refused


@pytest.mark.parametrize(
    "command",
    ["get", "set", "zadd", "zrange", "zlexcount", "hset", "hgetall", "rpush", "persist", "unlink"],
)
def test_a_user_who_may_not_do_all_is_refused_when_the_store_opens(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis, command: str
) -> None:
    own_client.execute_command("ACL", "SETUSER", "shop", f"-{command}")
    url = own_server.url.replace("redis://", "redis://shop@")
    with pytest.raises(StorageError, match=rf"may not use {command.upper()}.*ACL SETUSER"):
        SessionDriver(make_redis_store(url=url)).fire("go")


def test_a_full_server_changes_nothing(store: RedisStore, own_client: redis.Redis) -> None:
    for number in range(10):
        own_client.flushall()
        _, changes = prepared(store)
        before = dump(own_client, store)
        own_client.config_set("maxmemory", "1")
        try:
            changes[number]()
        except StorageError:
            assert dump(own_client, store) == before, f"change {number}"
        finally:
            own_client.config_set("maxmemory", "0")
        check_store(store)


@pytest.mark.parametrize(
    "options",
    [
        {"idle_ttl": 0},
        {"idle_ttl": -1},
        {"idle_ttl": float("nan")},
        {"idle_ttl": float("inf")},
        {"idle_ttl": 1e300},
        {"idle_ttl": "5"},
        {"idle_ttl": True},
        {"idle_ttl": [5]},
        {"shards": "4"},
        {"shards": 3.5},
        {"shards": 4.0},
        {"shards": True},
        {"shards": 0},
        {"shards": 10**30},
        {"namespace": 5},
        {"namespace": ""},
        {"namespace": b"shop"},
        {"url": None},
        {"url": 5},
        {"url": "redis://[::1"},
        {"url": b"redis://localhost"},
        {"url": "redis://localhost:port/0"},
    ],
    ids=str,
)
def test_options_are_checked_when_the_store_opens(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(StorageError, match=name if name != "url" else "url|cannot use"):
        RedisStore(**options)


@pytest.mark.parametrize("value", ["5", 0, -1, float("nan"), True])
def test_an_option_of_a_connection_that_makes_no_sense(value: Any) -> None:
    with pytest.raises(StorageError, match="socket_timeout"):
        RedisStore(socket_timeout=value)


def test_the_namespace_is_settled_again_after_it_was_erased(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    running = make_redis_store(url=own_server.url, shards=5)
    SessionDriver(running, "order:1").fire("go")
    own_client.flushall()
    SessionDriver(running, "order:2").fire("go")
    late = make_redis_store(url=own_server.url, namespace=running.namespace, shards=3)
    with pytest.raises(StorageError, match="was made with 5 shards"):
        SessionDriver(late).fire("go")
    found = make_redis_store(url=own_server.url, namespace=running.namespace, shards=None)
    assert [each.uid for each in found.sessions()] == ["order:2"]


def test_a_process_notices_that_a_namespace_was_made_anew(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    old = make_redis_store(url=own_server.url, shards=None)
    assert old.keyspace.shards == 16
    own_client.flushall()
    new = make_redis_store(url=own_server.url, namespace=old.namespace, shards=3)
    SessionDriver(new, "order:1").fire("go")
    with pytest.raises(StorageError, match="was made with 3 shards"):
        SessionDriver(old, "order:2").fire("go")
    SessionDriver(old, "order:2").fire("go")
    assert [each.uid for each in new.sessions()] == ["order:1", "order:2"]
    assert old.keyspace.shards == 3


def test_configurations_go_with_their_last_session(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    store = make_redis_store(url=own_server.url)
    for number in range(300):
        session = SessionDriver(store, f"order:{number}")
        session.configure(t_x={"after": ["go"], "withParams": {"go": {"order": number}}})
    assert len(store.reader._configurations) <= 256
    kept = SessionDriver(store, "order:7")
    for number in range(300):
        if number not in (7, 8):
            store.delete(f"order:{number}")
    SessionDriver(store, "order:8").configure(t_x={"after": ["other"]})
    assert store.prune(1e6) == 0
    left = own_client.keys(f"{store.namespace}:*:c:*")
    assert len(left) == 2
    again = make_redis_store(url=own_server.url, namespace=store.namespace)
    assert SessionDriver(again, "order:7").fire("go").scheduled == ["t_x#0"]
    assert kept.status("t_x#0") == "scheduled"


def test_a_store_says_where_it_is_without_its_password(redis_url: str) -> None:
    store = RedisStore(redis_url.replace("redis://", "redis://me:geheim@"), namespace="shop")
    assert "shop" in store.place
    assert "geheim" not in store.place
