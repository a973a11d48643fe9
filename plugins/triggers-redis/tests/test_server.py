"""What is checked of the server and the namespace, and what the errors say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from triggers_core.exceptions import StorageError, TriggersError, UnknownSchema
from triggers_core.storages import storage_backends
from triggers_core.testing import SessionDriver
from triggers_core.testing.server_process import free_ports
from triggers_redis import RedisStorage, RedisStore, connection, server
from triggers_redis.connection import Client, masked
from triggers_redis.testing import RedisServer, find_server


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def own_client(own_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_server.url) as client:
        yield client


Make = Callable[..., RedisStore]

# -- start-up -------------------------------------------------------------------------------------


def test_a_good_server_is_not_warned_about(
    make_redis_store: Make, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    SessionDriver(make_redis_store(url=own_server.url)).fire("go")
    assert caplog.records == []


def test_a_server_that_may_erase_sessions_is_warned_about_once(
    make_redis_store: Make,
    own_server: RedisServer,
    own_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        session = SessionDriver(make_redis_store(url=own_server.url))
        session.fire("go")
        session.fire("go")
        session.store.close()
        session.fire("go")
    finally:
        own_client.config_set("maxmemory-policy", "noeviction")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "maxmemory-policy allkeys-lru" in record.message
    assert "it will erase sessions" in record.message
    assert "Set maxmemory-policy noeviction" in record.message


def test_eviction_of_what_expires_concerns_those_who_let_sessions_expire(
    make_redis_store: Make,
    own_server: RedisServer,
    own_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_client.config_set("maxmemory-policy", "volatile-lru")
    try:
        SessionDriver(make_redis_store(url=own_server.url)).fire("go")
        assert caplog.records == []
        SessionDriver(make_redis_store(url=own_server.url, idle_ttl=3_600)).fire("go")
        assert len(caplog.records) == 1
    finally:
        own_client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("version", "warning"),
    [("6.2.6", True), ("6.2.7", False), ("6.2.14", False), ("7.0.0", False), ("8.4.1", False)],
)
def test_versions(
    own_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str,
    warning: bool,
) -> None:
    monkeypatch.setattr(server, "_info", lambda _: {"redis_version": version})
    server.check_server(Client(own_server.url, {}), None)
    assert ["CVE-2022-24735" in record.message for record in caplog.records] == [True] * warning


def test_a_server_that_is_too_old(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_info", lambda _: {"redis_version": "6.0.16"})
    with pytest.raises(StorageError, match=r"is Redis 6\.0\.16; Triggers needs 6\.2"):
        server.check_server(Client(own_server.url, {}), None)


def test_a_user_who_may_not_read_info_can_work(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    own_client.execute_command(
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info", "-config"
    )
    url = own_server.url.replace("redis://", "redis://app:secret@")
    assert SessionDriver(make_redis_store(url=url)).fire("go").status == "recorded"


# -- namespaces -----------------------------------------------------------------------------------


def test_namespaces_are_apart(make_redis_store: Make) -> None:
    one, two = SessionDriver(make_redis_store()), SessionDriver(make_redis_store())
    one.fire("go")
    assert not two.exists
    assert two.store.sessions() == []


def test_a_namespace_keeps_its_number_of_shards(make_redis_store: Make) -> None:
    store = make_redis_store(shards=3)
    SessionDriver(store).fire("go")
    with pytest.raises(StorageError, match=r"was made with 3 shards, not 16: sessions would not"):
        SessionDriver(make_redis_store(namespace=store.namespace, shards=16)).fire("go")
    found = make_redis_store(namespace=store.namespace, shards=None)
    assert SessionDriver(found).fired() == ["go"]
    assert found.keyspace.shards == 3


def test_sixteen_shards_unless_told_otherwise(make_redis_store: Make) -> None:
    assert make_redis_store(shards=None).keyspace.shards == 16


def test_a_namespace_of_a_newer_version(make_redis_store: Make, client: redis.Redis) -> None:
    store = make_redis_store()
    client.hset(f"{store.namespace}:meta", mapping={"schema": 2, "shards": 16})
    with pytest.raises(UnknownSchema, match=r"has schema 2.*upgrade triggers-redis"):
        SessionDriver(store).fire("go")


def test_a_session_of_a_newer_version(make_redis_store: Make, client: redis.Redis) -> None:
    session = SessionDriver(make_redis_store())
    session.fire("go")
    assert isinstance(session.store, RedisStore)
    key = session.store.keyspace.session(session.uid).names[0]
    client.set(key, b"Z1\tsomething\telse\n")
    for touch in (lambda: session.fire("go"), lambda: session.header):
        with pytest.raises(UnknownSchema, match="upgrade triggers-redis"):
            touch()
    assert client.get(key) == b"Z1\tsomething\telse\n"


@pytest.mark.parametrize("namespace", ["", "a{b}", "a\nb"])
def test_what_cannot_be_a_namespace(make_redis_store: Make, namespace: str) -> None:
    with pytest.raises(StorageError, match="namespace"):
        SessionDriver(make_redis_store(namespace=namespace)).fire("go")


@pytest.mark.parametrize("shards", [0, -1, 16_385])
def test_what_cannot_be_a_number_of_shards(make_redis_store: Make, shards: int) -> None:
    with pytest.raises(StorageError, match="shards must be"):
        SessionDriver(make_redis_store(shards=shards)).fire("go")


def test_every_key_of_a_session_is_in_one_slot(
    make_redis_store: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triggers_redis import writing

    monkeypatch.setattr(writing, "PACKED_SIZE", 0)
    store = make_redis_store(shards=100)
    session = SessionDriver(store, "an {odd} uid")
    session.configure(t_x={"andEvery": "go", "after": ["never"]}, t_y={"after": ["go"]})
    session.fire("go")
    keys = {key.decode() for key in client.scan_iter(match=f"{store.namespace}:*")}
    about = {key for key in keys if not key.endswith((":meta", ":shards"))}
    assert len(about) >= 7
    tags = {key.partition("{")[2].partition("}")[0] for key in about}
    assert tags == {f"{store.keyspace.session(session.uid).shard:02}"}


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://:secret@h:1/2", "rediss://:***@h:1/2"),
        ("redis://user:secret@h/0?password=secret&x=1", "redis://user:***@h/0"),
        ("redis://user@h/0", "redis://user@h/0"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_errors_name_the_server_and_hide_the_password(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    url = own_server.url.replace("redis://", "redis://nobody:geheim@")
    with pytest.raises(StorageError, match=r"redis://nobody:\*\*\*@127") as caught:
        SessionDriver(make_redis_store(url=url)).fire("go")
    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(make_redis_store(url=url))


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://localhost", {}),
        ("redis://localhost:6379/zero", {"no_such_option": 1}),
        ("redis://localhost:6379/0?protocol=3", {}),
    ],
)
def test_options_that_make_no_sense(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="cannot use"):
        RedisStore(url, **options)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path"])
def test_a_file_that_is_not_there(tmp_path: Path, option: str) -> None:
    with pytest.raises(StorageError, match=rf"{option}: .*nowhere cannot be read"):
        RedisStore("rediss://localhost", **{option: str(tmp_path / "nowhere")})  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=rf"{option}: .*nowhere cannot be read"):
        RedisStore(f"rediss://localhost?{option}={tmp_path / 'nowhere'}")


def test_a_database_that_is_not_there(make_redis_store: Make, own_server: RedisServer) -> None:
    """Refused at once: asking again does not help."""
    url = own_server.url.removesuffix("/0") + "/99"
    with pytest.raises(StorageError, match=r"/99 refused: DB index is out of range"):
        SessionDriver(make_redis_store(url=url)).fire("go")


def test_a_full_server_refuses_and_stores_nothing(
    make_redis_store: Make, own_server: RedisServer, own_client: redis.Redis
) -> None:
    session = SessionDriver(make_redis_store(url=own_server.url))
    session.fire("go")
    own_client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StorageError, match=r"refused: .*OOM"):
            session.fire("go")
    finally:
        own_client.config_set("maxmemory", "0")
    assert session.fired() == ["go"]
    assert session.fire("go").number == 1


def test_a_server_that_forgot_the_scripts(make_redis_store: Make, client: redis.Redis) -> None:
    session = SessionDriver(make_redis_store())
    session.configure(t_x={"andEvery": "go"})
    for _ in range(2):
        session.fire("go")
        client.script_flush()
        session.run_all()
        client.script_flush()
        session.store.due()
        client.script_flush()
        assert session.store.sessions() != []
    assert session.header.version == 7


def test_a_configuration_that_was_lost_is_a_clear_error(
    make_redis_store: Make, client: redis.Redis
) -> None:
    store = make_redis_store()
    SessionDriver(store).configure(t_x={"after": ["go"]})
    for key in client.scan_iter(match=f"{store.namespace}:*:c:*"):
        client.delete(key)
    with pytest.raises(StorageError, match="has no configuration"):
        SessionDriver(make_redis_store(namespace=store.namespace)).fire("go")


def test_a_configuration_that_a_crash_took_is_stored_again(
    make_redis_store: Make, client: redis.Redis
) -> None:
    """A process that has stored it before does not rely on the server's still having it."""
    store = make_redis_store(shards=1)
    SessionDriver(store, "order:1").configure(t_x={"after": ["go"]})
    store.delete("order:1")
    for key in client.scan_iter(match=f"{store.namespace}:*:c:*"):
        client.delete(key)
    SessionDriver(store, "order:2").configure(t_x={"after": ["go"]})
    other = SessionDriver(make_redis_store(namespace=store.namespace, shards=1), "order:2")
    assert other.fire("go").scheduled == ["t_x#0"]


