"""Connections, threads and forks; a server that is killed and comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis

from triggers_core.exceptions import StorageError
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_redis import RedisStore
from triggers_redis.testing import RedisServer


def connections(client: redis.Redis, name: str) -> set[str]:
    """The ids that the server has given to the connections of a name."""
    return {each["id"] for each in client.client_list() if each["name"] == name}


def test_each_thread_holds_one_connection(
    make_redis_store: Callable[..., RedisStore], client: redis.Redis
) -> None:
    store = make_redis_store(client_name="held")
    session = SessionDriver(store)
    session.fire("go")
    mine = connections(client, "held")
    assert len(mine) == 1
    started, end = threading.Barrier(4), threading.Event()

    def work() -> None:
        for _ in range(3):
            session.fire("go")
        started.wait()
        end.wait()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    started.wait()
    try:
        assert len(connections(client, "held")) == 4
        assert mine <= connections(client, "held")
    finally:
        end.set()
        for worker in workers:
            worker.join()
    store.close()
    session.fire("go")
    assert len(connections(client, "held")) == 1
    assert len(session.fired()) == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_a_connection_of_its_own(
    make_redis_store: Callable[..., RedisStore], client: redis.Redis
) -> None:
    store = make_redis_store(client_name="forked")
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    session.fire("go")
    before = connections(client, "forked")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            for _ in range(50):
                session.fire("go")
            os.write(writing, "\n".join(connections(client, "forked") - before).encode())
        os._exit(0)
    for _ in range(50):
        session.fire("go")
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert len(pipe.read().splitlines()) == 1
    while len(connections(client, "forked")) > len(before):
        pass  # the server has not noticed the child's end yet
    assert connections(client, "forked") == before, "the parent's connection is as it was"
    session.fire("go")
    assert session.fired() == ["go"] * 102
    assert session.header.created("t_x") == 102


def test_a_server_that_is_killed_loses_nothing_that_it_acknowledged(
    aof_server: RedisServer, make_redis_store: Callable[..., RedisStore]
) -> None:
    """With `appendfsync always`: fires go on while it is killed and started again, three times."""
    store = make_redis_store(url=aof_server.url)
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    acknowledged: list[str] = []
    kills, stop, fired = 3, threading.Event(), threading.Semaphore(0)

    def wait_for_fires() -> None:
        for _ in range(20):
            assert fired.acquire(timeout=60), "fires go on"

    def fire(name: str) -> None:
        number = 0
        while not stop.is_set():
            event_id = f"{name}/{number}"
            try:
                session.fire("go", event_id=event_id)
            except StorageError:
                continue  # the same id again: whether it was recorded or not, it counts once
            acknowledged.append(event_id)
            number += 1
            fired.release()

    workers = [threading.Thread(target=fire, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    try:
        for _ in range(kills):
            wait_for_fires()
            aof_server.kill()
            aof_server.start()
        wait_for_fires()
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    recorded = [event.id for event in session.events()]
    assert len(recorded) == len(set(recorded)), "none twice"
    assert set(recorded) >= set(acknowledged), "none lost"
    assert session.header.created("t_x") == len(recorded)
    print(f"\n{len(acknowledged)} fires, {kills} kills of the server: 0 lost, 0 double")


def test_everything_is_there_after_a_kill(
    aof_server: RedisServer, make_redis_store: Callable[..., RedisStore]
) -> None:
    """Also what no event tells: claims, leases, due times, failures, the configuration."""
    clock = VirtualClock()
    store = make_redis_store(clock, url=aof_server.url)
    for number in range(40):
        session = SessionDriver(store, f"order:{number}")
        session.configure(t_x={"andEvery": "go"}, t_y={"after": ["t_x", "more"]})
        for _ in range(number % 7 + 1):
            session.fire("go", {"text": "x" * 300})
        claimed = session.claim("t_x#0")
        session.heartbeat(claimed)
        if number % 3 == 0:
            session.finish(claimed)
        elif number % 3 == 1:
            session.fail(claimed)
    before = [SessionDriver(store, each.uid).image() for each in store.sessions()]
    listed = store.sessions(failed=True), store.sessions(waiting=True)
    aof_server.kill()
    aof_server.start()
    again = make_redis_store(clock, url=aof_server.url, namespace=store.namespace)
    assert [SessionDriver(again, each.uid).image() for each in again.sessions()] == before
    assert (again.sessions(failed=True), again.sessions(waiting=True)) == listed
    assert again.next_due() is not None
    assert SessionDriver(again, "order:2").status("t_x#0") == "running"
    check_store(again)
