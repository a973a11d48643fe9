"""Several commits as one: `PostgresStore.transaction`."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from joined_app import PATIENCE, Heard, triggers
from wire import Wire

from triggers_core import TriggerManager
from triggers_core.application import Application
from triggers_core.exceptions import StorageError, TaskNameFired, TransactionConflict
from triggers_postgres import PostgresStore


def store_of(manager: TriggerManager) -> PostgresStore:
    store = manager.storage.store
    assert isinstance(store, PostgresStore)
    return store


def seen_outside(manager: TriggerManager) -> list[str]:
    """The triggers that another thread sees."""
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(triggers(manager)))
    thread.start()
    thread.join(PATIENCE)
    return found[0]


def test_all_of_it_at_the_end(
    manager: TriggerManager,
    heard: Heard,
    orders: str,
    connection: psycopg.Connection[Any],
) -> None:
    other = manager.app.manager("order:2")
    with store_of(manager).transaction() as within:
        within.execute(f"INSERT INTO {orders} VALUES (42)")
        manager.fire("paid")
        with store_of(manager).transaction() as again:
            assert again is within
            other.fire("packed")
        assert triggers(manager) == ["paid"]
        assert seen_outside(manager) == []
        assert heard.triggers == []
    assert heard.triggers == ["paid", "packed"]
    assert heard.threads == {threading.current_thread().name}
    assert (seen_outside(manager), seen_outside(other)) == (["paid"], ["packed"])
    assert connection.execute(f"SELECT number FROM {orders}").fetchall() == [(42,)]


def test_nothing_if_the_block_raises(manager: TriggerManager, heard: Heard) -> None:
    def fires() -> None:
        with store_of(manager).transaction():
            manager.fire("paid")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fires()
    assert (heard.triggers, triggers(manager)) == ([], [])
    manager.fire("packed")
    assert heard.triggers == ["packed"] == triggers(manager)


def test_an_error_of_a_fire_leaves_the_rest(manager: TriggerManager, heard: Heard) -> None:
    with store_of(manager).transaction():
        manager.fire("paid")
        with pytest.raises(TaskNameFired):
            manager.fire("t_ship")
        manager.fire("packed")
    assert heard.triggers == ["paid", "packed"] == triggers(manager)


def test_savepoints(manager: TriggerManager, heard: Heard) -> None:
    with store_of(manager).transaction() as within:
        manager.fire("paid")
        with within.transaction(force_rollback=True):
            manager.fire("undone")
        with within.transaction():
            manager.fire("packed")
    assert heard.triggers == ["paid", "packed"] == triggers(manager)


def test_other_threads_are_not_within(manager: TriggerManager, heard: Heard) -> None:
    other = manager.app.manager("order:2")
    with store_of(manager).transaction():
        manager.fire("paid")
        thread = threading.Thread(target=other.fire, args=("packed",))
        thread.start()
        thread.join(PATIENCE)
        assert heard.triggers == ["packed"]
        assert store_of(manager).in_transaction
    assert not store_of(manager).in_transaction
    assert heard.triggers == ["packed", "paid"]


def test_a_deadlock(manager: TriggerManager) -> None:
    other = manager.app.manager("order:2")
    both, outcomes = threading.Barrier(2), []

    def fire(first: TriggerManager, second: TriggerManager) -> None:
        try:
            with store_of(manager).transaction():
                first.fire("paid")
                both.wait(PATIENCE)
                second.fire("paid")
        except TransactionConflict:
            outcomes.append("conflict")
        else:
            outcomes.append("done")

    threads = [
        threading.Thread(target=fire, args=pair) for pair in [(manager, other), (other, manager)]
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert sorted(outcomes) == ["conflict", "done"]
    assert triggers(manager) == triggers(other) == ["paid"]


def test_a_lost_connection_loses_the_transaction(
    manager: TriggerManager, heard: Heard, connection: psycopg.Connection[Any]
) -> None:
    def fires() -> None:
        with store_of(manager).transaction() as within:
            manager.fire("paid")
            connection.execute("SELECT pg_terminate_backend(%s)", (within.info.backend_pid,))
            manager.fire("packed")

    with pytest.raises(StorageError):
        fires()
    assert (heard.triggers, triggers(manager)) == ([], [])
    manager.fire("again")
    assert heard.triggers == ["again"] == triggers(manager)


@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_whose_answer_is_lost(
    committed: bool, app: Application, store: PostgresStore, heard: Heard, postgres_url: str
) -> None:
    """What follows it is done if, and only if, the server has committed."""
    lost: list[bytes] = []

    def is_commit(name: str, message: bytes) -> bool:
        if b"COMMIT" in message and not lost:
            lost.append(message)
            return True
        return False

    def fire() -> None:
        with wired.transaction():
            manager.fire("paid")
            if committed:
                wire.after = is_commit
            else:
                wire.before = is_commit

    with Wire(postgres_url) as wire:
        wired = PostgresStore(wire.url, schema=store.schema, num_workers=1)
        manager = app.manager("order:1")
        manager.storage = manager.storage.on(wired, "order:1")
        with pytest.raises(StorageError):
            fire()
        assert lost
        if committed:
            heard.wait_for("paid")
        while wired.outcomes.waiting:
            wired.follow_up()
        expected = ["paid"] if committed else []
        assert (heard.triggers, triggers(manager)) == (expected, expected)
        wired.close()
