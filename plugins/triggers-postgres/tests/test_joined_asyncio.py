"""Fires within transactions of asyncio connections: psycopg's own, and SQLAlchemy's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from joined_app import Connect, Heard, settled, triggers
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

from triggers_core import TriggerManager
from triggers_core.exceptions import (
    CannotJoin,
    MustAwait,
    StorageError,
    TaskNameFired,
    TransactionConflict,
)

Main = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    connection = await psycopg.AsyncConnection.connect(url, **options)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def engine_of(url: str) -> AsyncIterator[sa_asyncio.AsyncEngine]:
    engine = sa_asyncio.create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        yield engine
    finally:
        await engine.dispose()


async def told(heard: Heard, *expected: str) -> None:
    await asyncio.to_thread(heard.wait_for, *expected)


def test_psycopg(
    manager: TriggerManager, heard: Heard, postgres_url: str, orders: str, connect: Connect
) -> None:
    async def main() -> None:
        async with connected(postgres_url) as connection:
            joined = manager.using(connection)
            await connection.execute(f"INSERT INTO {orders} VALUES (42)")
            assert (await joined.afire("paid")).status == "recorded"
            async with connection.transaction(force_rollback=True):
                await joined.afire("undone")
            await joined.afire("packed")
            instance = await joined.aget_instance("t_ship#0")
            assert instance.status.value == "scheduled"
            with pytest.raises(TaskNameFired):
                await joined.afire("t_ship")
            assert heard.triggers == []
            await connection.commit()
            await told(heard, "paid", "packed")
            await joined.afire("never")
            await connection.rollback()
            assert await joined.adelete_session()
            await connection.rollback()

    asyncio.run(main())
    settled(manager)
    assert heard.triggers == ["paid", "packed"] == triggers(manager)
    assert threading.current_thread().name not in heard.threads
    assert connect().execute(f"SELECT number FROM {orders}").fetchall() == [(42,)]


def test_in_autocommit(manager: TriggerManager, heard: Heard, postgres_url: str) -> None:
    async def main() -> None:
        async with connected(postgres_url, autocommit=True) as connection:
            await manager.using(connection).afire("paid")
            assert triggers(manager) == ["paid"]
            await told(heard, "paid")

    asyncio.run(main())
    assert threading.current_thread().name not in heard.threads


def test_an_async_session(
    manager: TriggerManager, heard: Heard, postgres_url: str, orders: str
) -> None:
    async def main() -> None:
        async with engine_of(postgres_url) as engine:
            async with sa_asyncio.AsyncSession(engine) as session:
                joined = manager.using(session)
                await joined.afire("paid")
                await session.execute(sa.text(f"INSERT INTO {orders} VALUES (42)"))
                async with session.begin_nested() as savepoint:
                    await joined.afire("undone")
                    await savepoint.rollback()
                await joined.afire("packed")
                assert heard.triggers == []
                await session.commit()
                await told(heard, "paid", "packed")
                await joined.afire("never")
                await session.rollback()
            async with sa_asyncio.async_sessionmaker(engine).begin() as session:
                assert (await session.execute(sa.text(f"SELECT * FROM {orders}"))).all() == [(42,)]
                await manager.using(session).afire("again")
            await told(heard, "paid", "packed", "again")

    asyncio.run(main())
    settled(manager)
    assert triggers(manager) == heard.triggers == ["paid", "packed", "again"]
    assert threading.current_thread().name not in heard.threads


def test_an_async_connection_and_a_scoped_session(
    manager: TriggerManager, heard: Heard, postgres_url: str
) -> None:
    async def main() -> None:
        async with engine_of(postgres_url) as engine:
            async with engine.connect() as connection:
                await manager.using(connection).afire("paid")
                await connection.commit()
                await told(heard, "paid")
                await manager.using(connection).afire("never")
            async with engine.begin() as connection:
                await manager.using(connection).afire("packed")
            await told(heard, "paid", "packed")
            scoped = sa_asyncio.async_scoped_session(
                sa_asyncio.async_sessionmaker(engine), asyncio.current_task
            )
            await manager.using(scoped).afire("again")
            await scoped.commit()
            await told(heard, "paid", "packed", "again")
            await scoped.remove()

    asyncio.run(main())


def test_whatever_blocks_is_refused(manager: TriggerManager, postgres_url: str) -> None:
    async def main() -> None:
        async with connected(postgres_url) as connection:
            joined = manager.using(connection)
            with pytest.raises(MustAwait, match="afire"):
                joined.fire("paid")
            with pytest.raises(MustAwait):
                joined.explain()
        async with engine_of(postgres_url) as engine, sa_asyncio.AsyncSession(engine) as session:

            def fire(sync_session: orm.Session) -> None:
                manager.using(sync_session).fire("paid")

            with pytest.raises(CannotJoin, match="hand in its AsyncConnection or AsyncSession"):
                await session.run_sync(fire)

    asyncio.run(main())
    assert triggers(manager) == []


def test_conflicts(manager: TriggerManager, postgres_url: str) -> None:
    async def main() -> None:
        async with connected(postgres_url) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await connection.execute("SELECT 1")
            await manager.afire("paid")
            with pytest.raises(TransactionConflict):
                await manager.using(connection).afire("packed")
            with pytest.raises(StorageError, match="has failed before"):
                await manager.using(connection).afire("packed")

    asyncio.run(main())


def test_the_loop_goes_on_while_a_session_is_locked(
    manager: TriggerManager, postgres_url: str, connect: Connect
) -> None:
    locking = connect()
    manager.using(locking).fire("paid")

    async def main() -> None:
        async with connected(postgres_url) as connection:
            waiting = asyncio.create_task(manager.using(connection).afire("packed"))
            await blocked(postgres_url)
            locking.commit()
            await waiting
            await connection.commit()

    asyncio.run(main())
    assert triggers(manager) == ["paid", "packed"]


def test_a_fire_that_is_cancelled(
    manager: TriggerManager, heard: Heard, postgres_url: str, connect: Connect
) -> None:
    """While it waits for the session's lock: nothing is stored, and the connection is usable."""
    locking = connect()
    manager.using(locking).fire("paid")

    async def main() -> None:
        async with connected(postgres_url) as connection:
            waiting = asyncio.create_task(manager.using(connection).afire("packed"))
            await blocked(postgres_url)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await connection.rollback()
            locking.rollback()
            await manager.using(connection).afire("again")
            await connection.commit()

    asyncio.run(main())
    heard.wait_for("again")
    assert triggers(manager) == ["again"]


