"""Transactions of the SQLite storage: interrupted, abandoned, forked, replaced; and killed."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from processes.spawn import Child

from triggers_core.exceptions import CannotJoin, NestedCommit, StorageError, WrongState
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.storages.sqlite import file as sqlite_file
from triggers_core.testing import Crash, CrashingStore, CrashPoints, SessionDriver, check_store
from triggers_core.testing.driver import rules_with
from triggers_core.testing.interruptions import (
    Interruption,
    in_another_thread,
    interrupt_at,
)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture
def path(fast_dir: Path) -> Path:
    return fast_dir / "triggers.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as store:
        yield store


@pytest.fixture
def one(store: SqliteStore) -> SessionDriver:
    return SessionDriver(store, "order:1")


def triggers(store: SqliteStore, uid: str = "order:1") -> list[str]:
    """What another process finds."""
    with SqliteStore(store.file.path) as other:
        return [event.trigger for event in other.events(uid)]


def nothing_is_left(store: SqliteStore) -> None:
    """No lock is held: this thread, others and other processes can write."""
    SessionDriver(store, "after").fire("here")
    assert store.file.held is None
    assert not store.file.mutex._is_owned()  # type: ignore[attr-defined]
    in_another_thread(lambda: SessionDriver(store, "after").fire("in another thread"))
    with SqliteStore(store.file.path) as other:
        SessionDriver(other, "after").fire("in another process")
    assert triggers(store, "after")[-3:] == ["here", "in another thread", "in another process"]


# -- killed ----------------------------------------------------------------------------------------


@forks
def test_a_process_that_is_killed_leaves_all_of_it_or_nothing(
    fast_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    with Child("die_in_transaction", fast_dir) as child:
        outcomes = child.result()
    torn = [each for each in outcomes if each not in ("nothing", "all")]
    record_property("summary", f"{len(outcomes)} crash points: {len(torn)} torn")
    assert torn == []
    first = outcomes.index("all")
    assert 20 < first < len(outcomes) - 2, "before the COMMIT; after it: two messages, and the end"
    assert set(outcomes[first:]) == {"all"}


# -- exceptions out of signal handlers -------------------------------------------------------------


# What comes while a finaliser runs, Python reports and drops.
unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@unraisable
@pytest.mark.traces
@pytest.mark.parametrize("step", [53, pytest.param(1, marks=pytest.mark.slow)])
def test_an_exception_that_is_caught_within_leaves_whole_commits_or_nothing(
    store: SqliteStore, step: int
) -> None:
    """One comes somewhere in the middle of three fires, and the block goes on if it can."""
    caught = 0
    for number in range(1, 100_000, step):
        uid = f"order:{number}"
        session, called = SessionDriver(store, uid), list[str]()
        ended: list[bool] = []

        def work(
            session: SessionDriver = session,
            called: list[str] = called,
            ended: list[bool] = ended,
        ) -> None:
            with suppress(StorageError), store.transaction():
                session.fire("a")
                store.when_committed(lambda: called.append("a"))
                with suppress(Interruption):
                    session.fire("b")
                with suppress(Interruption), store.transaction():
                    session.fire("c")
                    store.when_committed(lambda: called.append("c"))
                    session.fire("d")
                session.fire("e")
                store.when_committed(lambda: called.append("e"))
            ended.append(True)

        where = interrupt_at(number, work)
        found = session.fired() if session.exists else []
        caught += bool(where and ended)
        nested = [each for each in found if each in "cd"]
        assert nested in ([], ["c", "d"]), where
        assert [each for each in found if each in "ae"] in ([], ["a", "e"]), where
        if where is None:
            assert found == ["a", "b", "c", "d", "e"]
            break
        assert [each for each in called if each != "c"] in ([], ["a"], ["a", "e"])
        assert not (called and not found), "called back, and nothing is stored"
        in_another_thread(partial(session.fire, "after"))
    assert caught
    nothing_is_left(store)
    check_store(store)


class Held(Exception):
    """Raised before the end of a block can begin."""


def test_a_block_whose_end_never_began_is_rolled_back_at_once(
    store: SqliteStore, one: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an exception at the first moment of `__exit__`; its traceback keeps everything alive."""

    def interrupted(*_: object) -> None:
        raise Held

    called: list[str] = []
    original = sqlite_file.Block.end
    monkeypatch.setattr(sqlite_file.Block, "end", interrupted)
    with pytest.raises(Held) as kept:  # noqa: SIM117, PT012
        with store.transaction():
            one.fire("lost")
            store.when_committed(lambda: called.append("lost"))
            monkeypatch.setattr(sqlite_file.Block, "end", once_interrupted(original, interrupted))
    assert store.file.held is None
    assert not store.file.mutex._is_owned()  # type: ignore[attr-defined]
    assert triggers(store) == []
    nothing_is_left(store)
    one.fire("kept")
    assert triggers(store) == ["kept"]
    assert called == []
    assert kept.value.__traceback__ is not None


