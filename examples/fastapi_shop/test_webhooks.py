"""Tests of the shop, on the PostgreSQL that SHOP_DATABASE names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_shop.database import Payment, engine
from fastapi_shop.web import app, session_of

pytestmark = pytest.mark.anyio

FINISHED = {"t_ship#0": "finished", "t_tell#0": "finished"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client


@pytest.fixture
def number() -> str:
    """An order that no other test knows."""
    return uuid4().hex


async def pay(client: AsyncClient, number: str, cents: int = 1990) -> tuple[int, str]:
    event = {"id": f"evt-{number}", "order": number, "cents": cents}
    answer = await client.post("/payments", json=event)
    return answer.status_code, answer.json()["status"] if answer.is_success else ""


async def reserve(client: AsyncClient, number: str) -> tuple[int, str]:
    event = {"id": f"res-{number}", "order": number, "warehouse": "B"}
    answer = await client.post("/stock", json=event)
    return answer.status_code, answer.json()["status"] if answer.is_success else ""


async def shipped(client: AsyncClient, number: str) -> dict[str, Any]:
    """The order, once nothing runs any more."""
    await session_of(number).ajoin(timeout=60)
    order: dict[str, Any] = (await client.get(f"/orders/{number}")).json()
    assert order["tasks"] == FINISHED
    assert order["parcel"].startswith("B-")
    return order


async def payments_of(number: str) -> int | None:
    async with AsyncSession(engine) as session:
        rows = select(func.count()).select_from(Payment).where(Payment.order == number)
        return await session.scalar(rows)


async def test_an_order_is_shipped_once_both_are_in(client: AsyncClient, number: str) -> None:
    assert await pay(client, number) == (202, "recorded")
    order = (await client.get(f"/orders/{number}")).json()
    assert (order["parcel"], order["tasks"]) == ("", {"t_ship#0": "unstarted"})
    assert "stockReserved" in order["why"]
    assert await reserve(client, number) == (202, "recorded")
    await shipped(client, number)


async def test_in_whatever_order_and_again(client: AsyncClient, number: str) -> None:
    for status in ("recorded", "duplicate"):
        assert await reserve(client, number) == (202, status)
        assert await pay(client, number) == (202, status)
    await shipped(client, number)
    assert await payments_of(number) == 1


async def test_a_request_that_is_rolled_back_leaves_nothing(
    client: AsyncClient, number: str
) -> None:
    assert (await pay(client, number, cents=-1))[0] == 500  # refused by the database, after paid
    assert (await client.get(f"/orders/{number}")).status_code == 404
    assert not await session_of(number).aread(lambda storage: storage.exists)
    assert await pay(client, number) == (202, "recorded")  # delivered again, corrected
    assert await reserve(client, number) == (202, "recorded")
    await shipped(client, number)
