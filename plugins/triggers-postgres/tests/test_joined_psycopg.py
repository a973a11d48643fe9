"""Fires within transactions of psycopg: with the application's rows, or not at all."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from joined_app import PATIENCE, Connect, Heard, settled, triggers

from triggers_core import TriggerManager, hookimpl
from triggers_core.application import Application
from triggers_core.exceptions import (
    CannotJoin,
    StorageError,
    TaskNameFired,
    TransactionConflict,
)
from triggers_core.testing.interruptions import in_another_thread
from triggers_postgres import PostgresStore


def test_a_fire_is_stored_with_the_applications_row(
    manager: TriggerManager, heard: Heard, connect: Connect, orders: str
) -> None:
    connection = connect()
    connection.execute(f"INSERT INTO {orders} VALUES (42)")
    result = manager.using(connection).fire("paid", {"amount": 4200})
    manager.using(connection).fire("packed")
    assert result.status == "recorded"
    assert triggers(manager) == []
    assert triggers(manager.using(connection)) == ["paid", "packed"]
    assert heard.triggers == []
    connection.commit()
    heard.wait_for("paid", "packed")
    assert triggers(manager) == ["paid", "packed"]
    assert manager.storage["t_ship#0"].status.value == "scheduled"
    manager.join()
    assert heard.threads == {"triggers-postgres-outcomes"}


def test_after_a_roll_back_nothing_has_happened(
    manager: TriggerManager, heard: Heard, connect: Connect, orders: str
) -> None:
    connection = connect()
    connection.execute(f"INSERT INTO {orders} VALUES (42)")
    manager.using(connection).fire("paid")
    connection.rollback()
    settled(manager)
    assert heard.triggers == []
    assert triggers(manager) == []
    assert manager.app.runner().messages == []  # type: ignore[attr-defined]


def test_a_block_that_raises(manager: TriggerManager, heard: Heard, connect: Connect) -> None:
    def pay() -> None:
        with connect() as connection:
            manager.using(connection).fire("paid")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pay()
    settled(manager)
    assert (heard.triggers, triggers(manager)) == ([], [])


def test_a_connection_that_is_dropped_within_its_transaction(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    connection = connect()
    manager.using(connection).fire("paid")
    pid = connection.info.backend_pid
    connection.close()
    with connect(autocommit=True) as other:
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
            pass
    settled(manager)
    assert (heard.triggers, triggers(manager)) == ([], [])


def test_savepoints(manager: TriggerManager, heard: Heard, connect: Connect) -> None:
    connection = connect()
    joined = manager.using(connection)

    def fire_and_roll_back(trigger: str, inner: str = "") -> None:
        with connection.transaction(force_rollback=True):
            joined.fire(trigger)
            if inner:
                with connection.transaction():
                    joined.fire(inner)

    joined.fire("before")
    fire_and_roll_back("undone", "within what is undone")
    with connection.transaction():
        joined.fire("kept")
        fire_and_roll_back("undone, too")
        with connection.transaction():
            joined.fire("kept within")
    joined.fire("after")
    connection.commit()
    heard.wait_for("before", "kept", "kept within", "after")
    settled(manager)
    assert heard.triggers == ["before", "kept", "kept within", "after"] == triggers(manager)


def test_a_change_that_leaves_the_sessions_row_alone_in_a_savepoint(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    manager.fire("paid")
    manager.fire("packed")
    connection, called = connect(), []
    joined = manager.using(connection)
    with connection.transaction(force_rollback=True):
        joined.update_instance_metadata("t_ship#0", {"seen": True})
        joined.storage.store.when_committed(lambda: called.append("undone"))
    joined.update_instance_metadata("t_ship#0", {"really": True})
    joined.storage.store.when_committed(lambda: called.append("kept"))
    connection.commit()
    settled(manager)
    assert called == ["kept"]
    assert manager.storage["t_ship#0"].metadata == {"really": True}


def test_an_open_transaction_is_waited_for(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    connection = connect()
    manager.using(connection).fire("paid")
    store = manager.storage.store
    assert isinstance(store, PostgresStore)
    store.follow_up()
    assert store.outcomes.waiting > 0
    manager.app.manager("order:2").using(connection).fire("packed")
    connection.commit()
    store.follow_up()
    assert heard.triggers == ["paid", "packed"]


def test_in_autocommit_each_change_is_one_of_its_own(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    connection = connect(autocommit=True)
    joined = manager.using(connection)
    joined.fire("paid")
    assert heard.triggers == ["paid"] == triggers(manager)
    assert heard.threads == {threading.current_thread().name}
    with connection.transaction():
        joined.fire("packed")
        assert heard.triggers == ["paid"] == triggers(manager)
    heard.wait_for("paid", "packed")


def test_errors_of_the_fire_leave_the_transaction_as_it_was(
    manager: TriggerManager, heard: Heard, connect: Connect, orders: str
) -> None:
    connection = connect()
    with connection:
        connection.execute(f"INSERT INTO {orders} VALUES (42)")
        with pytest.raises(TaskNameFired):
            manager.using(connection).fire("t_ship")
        manager.using(connection).fire("paid")
    heard.wait_for("paid")
    with connect(autocommit=True) as other:
        assert other.execute(f"SELECT number FROM {orders}").fetchall() == [(42,)]


def test_a_transaction_that_has_failed_says_so(manager: TriggerManager, connect: Connect) -> None:
    connection = connect()
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(StorageError, match="has failed before: roll it back"):
        manager.using(connection).fire("paid")
    connection.rollback()
    manager.using(connection).fire("paid")
    connection.commit()
    assert triggers(manager) == ["paid"]


def test_a_deadlock(manager: TriggerManager, heard: Heard, connect: Connect) -> None:
    """Two transactions, two sessions, in opposite order: one succeeds, one is to run again."""
    other = manager.app.manager("order:2")
    outcomes: list[str] = []
    both = threading.Barrier(2)

    def transfer(first: TriggerManager, second: TriggerManager) -> None:
        for attempt in range(10):  # a quick second attempt may get into the way of the other again
            try:
                with connect() as connection:
                    first.using(connection).fire("paid")
                    if attempt == 0:
                        both.wait(PATIENCE)
                    second.using(connection).fire("paid")
            except TransactionConflict as error:
                outcomes.append(str(error))
            else:
                outcomes.append("done")
                return

    threads = [
        threading.Thread(target=transfer, args=pair)
        for pair in [(manager, other), (other, manager)]
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert outcomes.count("done") == 2
    conflicts = [each for each in outcomes if each != "done"]
    assert conflicts
    assert all("roll back, and run the whole of it again" in each for each in conflicts)
    heard.wait_for(*["paid"] * 4)
    assert triggers(manager) == triggers(other) == ["paid", "paid"]


def test_a_session_that_has_changed_meanwhile(manager: TriggerManager, connect: Connect) -> None:
    connection = connect()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT 1")
    manager.fire("paid")
    with pytest.raises(TransactionConflict, match="run the whole of it again"):
        manager.using(connection).fire("packed")
    connection.rollback()
    manager.using(connection).fire("packed")
    connection.commit()
    assert triggers(manager) == ["paid", "packed"]


def test_a_lock_timeout(manager: TriggerManager, connect: Connect) -> None:
    first, second = connect(), connect(options="-c lock_timeout=1ms")
    in_another_thread(lambda: manager.using(first).fire("paid"))
    with pytest.raises(TransactionConflict, match="has locked the session"):
        manager.using(second).fire("packed")


def test_two_first_fires_into_one_session(app: Application, connect: Connect) -> None:
    """The one that is second waits for the first, and then sees what that has stored."""
    manager, first, second = app.manager("new"), connect(), connect()
    manager.using(first).fire("paid")
    begun = threading.Event()

    def fire() -> None:
        with second:
            begun.set()
            manager.using(second).fire("packed")

    thread = threading.Thread(target=fire)
    thread.start()
    begun.wait(PATIENCE)
    first.commit()
    thread.join(PATIENCE)
    assert triggers(manager) == ["paid", "packed"]


def test_a_session_that_is_deleted_is_there_until_the_commit(
    manager: TriggerManager, connect: Connect
) -> None:
    manager.fire("paid")
    connection = connect()
    assert manager.using(connection).delete_session()
    assert triggers(manager.using(connection)) == []
    assert triggers(manager) == ["paid"]
    connection.commit()
    assert triggers(manager) == []


def test_replays_and_skips_are_told_of_after_the_commit(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    told: list[str] = []

    class Told:
        @hookimpl
        def post_replay(self, manager: Any, instance: Any, replay: Any) -> None:
            told.append(replay.name)

    manager.app.plugins.register(Told(), "told")
    manager.fire("paid")
    manager.fire("packed")
    manager.fail_instance("t_ship#0", "by hand")
    connection = connect()
    clone = manager.using(connection).replay_failed_instance("t_ship#0")
    assert told == []
    connection.commit()
    settled(manager)
    assert told == [clone.name]


@pytest.mark.parametrize("has_tables", [False, True])
def test_a_connection_to_another_database(
    manager: TriggerManager,
    connect: Connect,
    connection: psycopg.Connection[Any],
    postgres_url: str,
    has_tables: bool,
) -> None:
    store = manager.storage.store
    assert isinstance(store, PostgresStore)
    name = f"other_{store.schema}"[:60]
    connection.execute(f"CREATE DATABASE {name}")
    try:
        if has_tables:
            url = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
            with PostgresStore(url, store.schema, num_workers=1) as there:
                there.set_up()
        told = "leads to other tables" if has_tables else "without tables of Triggers"
        with connect(dbname=name) as other:
            with pytest.raises(CannotJoin, match=told):
                manager.using(other).fire("paid")
            other.execute("SELECT 1")  # the transaction is as it was
    finally:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_tables_that_were_dropped_and_made_anew(
    app: Application, store: PostgresStore, connect: Connect, connection: psycopg.Connection[Any]
) -> None:
    app.manager("order:1").using(connect()).fire("never")
    for each in connection.execute("SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in%'"):
        connection.execute("SELECT pg_terminate_backend(%s)", each)
    connection.execute(f'DROP SCHEMA "{store.schema}" CASCADE')
    store.set_up()
    manager = app.manager("order:1")
    with connect() as application:
        manager.using(application).fire("paid")
    assert triggers(manager) == ["paid"]


def test_another_schema_of_the_same_database(
    manager: TriggerManager, postgres_url: str, connect: Connect
) -> None:
    """Two stores beside each other, in one transaction."""
    store = manager.storage.store
    assert isinstance(store, PostgresStore)
    other = PostgresStore(postgres_url, schema=f"{store.schema}_other"[-60:], num_workers=1)
    other_manager = manager.sibling("order:1")
    other_manager.storage = manager.storage.on(other, "order:1")
    with connect() as connection:
        manager.using(connection).fire("paid")
        other_manager.using(connection).fire("packed")
    assert (triggers(manager), triggers(other_manager)) == (["paid"], ["packed"])
    other.close()


@pytest.mark.parametrize("what", [object(), "postgresql://", None])
def test_what_is_no_connection(manager: TriggerManager, what: object) -> None:
    with pytest.raises(CannotJoin, match="expected a connection of psycopg 3; a Connection or"):
        manager.using(what)


def test_what_follows_comes_without_notify_too(
    manager: TriggerManager, heard: Heard, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = manager.storage.store
    assert isinstance(store, PostgresStore)

    def no_connection() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("no")

    monkeypatch.setattr(store.outcomes, "_connect", no_connection)
    connection = connect()
    for trigger in ("paid", "packed"):
        manager.using(connection).fire(trigger)
        connection.commit()
    heard.wait_for("paid", "packed")
    assert not store.outcomes.listening


def test_a_lost_listener_is_replaced(
    manager: TriggerManager, heard: Heard, connect: Connect, connection: psycopg.Connection[Any]
) -> None:
    application = connect()
    manager.using(application).fire("paid")
    application.commit()
    heard.wait_for("paid")
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    )
    manager.using(application).fire("packed")
    application.commit()
    heard.wait_for("paid", "packed")
