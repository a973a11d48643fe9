"""Fires within transactions of SQLAlchemy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from joined_app import Heard, settled, triggers
from sqlalchemy import orm

from triggers_core import TriggerManager
from triggers_core.exceptions import CannotJoin, StorageError, TransactionConflict


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[orm.Session]:
    with orm.Session(engine) as session:
        yield session


@pytest.fixture
def here() -> set[str]:
    return {threading.current_thread().name}


def insert(orders: str, number: int = 42) -> sa.TextClause:
    return sa.text(f"INSERT INTO {orders} VALUES ({number})")


def numbers(engine: sa.Engine, orders: str) -> list[int]:
    with engine.connect() as connection:
        return [number for (number,) in connection.execute(sa.text(f"SELECT number FROM {orders}"))]


def test_what_follows_a_sessions_commit_has_been_done_when_it_returns(
    manager: TriggerManager, heard: Heard, session: orm.Session, orders: str, here: set[str]
) -> None:
    joined = manager.using(session)
    joined.fire("paid")
    session.execute(insert(orders))
    joined.fire("packed")
    assert triggers(joined) == ["paid", "packed"]
    assert (heard.triggers, triggers(manager)) == ([], [])
    session.commit()
    assert heard.triggers == ["paid", "packed"] == triggers(manager)
    assert heard.threads == here
    assert numbers(session.get_bind(), orders) == [42]  # type: ignore[arg-type]
    joined.fire("again")
    session.commit()
    assert heard.triggers == ["paid", "packed", "again"]


def test_a_session_that_is_rolled_back(
    manager: TriggerManager, heard: Heard, session: orm.Session, orders: str
) -> None:
    session.execute(insert(orders))
    manager.using(session).fire("paid")
    session.rollback()
    manager.using(session).fire("packed")
    session.commit()
    assert heard.triggers == ["packed"] == triggers(manager)
    assert numbers(session.get_bind(), orders) == []  # type: ignore[arg-type]


def test_a_session_that_is_closed_or_dropped(
    manager: TriggerManager, heard: Heard, engine: sa.Engine
) -> None:
    with orm.Session(engine) as session:
        manager.using(session).fire("paid")
    session = orm.Session(engine)
    manager.using(session).fire("packed")
    session.connection().invalidate()
    session.close()
    settled(manager)
    assert (heard.triggers, triggers(manager)) == ([], [])


def test_savepoints_of_a_session(
    manager: TriggerManager, heard: Heard, session: orm.Session
) -> None:
    joined = manager.using(session)
    joined.fire("before")
    with session.begin_nested() as savepoint:
        joined.fire("undone")
        with session.begin_nested():
            joined.fire("within what is undone")
        savepoint.rollback()
    with session.begin_nested():
        joined.fire("kept")
    assert heard.triggers == []
    session.commit()
    assert heard.triggers == ["before", "kept"] == triggers(manager)


def test_the_begin_block_of_a_sessionmaker(
    manager: TriggerManager, heard: Heard, engine: sa.Engine
) -> None:
    with orm.sessionmaker(engine).begin() as session:
        manager.using(session).fire("paid")
    assert heard.triggers == ["paid"]

    def pack() -> None:
        with orm.sessionmaker(engine).begin() as session:
            manager.using(session).fire("packed")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pack()
    assert heard.triggers == ["paid"] == triggers(manager)


def test_a_scoped_session(manager: TriggerManager, heard: Heard, engine: sa.Engine) -> None:
    scoped = orm.scoped_session(orm.sessionmaker(engine))
    manager.using(scoped).fire("paid")
    scoped.commit()
    assert heard.triggers == ["paid"]
    scoped.remove()


def test_a_session_in_two_phases(manager: TriggerManager, heard: Heard, engine: sa.Engine) -> None:
    with orm.Session(engine, twophase=True) as session:
        manager.using(session).fire("paid")
        session.prepare()
        assert heard.triggers == []
        session.commit()
    assert heard.triggers == ["paid"]


def test_a_session_within_somebody_elses_transaction(
    manager: TriggerManager, heard: Heard, engine: sa.Engine
) -> None:
    """As test suites have it: what the session calls a commit is none."""
    with engine.connect() as connection:
        outer = connection.begin()
        with orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            manager.using(session).fire("paid")
            session.commit()
        settle_and_expect(manager, heard, [], waiting=True)
        outer.rollback()
        settled(manager)
        assert (heard.triggers, triggers(manager)) == ([], [])
        with connection.begin(), orm.Session(connection) as session:
            manager.using(session).fire("packed")
            session.commit()
        heard.wait_for("packed")


def settle_and_expect(
    manager: TriggerManager, heard: Heard, expected: list[str], waiting: bool
) -> None:
    store: Any = manager.storage.store
    store.follow_up()
    assert heard.triggers == expected
    assert (store.outcomes.waiting > 0) is waiting


def test_a_connection(
    manager: TriggerManager, heard: Heard, engine: sa.Engine, orders: str
) -> None:
    with engine.connect() as connection:
        joined = manager.using(connection)
        joined.fire("paid")  # begins, as a statement of its own would
        connection.execute(insert(orders))
        connection.commit()
        heard.wait_for("paid")
        joined.fire("packed")
        connection.rollback()
        with connection.begin():
            joined.fire("again")
            with connection.begin_nested() as savepoint:
                joined.fire("undone")
                savepoint.rollback()
        joined.fire("never")
    heard.wait_for("paid", "again")
    settled(manager)
    assert triggers(manager) == ["paid", "again"] == heard.triggers
    assert numbers(engine, orders) == [42]


def test_a_connection_in_autocommit(
    manager: TriggerManager, heard: Heard, engine: sa.Engine, here: set[str]
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        manager.using(connection).fire("paid")
        assert heard.triggers == ["paid"] == triggers(manager)
        assert heard.threads == here


def test_a_conflict(manager: TriggerManager, engine: sa.Engine) -> None:
    options = {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as connection:
        connection.execute(sa.text("SELECT 1"))
        manager.fire("paid")
        with pytest.raises(TransactionConflict):
            manager.using(connection).fire("packed")
        connection.rollback()
        manager.using(connection).fire("packed")
        connection.commit()
    assert triggers(manager) == ["paid", "packed"]


def test_what_cannot_be_joined(manager: TriggerManager, engine: sa.Engine) -> None:
    with pytest.raises(CannotJoin, match="hand in the one that has the transaction"):
        manager.using(engine)
    sqlite = sa.create_engine("sqlite://")
    joined = manager.using(sqlite.connect())
    with pytest.raises(CannotJoin, match=r'sqlite3, .*create_engine\("postgresql\+psycopg'):
        joined.fire("paid")
    sqlite.dispose()
    with pytest.raises(StorageError, match="the Session cannot be used"):
        manager.using(orm.Session()).fire("paid")
    with engine.connect() as connection:
        pass
    with pytest.raises(StorageError, match="the Connection cannot be used"):
        manager.using(connection).fire("paid")


def test_a_hook_that_fails_does_not_undo_the_commit(
    manager: TriggerManager, session: orm.Session, caplog: pytest.LogCaptureFixture
) -> None:
    joined = manager.using(session)

    def fails() -> None:
        raise ValueError("no")

    joined.fire("paid")
    joined.storage.store.when_committed(fails)
    called: list[str] = []
    joined.storage.store.when_committed(lambda: called.append("after it"))
    session.commit()
    assert called == ["after it"]
    assert "what follows a commit failed" in caplog.text