async def blocked(url: str) -> None:
    """Wait until somebody waits for a lock."""
    async with connected(url, autocommit=True) as connection:
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await (await connection.execute(waits)).fetchone():
            await asyncio.sleep(0)


def test_cancelled_at_any_turn_of_the_loop(
    manager: TriggerManager, heard: Heard, postgres_url: str
) -> None:
    """Wherever it is cancelled: committed after that, the event is stored whole or not at all."""

    async def fire_and_cancel(turns: int) -> bool:
        async with connected(postgres_url) as connection:
            joined = manager.sibling(f"cancelled:{turns}").using(connection)

            async def fire() -> None:
                await joined.aupdate_configuration({"t_x": {"after": ["go"], "run": "shop.X"}})
                await joined.afire("go")

            task = asyncio.create_task(fire())
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not connection.closed:
                await connection.commit()
            return done

    turns = [0]
    while not asyncio.run(fire_and_cancel(turns[-1])):
        turns.append(turns[-1] + 1 + turns[-1] // 6)
    settled(manager)
    assert len(turns) > 3
    outcomes = set()
    for number in turns:
        storage = manager.sibling(f"cancelled:{number}").storage
        scheduled = [each.status.value for each in storage.instances.values()]
        outcomes.add((*(event.trigger for event in storage.events), *scheduled))
    assert outcomes <= {(), ("go", "scheduled")}
    assert ("go", "scheduled") in outcomes
