"""What the shop does: the same on one machine and on many."""

from __future__ import annotations

from typing import Any, ClassVar

from shop import parcels
from triggers_core import TaskContext, TriggerTask


class Ship(TriggerTask):
    """Hand the goods over to the parcel service."""

    name = "shop.ship"
    celery_options: ClassVar = {"soft_time_limit": 30}

    def _run(self, context: TaskContext) -> dict[str, Any]:
        paid = context.trigger_kwargs["paid"]
        reserved = context.trigger_kwargs["reserved"]
        parcel = parcels.hand_over(
            # A worker may die after this call and before its outcome is stored; then the body runs
            # again, with the same key.
            context.idempotency_key,
            {"order": paid["order"], "from": reserved["warehouse"], "value": paid["amount"]},
        )
        return {"parcel": parcel}


class Tell(TriggerTask):
    """Tell the customer. It gets what `Ship` returned."""

    name = "shop.tell"

    def _run(self, context: TaskContext) -> None:
        parcel = context.trigger_kwargs["t_ship"]["parcel"]
        with context.get_logger_context() as logger:
            logger.info("%s is on its way as parcel %s", context.manager.uid, parcel)