def once_interrupted(then: Callable[..., None], first: Callable[..., None]) -> Callable[..., None]:
    """The first call goes wrong, and later ones do what they should."""
    calls = iter([first])

    def call(*arguments: object) -> None:
        next(calls, then)(*arguments)

    return call


def test_a_transaction_that_was_left_open_is_ended_by_whoever_comes_next(
    store: SqliteStore, one: SessionDriver
) -> None:
    def left_open() -> list[object]:
        block = store.transaction()
        block.__enter__()
        one.fire("lost")
        transaction = block._transaction  # type: ignore[attr-defined]
        block._leave = lambda: None  # type: ignore[attr-defined]
        return [block, transaction]

    kept = left_open()
    assert store.file.mutex._is_owned()  # type: ignore[attr-defined]
    one.fire("a")
    assert triggers(store) == ["a"]
    nothing_is_left(store)
    kept += left_open()
    in_another_thread(lambda: one.fire("b"))
    assert triggers(store) == ["a", "b"]
    nothing_is_left(store)
    assert kept


def test_a_generator_that_is_dropped_rolls_its_transaction_back(
    store: SqliteStore, one: SessionDriver
) -> None:
    def unit_of_work() -> Iterator[None]:
        with store.transaction():
            one.fire("lost")
            yield
            one.fire("never")

    work = unit_of_work()
    next(work)
    one.fire("within")
    assert one.fired() == ["lost", "within"], "it is the thread that counts, not the frame"
    assert triggers(store) == []
    del work
    gc.collect()
    assert triggers(store) == []
    nothing_is_left(store)


@pytest.mark.parametrize("asked", [False, True])
def test_an_exit_stack_and_a_generator_may_hold_a_block(
    store: SqliteStore, one: SessionDriver, asked: bool
) -> None:
    @contextmanager
    def unit_of_work() -> Iterator[None]:
        with store.transaction():
            yield

    with ExitStack() as stack:
        block = store.transaction()
        assert not asked or hasattr(block, "__exit__")
        stack.enter_context(block)
        one.fire("a")
        with unit_of_work():
            one.fire("b")
        assert triggers(store) == []
    assert triggers(store) == ["a", "b"]
    with block:  # and once more
        one.fire("c")
        with pytest.raises(WrongState, match="has begun already"), block:
            pass
    assert triggers(store) == ["a", "b", "c"]
    nothing_is_left(store)


# -- other threads, tasks and processes ------------------------------------------------------------


