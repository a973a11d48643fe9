"""Many threads and processes firing into one session: none lost, none double, nobody starves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from triggers_core.exceptions import Contended
from triggers_core.testing import SessionDriver
from triggers_redis import RedisStore, committing
from triggers_redis.scripts import COMMIT
from triggers_redis.view import Ask

CONFIGURATION = {"t_each": {"andEvery": "go"}, "t_all": {"after": ["first", "go", "last"]}}

PROCESS = """
import json, sys, time
from triggers_core.testing import SessionDriver
from triggers_redis import RedisStore
url, namespace, name, count = sys.argv[1:]
with RedisStore(url, namespace) as store:
    session = SessionDriver(store)
    session.fire(f"ready {name}")
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for number in range(int(count)):
        session.fire("go", event_id=f"{name}/{number}")
    print(json.dumps(time.perf_counter() - began))
"""


def single_thread(store: RedisStore, count: int) -> float:
    """Seconds that one thread takes for so many fires."""
    session = SessionDriver(store, "alone")
    session.configure(CONFIGURATION)
    began = time.perf_counter()
    for number in range(count):
        session.fire("go", event_id=str(number))
    return time.perf_counter() - began


def check(session: SessionDriver, expected: set[str]) -> None:
    """Every fire is there once, and each made its instance."""
    ids = Counter(event.id for event in session.events() if event.trigger == "go")
    assert set(ids) == expected
    assert set(ids.values()) == {1}
    created = session.header.created("t_each")
    assert created == len(expected)
    assert len(session.store.instances(session.uid, task="t_each")) == created


def told(who: str, took: list[float], total: float, alone: float) -> None:
    # The slowest of those that started together, over the fastest: 1 is perfectly fair.
    print(
        f"\n{who}: fairness {min(took) / max(took):.2f} (goal 0.5), total time"
        f" {total / alone:.2f} of a single thread's (goal 1)"
    )


@pytest.mark.parametrize("threads", [8, 32])
def test_threads(make_redis_store: Callable[..., RedisStore], threads: int) -> None:
    store, each = make_redis_store(), 640 // threads
    session = SessionDriver(store)
    session.configure(CONFIGURATION)
    start, took = threading.Barrier(threads), [0.0] * threads

    def work(number: int) -> None:
        session.fire(f"ready {number}")
        start.wait()
        began = time.perf_counter()
        for fire in range(each):
            session.fire("go", event_id=f"{number}/{fire}")
        took[number] = time.perf_counter() - began

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    check(session, {f"{number}/{fire}" for number in range(threads) for fire in range(each)})
    told(f"{threads} threads", took, max(took), single_thread(store, threads * each))


def test_processes(make_redis_store: Callable[..., RedisStore], redis_url: str) -> None:
    store, count, each = make_redis_store(), 4, 200
    session = SessionDriver(store)
    session.configure(CONFIGURATION)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, redis_url, store.namespace, str(number), str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    took = []
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            took.append(json.loads(worker.communicate()[0]))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    check(session, {f"{number}/{fire}" for number in range(count) for fire in range(each)})
    told(f"{count} processes", took, max(took), single_thread(store, count * each))


def test_whoever_keeps_losing_reserves_the_session(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adversary commits between every load and every commit, until it finds a ticket."""
    store = make_redis_store()
    mine = SessionDriver(store)
    others = make_redis_store(namespace=store.namespace)
    adversary = SessionDriver(others)
    mine.configure(CONFIGURATION)
    run, seen = store.client.run, list[bytes]()

    def interfere(script: object, *arguments: object) -> object:
        if script is COMMIT and len(seen) < 50:
            view = others.reader.view(others.keyspace.session(mine.uid), Ask())
            seen.append(view.ticket_owner)
            if not view.ticket_owner:
                adversary.fire("noise")
        return run(script, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store.client, "run", interfere)
    assert mine.fire("go").status == "recorded"
    assert seen[:-1] == [b""] * (committing.TICKET_AFTER + 1)
    assert seen[-1] == store.committer._owner
    assert others.reader.view(others.keyspace.session(mine.uid), Ask()).ticket_owner == b""


def test_others_wait_for_a_ticket_but_not_for_ever(
    make_redis_store: Callable[..., RedisStore],
) -> None:
    """Its owner has died: the session is free again after a moment."""
    store = make_redis_store()
    mine = SessionDriver(store)
    mine.fire("go")
    mine.configure(CONFIGURATION)
    keys = store.keyspace.session(mine.uid)
    extras = [b"x", b"", b"", b"somebody else", b""]
    now = store.server_clock.session_argument(store.clock())
    arguments = [now, b"", b"an older version\n", b"a value", *extras]
    reply, _ = store.client.run(COMMIT, 5, keys.encoded[5], arguments)
    assert reply[:1] == b"!"
    assert store.reader.view(keys, Ask()).ticket_owner == b"somebody else"
    claimed = mine.claim("t_each#0") if mine.fire("go").scheduled else None
    assert claimed is not None
    assert store.reader.view(keys, Ask()).ticket_owner == b""


def test_a_change_that_always_loses_says_so(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_redis_store()
    monkeypatch.setattr(committing, "_CONFLICT_TIMEOUT", 0.0)
    others = SessionDriver(make_redis_store(namespace=store.namespace))
    run = store.client.run

    def interfere(script: object, *arguments: object) -> object:
        if script is COMMIT:
            others.fire("noise")
        return run(script, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store.client, "run", interfere)
    with pytest.raises(Contended, match="order:1: lost 1 races in 0 s"):
        SessionDriver(store).fire("go")
    assert set(others.fired()) == {"noise"}
