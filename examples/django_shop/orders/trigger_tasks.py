"""What is done with an order. Triggers finds this module by its name, in each application."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import Any

from django.core.mail import send_mail

from orders.models import Order
from triggers_core import TaskContext, TriggerTask

SLOW = float(os.environ.get("SHOP_SLOW", "0"))  # seconds that a parcel takes


class Ship(TriggerTask):
    """Hand the goods over to the parcel service."""

    name = "orders.Ship"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        number = context.trigger_kwargs["paid"]["order"]
        warehouse = context.trigger_kwargs["stockReserved"]["warehouse"]
        # A process may die after this call and before its outcome is stored; then the body runs
        # again, with the same key, and the parcel service knows that parcel already.
        parcel = hand_over(context.idempotency_key, warehouse)
        Order.objects.filter(number=number).update(parcel=parcel)
        return {"parcel": parcel}


class Tell(TriggerTask):
    """Tell the customer. It gets what `Ship` returned."""

    name = "orders.Tell"

    def _run(self, context: TaskContext) -> None:
        parcel = context.trigger_kwargs["t_ship"]["parcel"]
        text = f"{context.manager.uid} is on its way as parcel {parcel}."
        send_mail("On its way", text, None, ["customer@example.com"])


def hand_over(key: str, warehouse: str) -> str:
    """Stands for a parcel service that accepts each key once. Returns the parcel's number."""
    time.sleep(SLOW)
    return f"{warehouse}-{blake2b(key.encode(), digest_size=6).hexdigest()}"
