"""What is done with an order."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from fastapi_shop.database import Order, task_engine
from triggers_core import TaskContext, TriggerTask

SLOW = float(os.environ.get("SHOP_SLOW", "0"))  # seconds that a parcel takes


class Ship(TriggerTask):
    """Hand the goods over to the parcel service."""

    name = "shop.Ship"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        number = context.trigger_kwargs["paid"]["order"]
        warehouse = context.trigger_kwargs["stockReserved"]["warehouse"]
        # A process may die after this call and before its outcome is stored; then the body runs
        # again, with the same key, and the parcel service knows that parcel already.
        parcel = hand_over(context.idempotency_key, warehouse)
        with Session(task_engine) as session:
            session.execute(update(Order).where(Order.number == number).values(parcel=parcel))
            session.commit()
        return {"parcel": parcel}


class Tell(TriggerTask):
    """Tell the customer. It gets what `Ship` returned."""

    name = "shop.Tell"

    async def _run(self, context: TaskContext) -> None:
        parcel = context.trigger_kwargs["t_ship"]["parcel"]
        with context.get_logger_context() as logger:
            logger.warning("%s is on its way as parcel %s", context.manager.uid, parcel)


def hand_over(key: str, warehouse: str) -> str:
    """Stands for a parcel service that accepts each key once. Returns the parcel's number."""
    time.sleep(SLOW)
    return f"{warehouse}-{blake2b(key.encode(), digest_size=6).hexdigest()}"
