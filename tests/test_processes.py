"""Several processes, and several threads, on one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from processes.spawn import Child

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.engine.commands import Configure, Fire
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Rules
from triggers_core.engine.records import Status
from triggers_core.running.messages import Message
from triggers_core.settings import Settings
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import check_store

UID = "order:1"
PATIENCE = 240  # seconds until a test that hangs fails

took_over = threading.Event()


@trigger_task(name="left_behind.body")
def taken_over(context: TaskContext) -> dict[str, int]:
    took_over.set()
    return {"attempt": context.attempt}


@pytest.fixture
def path(fast_dir: Path) -> Path:
    return fast_dir / "triggers.db"


@pytest.fixture
def children() -> Iterator[ExitStack]:
    with ExitStack() as children:
        yield children


def check_file(path: Path) -> None:
    """The file is whole, and in the mode in which readers and writers do not block each other."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    with SqliteStore(path) as store:
        check_store(store)


def triggers_in(path: Path) -> list[str]:
    with SqliteStore(path) as store:
        return [event.trigger for event in store.events(UID)]


def test_a_start_picks_up_what_a_killed_process_left_without_traffic(
    path: Path, children: ExitStack
) -> None:
    took_over.clear()
    victim = children.enter_context(Child("left_behind", path, UID))
    victim.await_line("in the body")
    victim.kill()

    options = {"path": str(path)}
    app = Application(
        "left behind", Settings.isolated(TRIGGER_STORAGE_OPTIONS=options, TRIGGER_PLUGINS=[])
    )
    app.store.clock = lambda: time.time() + 120  # the lease is over
    before = set(threading.enumerate())
    manager = app.manager(UID)
    assert manager.storage["t_x#0"].status == "running"
    assert "its lease ran out" in str(manager.explain("t_x"))
    assert set(threading.enumerate()) <= before  # what other tests have left behind may end
    app.close()

    app.store.clock = lambda: time.time() + 120
    with app:
        assert took_over.wait(PATIENCE)
    assert app.storage(UID)["t_x#0"].result == {"attempt": 2}
    app.close()


def test_four_processes_fire_into_one_session(path: Path, children: ExitStack) -> None:
    firing, each = ["a", "b", "c", "d"], 100
    barriers = {
        f"t_{number}": {"after": [f"{me}:{number}" for me in firing], "run": "app.Barrier"}
        for number in range(each)
    }
    with SqliteStore(path) as store:
        store.commit(UID, Configure(configuration=parse_configuration(barriers)), Rules())
    processes = [children.enter_context(Child("fire_many", path, UID, me, each)) for me in firing]
    for process in processes:
        process.await_line("ready")
    for process in processes:
        process.go()
    dispatched = [instance for process in processes for instance in process.result()]

    fired = triggers_in(path)
    assert len(fired) == 400
    for me in firing:
        assert [trigger for trigger in fired if trigger.startswith(me)] == [
            f"{me}:{number}" for number in range(each)
        ]
    assert Counter(dispatched) == Counter(f"{task}#0" for task in barriers)
    with SqliteStore(path) as store:
        found = store.instances(UID)
    assert {(i.name, i.status, i.attempt) for i in found} == {
        (f"{task}#0", Status.SCHEDULED, 1) for task in barriers
    }
    check_file(path)


def test_eight_processes_open_a_new_file_at_once(tmp_path: Path, children: ExitStack) -> None:
    # On a disk: while one process waits for it, another comes in between.
    files = [tmp_path / f"{number}.db" for number in range(5)]
    processes = [children.enter_context(Child("open_files", me, *files)) for me in range(8)]
    for file in files:
        for process in processes:
            process.await_line(str(file))
        for process in processes:
            process.go()
    for process in processes:
        assert process.result() == []
    for file in files:
        with SqliteStore(file) as store:
            fired = [event.trigger for event in store.events("shared")]
        assert sorted(fired) == [f"opened by {me}" for me in range(8)]
        check_file(file)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")


@needs_fork
@pytest.mark.parametrize("ending", ["abrupt", "ordinary", "closing"])
def test_children_use_the_store_of_a_parent_that_goes_on(
    path: Path, children: ExitStack, ending: str
) -> None:
    (fires_of_parent,) = children.enter_context(Child("fork_store", path, UID, ending)).result()
    fired = triggers_in(path)
    assert (fired[0], fired[-1]) == ("begin", "end")
    assert [each for each in fired if each.startswith("parent")] == [
        f"parent:{number}" for number in range(int(fires_of_parent))
    ]
    assert [each for each in fired if each.startswith("child")] == [
        f"child {me}:{number}" for me in range(5) for number in range(10)
    ]
    check_file(path)


