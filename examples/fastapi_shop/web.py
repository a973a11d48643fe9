"""The web service: ``uvicorn fastapi_shop.web:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_shop.database import Order, Payment, Reservation, create_tables, engine
from triggers_core import TriggerManager, get_trigger_manager
from triggers_core.application import default_application
from triggers_core.exceptions import TransactionConflict


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """From its start on, the service looks after what a killed one left behind."""
    await create_tables()
    async with default_application:
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class Paid(BaseModel):
    """What the payment provider sends. In earnest, check its signature first."""

    id: str
    order: str
    cents: int


class Reserved(BaseModel):
    """What the warehouse sends."""

    id: str
    order: str
    warehouse: str


@app.post("/payments", status_code=202)
async def payments(event: Paid) -> dict[str, str]:
    """An order is paid: in whatever order things come, or again."""
    async with AsyncSession(engine) as session:
        await add_order(session, event.order)
        fired = (
            await session_of(event.order)
            .using(session)
            .afire(
                "paid", {"order": event.order, "cents": event.cents}, event_id=f"paid:{event.id}"
            )
        )
        if fired.status == "recorded":  # else it is a delivery that was there before
            session.add(Payment(id=event.id, order=event.order, cents=event.cents))
        await session.commit()  # the row and the event, or neither
    return {"order": event.order, "status": fired.status}


@app.post("/stock", status_code=202)
async def stock(event: Reserved) -> dict[str, str]:
    """An order's goods are reserved."""
    async with AsyncSession(engine) as session:
        await add_order(session, event.order)
        fired = (
            await session_of(event.order)
            .using(session)
            .afire(
                "stockReserved",
                {"order": event.order, "warehouse": event.warehouse},
                event_id=f"stockReserved:{event.id}",
            )
        )
        if fired.status == "recorded":
            session.add(Reservation(id=event.id, order=event.order, warehouse=event.warehouse))
        await session.commit()
    return {"order": event.order, "status": fired.status}


@app.get("/orders/{number}")
async def order(number: str) -> dict[str, Any]:
    """Where an order stands, and why."""
    async with AsyncSession(engine) as session:
        found = await session.get(Order, number)
    if found is None:
        raise HTTPException(404, f"no such order: {number}")
    manager = session_of(number)
    instances = await manager.aread(lambda storage: storage.instances)
    return {
        "parcel": found.parcel,
        "tasks": {name: each.status for name, each in instances.items()},
        "why": str(await manager.aexplain()),
    }


@app.exception_handler(TransactionConflict)
async def conflict(request: Request, error: TransactionConflict) -> JSONResponse:
    """Another transaction was in the way: nothing is stored, and the webhook is delivered again."""
    return JSONResponse({"error": str(error)}, status_code=503)


def session_of(order: str) -> TriggerManager:
    return get_trigger_manager(f"order:{order}")


async def add_order(session: AsyncSession, number: str) -> None:
    await session.execute(insert(Order).values(number=number).on_conflict_do_nothing())
