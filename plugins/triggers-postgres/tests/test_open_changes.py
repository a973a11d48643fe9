"""A change that would wait for an open transaction of its own thread or task is refused."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy as sa
from joined_app import PATIENCE, Connect, Heard, triggers
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

from triggers_core import TriggerManager
from triggers_core.application import Application
from triggers_core.exceptions import NestedCommit
from triggers_postgres import still_open

REFUSED = r"session 'order:1' has been changed in a transaction .* use manager\.using\(\.\.\.\)"


def driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_what_would_wait_for_its_own_thread(
    app: Application, manager: TriggerManager, connect: Connect
) -> None:
    connection, other = connect(), connect()
    manager.using(connection).fire("paid")
    with pytest.raises(NestedCommit, match=REFUSED):
        manager.fire("packed")
    with pytest.raises(NestedCommit, match=REFUSED):
        manager.using(other).fire("packed")
    with (
        pytest.raises(NestedCommit, match=REFUSED),
        manager.storage.store.transaction(),
    ):
        manager.fire("packed")
    with pytest.raises(NestedCommit, match=REFUSED):
        manager.delete_session()
    manager.using(connection).fire("packed")
    app.manager("order:2").fire("paid")
    connection.commit()
    manager.fire("sent")
    assert triggers(manager) == ["paid", "packed", "sent"]


def test_the_stores_own_transaction(manager: TriggerManager, connect: Connect) -> None:
    with manager.storage.store.transaction():
        manager.fire("paid")
        with pytest.raises(NestedCommit, match=REFUSED):
            manager.using(connect()).fire("packed")
        manager.fire("packed")
    manager.using(connect(autocommit=True)).fire("sent")
    assert triggers(manager) == ["paid", "packed", "sent"]


def test_transactions_and_savepoints_that_are_over(
    manager: TriggerManager, connect: Connect
) -> None:
    connection = connect()
    joined = manager.using(connection)
    joined.fire("undone")
    connection.rollback()
    manager.fire("rolled back")
    connection.execute("SELECT 1")
    with connection.transaction(force_rollback=True):
        joined.fire("undone")
        with pytest.raises(NestedCommit):
            manager.fire("never")
    manager.fire("savepoint")
    connection.commit()
    connection.execute("SELECT 1")
    joined.fire("paid")
    connection.close()
    manager.fire("closed")
    assert triggers(manager) == ["rolled back", "savepoint", "closed"]


def test_a_connection_that_is_in_another_transaction_by_now(
    manager: TriggerManager, connect: Connect
) -> None:
    connection = connect()
    manager.using(connection).fire("paid")
    connection.commit()
    connection.execute("SELECT 1")
    manager.fire("packed")
    assert triggers(manager) == ["paid", "packed"]


def test_sessions_of_sqlalchemy(manager: TriggerManager, postgres_url: str) -> None:
    engine = sa.create_engine(driver(postgres_url))
    try:
        with orm.Session(engine) as session:
            manager.using(session).fire("paid")
            with pytest.raises(NestedCommit, match=REFUSED):
                manager.fire("packed")
            session.commit()
            manager.fire("sent")
        assert triggers(manager) == ["paid", "sent"]
    finally:
        engine.dispose()


def test_another_thread_waits(
    manager: TriggerManager, connect: Connect, connection: psycopg.Connection[Any]
) -> None:
    """Also one with a copy of the context: who began the transaction will end it."""
    mine = connect()
    manager.using(mine).fire("paid")
    failed: list[BaseException] = []

    def fire() -> None:
        try:
            manager.fire("packed")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=copy_context().run, args=(fire,))
    thread.start()
    wait_for_a_waiting_one(connection, lambda: not thread.is_alive())
    mine.commit()
    thread.join(PATIENCE)
    assert failed == []
    assert triggers(manager) == ["paid", "packed"]


def wait_for_a_waiting_one(connection: psycopg.Connection[Any], over: Any) -> None:
    """Until somebody waits for the end of a transaction."""
    waits = (
        "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        " AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    while not over() and connection.execute(waits).fetchone() is None:
        pass


def test_a_thread_of_a_pool_that_hands_the_transaction_on(
    manager: TriggerManager, connect: Connect, connection: psycopg.Connection[Any]
) -> None:
    """As web frameworks have it: each request in a context of its own, committed elsewhere."""
    mine = connect()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, manager.using(mine).fire, "paid").result()
        later = pool.submit(copy_context().run, manager.fire, "packed")
        wait_for_a_waiting_one(connection, later.done)
        mine.commit()
        later.result()
    assert triggers(manager) == ["paid", "packed"]


@pytest.mark.parametrize("orm_too", [False, True])
def test_what_would_wait_for_its_own_task(
    manager: TriggerManager, postgres_url: str, orm_too: bool
) -> None:
    async def fires(one: Any, two: Any) -> None:
        await manager.using(one).afire("paid")
        with pytest.raises(NestedCommit, match=REFUSED):
            await manager.afire("packed")
        with pytest.raises(NestedCommit, match=REFUSED):
            manager.fire("packed")
        with pytest.raises(NestedCommit, match=REFUSED):
            await manager.using(two).afire("packed")
        await manager.using(one).afire("packed")
        await one.commit()
        await manager.afire("sent")

    async def main() -> None:
        if orm_too:
            engine = sa_asyncio.create_async_engine(driver(postgres_url))
            async with sa_asyncio.AsyncSession(engine) as one, engine.connect() as two:
                await fires(one, two)
            await engine.dispose()
        else:
            connect = psycopg.AsyncConnection.connect
            async with await connect(postgres_url) as one, await connect(postgres_url) as two:
                await fires(one, two)

    asyncio.run(main())
    assert triggers(manager) == ["paid", "packed", "sent"]


def test_another_task_waits(
    manager: TriggerManager, postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    """Begun by the one that has the transaction, which goes on meanwhile."""

    async def main() -> None:
        connect = psycopg.AsyncConnection.connect
        async with await connect(postgres_url) as one, await connect(postgres_url) as two:
            await manager.using(one).afire("paid")
            first = asyncio.create_task(manager.afire("packed"))
            second = asyncio.create_task(manager.using(two).afire("sent"))
            over = lambda: first.done() or second.done()  # noqa: E731
            await asyncio.to_thread(wait_for_a_waiting_one, connection, over)
            await one.commit()
            await second  # which may have been the first to wait
            await two.commit()
            await first

    asyncio.run(main())
    assert sorted(triggers(manager)) == ["packed", "paid", "sent"]


def test_few_notes_are_kept(app: Application, postgres_url: str, heard: Heard) -> None:
    with psycopg_pool.ConnectionPool(postgres_url, min_size=1, max_size=1, open=True) as pool:
        for number in range(5):
            with pool.connection() as connection:
                connection.execute("SELECT 1")
                app.manager(f"order:{number}").using(connection).fire("paid")
        assert len(still_open._changes.get()) == 1
