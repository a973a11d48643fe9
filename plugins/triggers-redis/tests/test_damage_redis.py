"""A session that cannot be read harms itself alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import redis

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_redis import RedisStore

Make = Callable[..., RedisStore]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(make_redis_store: Make, clock: VirtualClock) -> RedisStore:
    store = make_redis_store(clock)
    for uid in ("a", "b", "c"):
        session = SessionDriver(store, uid)
        session.configure(t_x={"andEvery": "go"}, t_y={"after": ["t_x", "more"]})
        session.fire("go")
    return store


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "newer header": lambda text: text.replace(b"\n{", b'\n{"schema":2,', 1),
    "no header": lambda text: text.partition(b"\n")[0] + b"\n",
    "no JSON": lambda text: text.replace(b"{", b"<"),
    "another form": lambda text: b"Z" + text[1:],
    "no text": lambda text: b"\xff\xfe" + text,
    "numbers": lambda text: text.replace(b"\t1\t", b"\tx\t", 1),
    "nothing": lambda text: b"\n",
    "not a version": lambda text: text[:1] + b"x" + text[2:],
}


@pytest.mark.parametrize("kind", [*DAMAGE, "wrong type"])
def test_listings_go_on_around_it(
    make_redis_store: Make,
    store: RedisStore,
    client: redis.Redis,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    key = store.keyspace.session("b").names[0]
    text = client.get(key)
    if kind == "wrong type":
        client.delete(key)
        client.rpush(key, "something else")
    else:
        client.set(key, DAMAGE[kind](text))
    clock.advance(1e6)
    for _ in range(3):
        listed = [each.uid for each in store.sessions()]
        assert listed == ["a", "c"]
        assert [each.uid for each in store.sessions(limit=1, after="a")] == ["c"]
        assert store.sessions(waiting=True) == store.sessions(failed=True) == []
    assert {each.uid for each in store.due()} == {"a", "b", "c"}
    elsewhere = make_redis_store(clock, namespace=store.namespace)  # which has seen nothing before
    with pytest.raises(StorageError):
        SessionDriver(elsewhere, "b").fire("go")
    assert SessionDriver(store, "a").fire("go").status == "recorded"
    SessionDriver(store, "a").recover()
    before = client.dump(key)
    clock.advance(1e6)
    assert store.prune(0, resolved_only=False) == 2
    assert client.dump(key) == before
    named = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(named) == 1, "it is named once"
    assert "b" in named[0].message
    assert store.delete("b")
    assert not client.exists(key)


def test_a_configuration_stays_as_long_as_nobody_knows_who_has_it(
    make_redis_store: Make, client: redis.Redis
) -> None:
    store = make_redis_store(shards=1)
    SessionDriver(store, "a").configure(t_x={"after": ["go"]})
    key = store.keyspace.session("a").names[0]
    text = client.get(key)
    client.set(key, DAMAGE["newer header"](text))
    assert store.prune(-1, resolved_only=False) == 0
    client.set(key, text)
    again = make_redis_store(namespace=store.namespace, shards=1)
    assert SessionDriver(again, "a").fire("go").scheduled == ["t_x#0"]


def test_an_instance_that_cannot_be_read(store: RedisStore, client: redis.Redis) -> None:
    key = store.keyspace.session("b").names[0]
    client.set(key, client.get(key).replace(b'"task"', b'"s":"paused","task"'))
    session = SessionDriver(store, "b")
    with pytest.raises(UnknownSchema, match="b: "):
        session.claim("t_x#0", attempt=1, generation=session.header.generation)
    assert session.fire("go").status == "recorded"


def test_what_somebody_else_put_into_an_index(
    store: RedisStore, client: redis.Redis, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.advance(1e6)
    shard = store.keyspace.session("a").shard
    client.zadd(store.keyspace.due(shard), {b"\xff\xfe": 1, b"nothing": 2})
    assert {each.uid for each in store.due()} == {"a", "b", "c"}
    client.delete(store.keyspace.due(shard))
    client.set(store.keyspace.due(shard), "something else")
    expected = {uid for uid in "abc" if store.keyspace.session(uid).shard != shard}
    for _ in range(2):
        assert {each.uid for each in store.due()} == expected
    assert len(caplog.records) == 1


def test_recovering_what_is_not_there(store: RedisStore) -> None:
    recovered = SessionDriver(store, "nobody").recover("t_x#0")
    assert recovered.dispatch == []
    assert SessionDriver(store, "nobody").recover().dispatch == []


@pytest.fixture
def ahead(store: RedisStore, make_redis_store: Make, clock: VirtualClock) -> RedisStore:
    """The same store as a process sees it whose clock is far ahead."""
    wrong = VirtualClock()
    wrong.advance(clock() - wrong() + 1e7)
    return make_redis_store(wrong, namespace=store.namespace)


def test_a_lease_of_a_wrong_clock_is_free(store: RedisStore, ahead: RedisStore) -> None:
    assert ahead.acquire_lease("sweep", "one", 30)
    assert store.acquire_lease("sweep", "two", 30)
    assert not store.acquire_lease("sweep", "one", 30)


def test_what_lies_far_ahead(store: RedisStore, ahead: RedisStore, clock: VirtualClock) -> None:
    assert store.due_ahead(1e6) == []
    for uid in ("a", "b"):
        SessionDriver(ahead, uid).fire("go")
    assert {(each.uid, each.instance) for each in store.due_ahead(1e6)} == {
        ("a", "t_x#1"),
        ("b", "t_x#1"),
    }
    assert len(store.due_ahead(1e6, limit=1)) == 1
    assert store.now() == clock()


def test_what_comes_by_itself_is_not_hidden_by_a_damaged_session(
    make_redis_store: Callable[..., RedisStore], client: redis.Redis
) -> None:
    store = make_redis_store()
    for uid in "abc":
        session = SessionDriver(store, uid)
        session.configure(t_late={"after": ["go", "more"], "within": "1 hour"})
        session.fire("go")
    assert [uid for uid, _ in store.coming(4_000)] == ["a", "b", "c"]
    name = store.keyspace.session("b").names[0]
    client.delete(name)
    client.rpush(name, "something else")
    assert [uid for uid, _ in store.coming(4_000)] == ["a", "c"]
    client.set(store.keyspace.session("c").names[0], "Q1\tof another version\n{}\n")
    assert [uid for uid, _ in store.coming(4_000)] == ["a"]
