"""Listings over many sessions, sessions that expire, sessions that are erased."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from triggers_core.engine.protocol import Query
from triggers_core.engine.recovery import Recover
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_redis import RedisStore, committing, writing
from triggers_redis.erasing import erase
from triggers_redis.keys import SessionKeys
from triggers_redis.testing import RedisServer

Make = Callable[..., RedisStore]


def test_pages_are_complete_and_in_order(make_redis_store: Make) -> None:
    """Far more than what is read of a bucket at once."""
    store = make_redis_store(shards=1)
    names = sorted(f"order:{number * 7919 % 100_003}" for number in range(1_500))
    for name in names:
        SessionDriver(store, name).fire("go")
    assert [each.uid for each in store.sessions()] == names
    read: list[str] = []
    while page := store.sessions(limit=100, after=read[-1] if read else ""):
        assert len(page) <= 100
        read += [each.uid for each in page]
    assert read == names
    assert [each.uid for each in store.sessions(limit=3, after=names[700])] == names[701:704]
    assert store.sessions(limit=0) == []


def test_no_listing_scans(make_redis_store: Make, tmp_path: Path) -> None:
    """By the account of a server that nobody else asks for anything."""
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        store = make_redis_store(url=server.url)
        for number in range(20):
            SessionDriver(store, f"order:{number}").fire("go")
        store.sessions()
        store.sessions(failed=True, waiting=True, limit=3)
        store.sessions(waiting=True, limit=3)
        store.prune(0.0)
        store.due()
        store.delete("order:0")
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert "zrangebylex" in used
    assert not {name for name in used if "scan" in name or name == "keys"}


def test_due_over_all_shards(make_redis_store: Make) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock, shards=5)
    for number in range(30):
        session = SessionDriver(store, f"order:{number:02}")
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        clock.advance(1)
    clock.advance(100)
    assert [each.uid for each in store.due()] == [f"order:{number:02}" for number in range(30)]
    assert [each.uid for each in store.due(limit=4)] == [f"order:{n:02}" for n in range(4)]
    assert store.due(limit=0) == []
    soonest = store.next_due()
    assert soonest is not None
    assert soonest == pytest.approx(60 - 130)


@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 0], ids=["packed", "spread"])
def test_nothing_is_left_of_an_erased_session(
    make_redis_store: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    store = make_redis_store(VirtualClock())
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"}, t_y={"after": ["go", "more"]})
    for _ in range(1_100 if size == 0 else 3):
        session.fire("go")
    session.fail_now("t_x#0")
    assert store.delete(session.uid)
    left = {key.decode().rpartition(":")[2] for key in client.scan_iter(f"{store.namespace}:*")}
    assert len(left) == 4, f"the namespace, its marks, the configuration and its index: {left}"
    assert store.prune(0) == 0
    left = {key.decode().rpartition(":")[2] for key in client.scan_iter(f"{store.namespace}:*")}
    assert left == {"meta", "shards"}
    check_store(store)
    assert not store.delete(session.uid)


def test_pruning_spares_what_has_changed_meanwhile(
    make_redis_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock)
    for uid in ("old", "busy"):
        session = SessionDriver(store, uid)
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.run("t_x#0")
    clock.advance(100)
    erase = store.fleet._erase

    def late(keys: object, version_line: bytes) -> bool:
        if keys == store.keyspace.session("busy"):
            SessionDriver(store, "busy").fire("go")
        return erase(keys, version_line)  # type: ignore[arg-type]

    monkeypatch.setattr(store.fleet, "_erase", late)
    assert store.prune(50) == 1
    assert [each.uid for each in store.sessions()] == ["busy"]


# -- idle TTL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 0], ids=["packed", "spread"])
def test_sessions_expire_only_when_asked(
    make_redis_store: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    for ttl in (None, 3_600.0):
        store = make_redis_store(idle_ttl=ttl)
        session = SessionDriver(store)
        session.configure(t_x={"after": ["go"]}, t_y={"after": ["t_x", "more"]})

        def expires(store: RedisStore = store, session: SessionDriver = session) -> set[bool]:
            names = store.keyspace.session(session.uid).names[:4]
            return {client.pttl(name) > 0 for name in names if client.exists(name)}

        session.fire("noise")
        assert expires() == {ttl is not None}
        session.fire("go")
        assert expires() == {False}, "something is under way"
        claimed = session.claim("t_x#0")
        assert expires() == {False}
        session.finish(claimed)
        assert expires() == {ttl is not None}


def test_what_has_expired_is_taken_out_of_the_listings(
    make_redis_store: Make, client: redis.Redis
) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock, idle_ttl=3_600.0)
    for uid in ("a", "b", "c"):
        session = SessionDriver(store, uid)
        session.configure(t_x={"andEvery": "go"})
        session.fire("go")
        session.fail_now("t_x#0")
        session.fire("go")
        clock.advance(1)
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    clock.advance(100)
    assert [each.uid for each in store.sessions(failed=True, limit=2)] == ["b", "c"]
    assert [each.uid for each in store.sessions(waiting=True)] == []
    assert [each.uid for each in store.sessions()] == ["b", "c"]
    assert store.load("a", Query()).header is None
    for due in store.due():
        if due.uid == "a":
            SessionDriver(store, "a").commit(Recover(instances=(due.instance,)))
    check_store(store)


def test_large_groups_of_one_bucket_are_passed_over(make_redis_store: Make) -> None:
    """More than the script reads at once, of both groups; and smaller ones between and behind."""
    clock = VirtualClock()
    store = make_redis_store(clock, shards=1)
    names = (f"order:{number}" for number in range(100_000))
    uids = [uid for uid in names if store.keyspace.session(uid).bucket == 0][:45]
    began = clock()
    for number, uid in enumerate(uids):
        session = SessionDriver(store, uid)
        session.configure(t_x={"after": ["a", "b", "c"]})
        for trigger in {0: "a", 1: "ab", 2: "ac"}.get(number, "" if number % 2 else "a"):
            session.fire(trigger)
        clock.advance(1)
    assert [
        (each.missing, each.sessions, each.since - began) for each in store.waiting_groups()
    ] == [
        (("b", "c"), 22, 0.0),
        ((), 21, 3.0),
        (("c",), 1, 1.0),
        (("b",), 1, 2.0),
    ]
    assert [each.uid for each in store.waiting_for(())] == uids[3::2]
    assert [each.uid for each in store.waiting_for((), limit=2, after=began + 5)] == uids[5:8:2]


def test_an_event_of_an_expired_session_is_found_no_more(
    make_redis_store: Make, client: redis.Redis
) -> None:
    store = make_redis_store(idle_ttl=3_600.0)
    for uid in ("a", "b"):
        SessionDriver(store, uid).configure(t_x={"after": ["go"]})
        SessionDriver(store, uid).fire("paid", event_id="stripe:1")
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    assert store.find_event("stripe:1") == [("b", 0)]
    [use] = store.configurations_in_use()
    assert (use.sessions, use.example) == (1, "b"), "it was taken out of all lists"
    assert store.prune(-1, resolved_only=False) == 1
    assert store.find_event("stripe:1") == []
    left = {key.decode().rpartition(":")[2] for key in client.scan_iter(f"{store.namespace}:*")}
    assert left == {"meta", "shards"}


def test_a_session_inherits_nothing_of_one_that_expired(
    make_redis_store: Make, client: redis.Redis
) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock, idle_ttl=3_600.0)

    def live(event_id: str) -> None:
        session = SessionDriver(store, "a")
        session.configure(t_x={"after": ["go"]}, t_y={"after": ["paid", "packed"]})
        session.fire("paid", event_id=event_id)
        session.fire("go")
        session.fail_now("t_x#0")

    live("stripe:1")
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    clock.advance(10)
    live("stripe:2")
    [use] = store.configurations_in_use() or []
    assert use.sessions == 1
    assert [(each.missing, each.sessions, each.since) for each in store.waiting_groups()] == [
        (("packed",), 1, clock())
    ]
    assert [each.uid for each in store.waiting_for(("packed",))] == ["a"]
    assert store.find_event("stripe:1") == []
    assert store.find_event("stripe:2") == [("a", 0)]
    assert [each.at for each in store.failed_instances()] == [clock()]
    check_store(store)
    assert store.delete("a")
    assert store.configurations_in_use() == []


def test_a_listing_spares_a_session_that_has_begun_anew_meanwhile(
    make_redis_store: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_redis_store(idle_ttl=3_600.0)
    SessionDriver(store, "a").fire("go")
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    erase = store.fleet._erase

    def late(keys: SessionKeys, version_line: bytes) -> bool:
        SessionDriver(store, "a").fire("again")
        return erase(keys, version_line)

    monkeypatch.setattr(store.fleet, "_erase", late)
    store.sessions()
    monkeypatch.undo()
    assert [each.uid for each in store.sessions()] == ["a"]
    assert [each.trigger for each in store.events("a")] == ["again"]


def test_a_sweep_spares_what_is_due_of_a_session_that_has_begun_anew_meanwhile(
    make_redis_store: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock, idle_ttl=3_600.0)

    def live() -> None:
        session = SessionDriver(store, "a")
        session.configure(t_x={"after": ["go"]})
        session.fire("go")

    live()
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    clock.advance(1_000)

    def late(*arguments: Any) -> bool:
        monkeypatch.undo()
        live()
        return erase(*arguments)

    monkeypatch.setattr(committing, "erase", late)
    SessionDriver(store, "a").commit(Recover(instances=("t_x#0",)))
    clock.advance(1_000)
    assert [(each.uid, each.instance) for each in store.due()] == [("a", "t_x#0")]
    client.unlink(*store.keyspace.session("a").names[:4])
    SessionDriver(store, "a").commit(Recover(instances=("t_x#0",)))
    assert store.due() == []


def test_an_expired_session_takes_no_place_of_a_page(
    make_redis_store: Make, client: redis.Redis
) -> None:
    store = make_redis_store(idle_ttl=3_600.0)
    for uid in ("a", "b"):
        SessionDriver(store, uid).fire("paid", event_id="stripe:1")
    client.unlink(*store.keyspace.session("a").names[:4])  # as if its time had come
    assert store.find_event("stripe:1", limit=1) == [("b", 0)]
    assert store.find_event("stripe:1", limit=0) == []


def test_what_somebody_else_has_listed_holds_nobody_up(
    make_redis_store: Make, client: redis.Redis
) -> None:
    store = make_redis_store(shards=1)
    SessionDriver(store, "a").configure(t_x={"after": ["go"]})
    other = store.keyspace.session("a").bucket ^ 1
    client.zadd(store.keyspace.waiting(0, other), {"a\tgo": 1.0, "a": 1.0})
    assert [each.uid for each in store.sessions(waiting=True)] == ["a"]