@needs_fork
def test_a_child_loses_nothing_when_its_parent_closes_the_store(
    path: Path, children: ExitStack
) -> None:
    # SQLite's locks are the process's, its knowledge of them is inherited: a child that believed it
    # would write into a WAL that its parent deletes.
    children.enter_context(Child("fork_and_close", path, UID)).result()
    assert triggers_in(path) == ["parent", "child, before", "child, after"]
    check_file(path)


def test_a_process_killed_in_the_middle_of_a_commit_lets_the_others_go_on(
    path: Path, children: ExitStack
) -> None:
    others = [children.enter_context(Child("fire_once", path, UID, me)) for me in ("a", "b")]
    for other in others:
        other.await_line("ready")
    holder = children.enter_context(Child("hold_turnstile", path, UID))
    holder.await_line("in the middle of a commit")
    for other in others:
        other.go()
    wait_until_one_is_next(path, *others)
    assert holder.kill()
    for other in others:
        other.result()
    assert sorted(triggers_in(path)) == ["a", "b"]
    check_file(path)


def test_a_process_killed_in_the_queue_lets_the_others_go_on(
    path: Path, children: ExitStack
) -> None:
    first, second = (
        children.enter_context(Child("fire_once", path, UID, me)) for me in ("first", "second")
    )
    for other in (first, second):
        other.await_line("ready")
    holder = children.enter_context(Child("hold_turnstile", path, UID))
    holder.await_line("in the middle of a commit")
    first.go()
    wait_until_one_is_next(path, first)
    second.go()
    assert first.kill()
    wait_until_one_is_next(path, second)
    holder.go()
    assert holder.result() == []
    second.result()
    assert triggers_in(path) == ["held", "second"]
    check_file(path)


def wait_until_one_is_next(path: Path, *waiting: Child) -> None:
    """Return once one of them stands first in the queue of the turnstile: it has that lock."""
    fcntl = pytest.importorskip("fcntl", reason="there are no byte locks on Windows")
    while any(child.process.poll() is None for child in waiting):
        with open(f"{path}-turnstile", "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except OSError:
                return
    raise AssertionError("nobody waits: all of them have ended")


def test_of_two_processes_with_the_same_message_one_claims(path: Path, children: ExitStack) -> None:
    config = {"t_x": {"after": [], "andEvery": "go", "run": "app.X"}}
    names = [f"t_x#{number}" for number in range(50)]
    with SqliteStore(path) as store:
        store.commit(UID, Configure(configuration=parse_configuration(config)), Rules())
        for name in names:
            plan = store.commit(UID, Fire(trigger="go", payload=b"{}", event_id=new_id()), Rules())
            assert [each.name for each in plan.scheduled] == [name]
        generation = store.sessions()[0].generation
    messages = [Message("processes", UID, generation, name, 1) for name in names]
    encoded = msgspec.json.encode(messages).decode()
    workers = [children.enter_context(Child("claim_all", path, UID, encoded)) for _ in range(2)]
    for worker in workers:
        worker.await_line("ready")
    for worker in workers:
        worker.go()
    tokens = [json.loads(line) for worker in workers for line in worker.result()]
    assert sorted([*tokens[0], *tokens[1]]) == sorted(names)
    with SqliteStore(path) as store:
        found = store.instances(UID)
    assert {i.name: i.token for i in found} == tokens[0] | tokens[1]
    assert {(i.status, i.attempt) for i in found} == {(Status.RUNNING, 1)}
    check_file(path)


def test_threads_go_on_while_another_closes_the_store(path: Path) -> None:
    firing = ("a", "b", "c")
    with SqliteStore(path) as store, ThreadPoolExecutor() as pool:

        def fire_all(me: str) -> None:
            for number in range(100):
                fire = Fire(trigger=f"{me}:{number}", payload=b"{}", event_id=new_id())
                store.commit(UID, fire, Rules())

        done = [pool.submit(fire_all, me) for me in firing]
        while not all(each.done() for each in done):
            store.close()
        for each in done:
            each.result()
    expected = [f"{me}:{number}" for me in firing for number in range(100)]
    assert sorted(triggers_in(path)) == sorted(expected)
    check_file(path)
