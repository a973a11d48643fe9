"""What is done once an order is paid and packed."""

from __future__ import annotations

from triggers_core import TaskContext, TriggerTask


class Ship(TriggerTask):
    name = "shop.Ship"

    def _run(self, context: TaskContext) -> dict[str, str]:
        paid, packed = context.trigger_kwargs["paid"], context.trigger_kwargs["packed"]
        parcel = f"{packed['shelf']}-{context.manager.uid.removeprefix('order:')}"
        with context.get_logger_context() as logger:
            logger.warning("parcel %s, worth %.2f", parcel, paid["cents"] / 100)
        return {"parcel": parcel}
