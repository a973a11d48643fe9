"""Exceptions out of signal handlers at any moment; stores that are closed by other threads."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from triggers_core.exceptions import NestedCommit, SoftTimeLimitExceeded
from triggers_core.testing import SessionDriver, check_store
from triggers_core.testing.interruptions import Interruption, at_random, interrupt_at, survey
from triggers_postgres import PostgresStore
from triggers_postgres.errors import uncover
from triggers_postgres.exchange import Exchange
from triggers_postgres.outcomes import call

Make = Callable[..., PostgresStore]

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def nothing_is_left_to_collect() -> Iterator[None]:
    """Connections that were just being made are let go of here, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def closed(make_postgres_store: Make) -> SessionDriver:
    """A session with one event, whose store is closed: the next change opens its pool anew."""
    session = SessionDriver(make_postgres_store())
    session.fire("go")
    session.store.close()
    return session


@pytest.mark.traces
@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_interruptions_all_along_every_operation(make_postgres_store: Make, step: int) -> None:
    report = survey(make_postgres_store(), step=step)
    assert not report.problems, report
    assert report.interrupted.total() > 50


@pytest.mark.traces
def test_a_soft_time_limit_comes_out_of_every_operation(make_postgres_store: Make) -> None:
    """It is an error of ours, and none of the network's or the file system's."""
    report = survey(make_postgres_store(), step=41, error=SoftTimeLimitExceeded)
    assert not report.problems, report


@pytest.mark.slow
def test_interruptions_at_random_moments(make_postgres_store: Make) -> None:
    store = make_postgres_store()
    report = at_random(store, 1_000)
    assert not report.problems, report
    check_store(store)


@pytest.mark.traces
def test_no_interruption_uses_up_the_pool(make_postgres_store: Make) -> None:
    """With one connection in the pool, a single one that nobody gives back is noticed at once."""
    store = make_postgres_store(max_size=1, timeout=5)
    session = SessionDriver(store)
    session.fire("go")
    interrupted = 0
    for number in range(1, 100_000, 11):
        where = interrupt_at(number, lambda: session.fire("page"))
        session.fire("go")
        if where is None:
            break
        interrupted += 1
    assert interrupted > 20


def test_an_interruption_while_the_pool_starts_its_threads(
    closed: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Thread.start` raises KeyError over what a handler raises once the thread runs."""
    name = next(
        name for name in ("_start_joinable_thread", "_start_new_thread") if hasattr(threading, name)
    )
    start_thread: Callable[..., Any] = getattr(threading, name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        start_thread(*args, **kwargs)
        thread = args[0].__self__  # by itself: those of other pools come and go
        while thread in threading._limbo:  # type: ignore[attr-defined]
            pass
        raise TimeoutError("of the handler's")

    monkeypatch.setattr(threading, name, interrupted)
    with pytest.raises(TimeoutError, match="of the handler's"):
        closed.fire("lost")
    closed.fire("go")
    assert closed.fired() == ["go", "go"]


def test_an_interruption_while_a_connection_is_waited_for(
    closed: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition that is left when it has given up its lock raises RuntimeError over it."""
    wait = threading.Condition.wait

    def interrupted(condition: Any, timeout: float | None = None) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return wait(condition, timeout)
        if sys._getframe(1).f_globals["__name__"] != "psycopg_pool.pool":
            return wait(condition, timeout)
        monkeypatch.undo()
        condition._release_save()
        raise TimeoutError("of the handler's")

    monkeypatch.setattr(threading.Condition, "wait", interrupted)
    try:
        raise KeyError("what the application was handling")
    except KeyError:
        with pytest.raises(TimeoutError, match="of the handler's"):
            closed.fire("lost")
    closed.fire("go")
    assert closed.fired() == ["go", "go"]


@pytest.mark.traces
def test_an_interruption_within_psycopgs_transaction_leaves_the_next_one_alone(
    make_postgres_store: Make,
) -> None:
    """Else psycopg miscounts the transactions of a connection that is used again."""
    store = make_postgres_store()
    session = SessionDriver(store)
    session.fire("go")

    def one_transaction() -> None:
        with store.transaction():
            pass

    interrupted = 0
    while interrupt_at(interrupted + 1, one_transaction) is not None:
        interrupted += 1
        one_transaction()
    assert interrupted > 100
    with store.transaction():
        session.fire("go")
    assert session.fired() == ["go", "go"]


def test_a_time_limit_comes_out_of_what_follows_a_commit() -> None:
    def strike() -> None:
        raise SoftTimeLimitExceeded("5 s")

    with pytest.raises(SoftTimeLimitExceeded):
        call(strike)


def test_what_was_raised_beneath_the_errors_of_threading() -> None:
    mine, handled = Interruption("mine"), RuntimeError("can't start new thread")

    def start() -> None:
        try:
            raise mine
        finally:
            threading.Lock().release()  # as Condition.wait does

    uncover(handled, None)
    with pytest.raises(RuntimeError, match="release unlocked lock") as released:
        start()
    with pytest.raises(Interruption) as uncovered:
        uncover(released.value, handled)
    assert uncovered.value is mine
    uncover(released.value, mine)


def test_no_transaction_stays_open(
    make_postgres_store: Make,
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever comes between the lock and the end; another connection gets the lock at once."""
    store = make_postgres_store()
    session = SessionDriver(store)
    session.fire("go")
    answers = Exchange.answers

    def interrupted(exchange: Exchange, batch: Any, last: bool = False) -> Any:
        answers(exchange, batch, last)
        raise Interruption

    monkeypatch.setattr(Exchange, "answers", interrupted)
    with pytest.raises(Interruption):
        session.fire("go")
    monkeypatch.undo()
    connection.execute("SET lock_timeout = '20s'")
    lock = f'SELECT 1 FROM "{store.schema}".sessions FOR UPDATE'
    assert connection.execute(lock).fetchall() == [(1,)]
    assert session.fired() == ["go"]


def test_a_handler_cannot_fire_while_its_thread_does(
    make_postgres_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for a lock that only the end of what it interrupted releases."""
    store = make_postgres_store()
    session, other = SessionDriver(store), SessionDriver(store, "order:2")
    session.fire("go")
    answers = Exchange.answers

    def handle_then_answer(exchange: Exchange, batch: Any, last: bool = False) -> Any:
        monkeypatch.undo()
        for each in (session, other):
            with pytest.raises(NestedCommit, match="a signal handler cannot change"):
                each.fire("handled")
        assert session.fired() == ["go"], "it may look"
        return answers(exchange, batch, last)

    monkeypatch.setattr(Exchange, "answers", handle_then_answer)
    session.fire("page")
    assert session.fired() == ["go", "page"]


def test_a_store_that_is_closed_while_other_threads_fire(make_postgres_store: Make) -> None:
    store = make_postgres_store()
    problems: list[BaseException] = []
    fired = [0] * 4
    end, one = threading.Event(), threading.Semaphore(0)

    def work(number: int) -> None:
        session = SessionDriver(store, f"order:{number}")
        try:
            while not end.is_set():
                session.fire("go")
                fired[number] += 1
                one.release()
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    while min(fired) < 20 and not problems:
        store.close()
        assert one.acquire(timeout=60)
    end.set()
    for worker in workers:
        worker.join()
    assert problems == []
    for number, count in enumerate(fired):
        assert SessionDriver(store, f"order:{number}").header.events == count