# -- the registry ---------------------------------------------------------------------------------


def test_the_storage_is_found_by_its_key(redis_url: str, namespace: str) -> None:
    storage = storage_backends.get("redis", "order:1", url=redis_url, namespace=namespace)
    assert isinstance(storage, RedisStorage)
    assert storage.uid == "order:1"
    assert not storage.exists
    assert isinstance(storage.store, RedisStore)
    storage.store.close()


def test_equal_options_share_a_store(redis_url: str, namespace: str) -> None:
    one = RedisStorage("a", url=redis_url, namespace=namespace, socket_timeout=3.0)
    two = RedisStorage("b", url=redis_url, namespace=namespace, socket_timeout=3.0)
    three = RedisStorage("a", url=redis_url, namespace=namespace)
    assert one.store is two.store
    assert one.store is not three.store


def test_the_clock_is_the_servers(make_redis_store: Make, client: redis.Redis) -> None:
    store = make_redis_store()
    seconds, micros = client.time()
    before = seconds + micros / 1e6
    session = SessionDriver(store)
    session.fire("go")
    seconds, micros = client.time()
    assert before - 1 <= session.events()[0].at <= seconds + micros / 1e6 + 1
    assert before <= store.clock()


def test_times_of_long_ago_are_not_written(
    make_redis_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine was suspended while a body ran: the end is decided again, with a new time."""
    store = make_redis_store()
    session = SessionDriver(store)
    session.configure(t_x={"after": ["go"]})
    session.fire("go")
    claimed = session.claim("t_x#0")
    since, late = store.server_clock.since, list[float]()

    def slow(now: float, read_at: float) -> float:
        late.append(since(now, read_at) - 60)
        return late[-1]

    monkeypatch.setattr(store.server_clock, "since", slow)
    session.finish(claimed)
    assert len(late) == 1, "what is read for the second decision brings the time"
    assert session.events()[1].at > late[0] + 59
    assert session.header.version == 4


def test_a_server_can_be_found() -> None:
    assert find_server().endswith("redis-server")
    assert issubclass(StorageError, TriggersError)


def test_a_server_out_of_reach_is_called_that_and_asked_no_longer_than_patience_lasts(
    make_redis_store: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", 0.0)
    (port,) = free_ports()
    exhausted, given_up = Client._exhausted, list[Exception]()

    def count(self: Client, problem: Exception) -> StorageError:
        given_up.append(problem)
        return exhausted(self, problem)

    monkeypatch.setattr(Client, "_exhausted", count)
    store = make_redis_store(url=f"redis://127.0.0.1:{port}/0")
    with pytest.raises(StorageError, match="did not answer"):
        SessionDriver(store).fire("go")
    assert len(given_up) == 1
    assert "INFO" not in caplog.text