def test_other_threads_wait_and_are_told_for_how_long(
    store: SqliteStore, one: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_TIMEOUT", 0.1)
    with store.transaction():
        one.fire("a")
        with pytest.raises(StorageError, match="another thread of this process has been in it"):
            in_another_thread(lambda: one.fire("b"))
    assert triggers(store) == ["a"]


def test_another_thread_cannot_end_a_transaction(store: SqliteStore, one: SessionDriver) -> None:
    stack = ExitStack()
    stack.enter_context(store.transaction())
    one.fire("lost")
    with pytest.raises(StorageError, match="another thread has begun this transaction"):
        in_another_thread(stack.close)
    assert triggers(store) == []
    nothing_is_left(store)


def test_another_task_of_the_thread_is_not_part_of_it(
    store: SqliteStore, one: SessionDriver
) -> None:
    async def takes_its_time(began: asyncio.Event, goes_on: asyncio.Event) -> None:
        with store.transaction():
            one.fire("a")
            began.set()
            await goes_on.wait()
            one.fire("b")

    async def main() -> None:
        began, goes_on = asyncio.Event(), asyncio.Event()
        other = asyncio.create_task(takes_its_time(began, goes_on))
        await began.wait()
        with pytest.raises(NestedCommit, match="must not await"):
            one.fire("c")
        goes_on.set()
        await other

    asyncio.run(main())
    assert triggers(store) == ["a", "b"]


@forks
def test_a_child_process_neither_ends_nor_harms_it(store: SqliteStore, one: SessionDriver) -> None:
    reading, writing = os.pipe()
    with store.transaction():
        one.fire("a")
        child = os.fork()
        if not child:
            for use in (lambda: one.fire("c"), lambda: triggers(store)):
                try:
                    use()
                except StorageError as error:
                    os.write(writing, f"{error}\n".encode())
            os._exit(0)
        one.fire("b")
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as pipe:
        told = pipe.read().splitlines()
    assert len(told) == 2
    assert all(f"while the process {os.getpid()} was writing to it" in each for each in told)
    assert triggers(store) == ["a", "b"]
    nothing_is_left(store)


@forks
def test_a_child_process_that_leaves_the_block_is_told(
    store: SqliteStore, one: SessionDriver
) -> None:
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        with store.transaction():
            one.fire("a")
            if os.fork():
                os.wait()
                one.fire("b")
    except StorageError as error:
        if os.getpid() == parent:
            raise
        os.write(writing, str(error).encode())
        os._exit(0)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    os.close(writing)
    with open(reading) as pipe:
        assert f"the process {parent} has begun this transaction" in pipe.read()
    assert triggers(store) == ["a", "b"]
    nothing_is_left(store)


# -- the file --------------------------------------------------------------------------------------


def test_a_file_that_is_replaced_meanwhile_is_told_of(
    store: SqliteStore, one: SessionDriver, path: Path
) -> None:
    called: list[str] = []
    with pytest.raises(StorageError, match="was replaced while it was written"):  # noqa: SIM117, PT012
        with store.transaction():
            one.fire("lost")
            store.when_committed(lambda: called.append("lost"))
            for each in path.parent.glob(f"{path.name}*"):
                each.unlink()
    assert called == []
    assert not one.exists
    nothing_is_left(store)


def test_what_sqlite_has_rolled_back_is_not_gone_on_with(
    store: SqliteStore, one: SessionDriver
) -> None:
    with pytest.raises(StorageError, match="rolled back after an error"):  # noqa: SIM117, PT012
        with store.transaction():
            one.fire("lost")
            assert store.file.opened is not None
            store.file.opened.connection.rollback()  # as SQLite does when the disk is full
            for work in (lambda: one.fire("torn"), one.fired, store.transaction().__enter__):
                with pytest.raises(StorageError, match="nothing of it is stored"):
                    work()
    assert not one.exists
    nothing_is_left(store)


def test_an_error_of_sqlite_takes_all_of_it_back(
    store: SqliteStore, one: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_is_full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    one.configure(t_x={"after": ["go"]})
    with suppress(StorageError), store.transaction():
        one.fire("first")
        with monkeypatch.context() as patch:
            patch.setattr("triggers_core.storages.sqlite.writing.encode_record", disk_is_full)
            with pytest.raises(StorageError, match="disk is full"):
                one.fire("go")
        one.fire("last")
    assert one.fired() in ([], ["first", "last"])
    check_store(store)


def test_a_store_is_not_closed_within_a_transaction(store: SqliteStore, one: SessionDriver) -> None:
    with store.transaction():
        one.fire("a")
        with pytest.raises(NestedCommit, match="cannot be closed"):
            store.close()
        one.fire("b")
    assert triggers(store) == ["a", "b"]


def test_no_transaction_begins_within_a_change(store: SqliteStore) -> None:
    def begins(session: object, plan: object) -> None:
        with pytest.raises(NestedCommit):
            store.transaction().__enter__()

    SessionDriver(store, rules=rules_with("test", begins)).fire("go")
    with store.transaction():
        SessionDriver(store, rules=rules_with("test", begins)).fire("go")
    assert triggers(store) == ["go", "go"]
    nothing_is_left(store)


def test_many_commits_in_one_go_call_back_after_them(
    store: SqliteStore, one: SessionDriver
) -> None:
    called: list[str] = []

    def some() -> None:
        one.fire("a")
        store.when_committed(lambda: called.append("a"))
        with store.transaction():
            one.fire("b")
        assert called == []
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.together(some)
    assert called == ["a"]
    assert triggers(store) == ["a", "b"], "what it has made is kept"


def test_a_callback_that_fails_keeps_no_other_from_being_called(
    store: SqliteStore, one: SessionDriver
) -> None:
    called: list[str] = []
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117, PT012
        with store.transaction():
            one.fire("a")
            store.when_committed(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
            store.when_committed(lambda: called.append("second"))
    assert called == ["second"]
    assert triggers(store) == ["a"]


# -- wrappers --------------------------------------------------------------------------------------


def test_a_crashing_store_passes_transactions_on(store: SqliteStore) -> None:
    points = CrashPoints()
    crashing = CrashingStore(store, points)
    called: list[str] = []
    with crashing.transaction():
        SessionDriver(crashing).fire("a")
        crashing.when_committed(lambda: called.append("a"))
        assert called == []
    assert called == ["a"]
    reached = len(points.reached)
    for number in range(1, reached + 1):
        uid = f"dying:{number}"
        dying = CrashingStore(store, CrashPoints(number))
        with suppress(Crash), dying.transaction():
            SessionDriver(dying, uid).fire("a")
        assert triggers(store, uid) == (["a"] if number == reached else [])
    with pytest.raises(CannotJoin, match="only storages in a database"):
        crashing.joined(object())


def test_memory_says_which_storages_have_transactions() -> None:
    with pytest.raises(CannotJoin, match="storages in a database can"):
        MemoryStore().transaction()
