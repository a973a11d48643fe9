"""Exceptions out of signal handlers at any moment; connections that are closed by other threads."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from triggers_core.exceptions import SoftTimeLimitExceeded, StorageError
from triggers_core.testing import SessionDriver, check_store
from triggers_core.testing.interruptions import Interruption, at_random, interrupt_at, survey
from triggers_redis import RedisStore, writing

Make = Callable[..., RedisStore]

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def nothing_is_left_to_collect() -> Iterator[None]:
    """Sockets that redis-py was just making are let go of here, not in somebody else's test."""
    yield
    gc.collect()


@pytest.mark.traces
@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 0], ids=["packed", "spread"])
@pytest.mark.parametrize("step", [29, pytest.param(3, marks=pytest.mark.slow)])
def test_interruptions_all_along_every_operation(
    make_redis_store: Make, monkeypatch: pytest.MonkeyPatch, step: int, size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    report = survey(make_redis_store(), step=step)
    assert not report.problems, report
    assert report.interrupted.total() > 50


@pytest.mark.traces
def test_a_soft_time_limit_comes_out_of_every_operation(make_redis_store: Make) -> None:
    """It is an error of ours, and none of the network's or the file system's."""
    report = survey(make_redis_store(), step=31, error=SoftTimeLimitExceeded)
    assert not report.problems, report


@pytest.mark.slow
def test_interruptions_at_random_moments(make_redis_store: Make) -> None:
    store = make_redis_store()
    report = at_random(store, 3_000)
    assert not report.problems, report
    check_store(store)


@pytest.mark.traces
def test_a_connection_is_used_when_its_handshake_is_complete(
    make_redis_store: Make, redis_url: str
) -> None:
    """Else its commands go to another database, or read the replies of the handshake."""
    if not redis_url.endswith("/0"):
        pytest.skip("the database is chosen in the URL")
    url = redis_url.removesuffix("/0") + "/1"
    store = make_redis_store(url=url)
    session = SessionDriver(store)
    session.fire("go")
    elsewhere = SessionDriver(make_redis_store(url=url, namespace=store.namespace))
    interrupted, fired = 0, 1
    try:
        for number in range(1, 100_000, 13):
            store.close()
            where = interrupt_at(number, lambda: store.client.ask(b"PING"))
            for _ in range(2):
                session.fire("go")
                fired += 1
            assert elsewhere.header.events == fired, where
            if where is None:
                break
            interrupted += 1
        assert interrupted > 50
    finally:
        with redis.Redis.from_url(url) as client:
            client.flushdb()


def test_a_handler_that_fires_while_its_thread_waits_for_a_reply(make_redis_store: Make) -> None:
    store = make_redis_store()
    session, other = SessionDriver(store), SessionDriver(store, "order:2")
    session.fire("go")
    other.fire("go")
    connection = store.client._current()
    assert connection is not None
    send = connection._send

    def send_then_handle(request: tuple[bytes], check_health: bool) -> None:
        send(request, check_health=check_health)
        connection._send = send
        other.fire("handled")

    connection._send = send_then_handle
    session.fire("page")
    assert session.fired() == ["go", "page"]
    assert other.fired() == ["go", "handled"]


@pytest.mark.traces
def test_a_change_that_is_interrupted_releases_its_lock(make_redis_store: Make) -> None:
    store = make_redis_store()
    session = SessionDriver(store)
    session.fire("go")
    for number in itertools.count(1):
        where = interrupt_at(number, lambda: session.fire("go"))
        assert store.committer._locks._queues == {}, where
        if where is None:
            assert number > 100
            return


def test_a_store_that_is_closed_while_other_threads_fire(make_redis_store: Make) -> None:
    store = make_redis_store()
    problems: list[BaseException] = []
    fired = [0] * 4
    end = threading.Event()

    def work(number: int) -> None:
        session = SessionDriver(store, f"order:{number}")
        try:
            while not end.is_set():
                session.fire("go")
                fired[number] += 1
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    while min(fired) < 50 and not problems:
        store.close()
    end.set()
    for worker in workers:
        worker.join()
    assert problems == []
    for number, count in enumerate(fired):
        assert SessionDriver(store, f"order:{number}").header.events == count


def test_what_was_interrupted_is_not_known_any_more(
    make_redis_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_redis_store()
    session = SessionDriver(store)
    for _ in range(3):
        session.fire("go")
    assert store.committer._cache._views

    def interrupted(*_: object) -> None:
        raise Interruption

    monkeypatch.setattr(store.committer, "_send", interrupted)
    with pytest.raises(Interruption):
        session.fire("go")
    assert not store.committer._cache._views


def test_errors_of_an_outage_are_one_line(make_redis_store: Make) -> None:
    with pytest.raises(StorageError) as caught:
        SessionDriver(make_redis_store(url="redis://127.0.0.1:1/0")).fire("go")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
