"""The webhooks. By ``ATOMIC_REQUESTS``, each is one transaction: its rows and its events alike."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from orders.models import Order, Payment, Reservation
from triggers_core import get_trigger_manager


@csrf_exempt
@require_POST
def payments(request: HttpRequest) -> JsonResponse:
    """The payment provider says that an order is paid, in whatever order things come, or again."""
    event = read(request, "id", "order", "cents")
    order, _ = Order.objects.get_or_create(number=event["order"])
    fired = get_trigger_manager(order.uid).fire(
        "paid", {"order": order.number, "cents": event["cents"]}, event_id=f"paid:{event['id']}"
    )
    if fired.status == "recorded":  # else it is a delivery that was there before
        # An error here, or anywhere below, and the event is rolled back with the row.
        Payment.objects.create(order=order, cents=event["cents"])
    return JsonResponse({"order": order.number, "status": fired.status}, status=202)


@csrf_exempt
@require_POST
def stock(request: HttpRequest) -> JsonResponse:
    """The warehouse says that an order's goods are reserved."""
    event = read(request, "id", "order", "warehouse")
    order, _ = Order.objects.get_or_create(number=event["order"])
    fired = get_trigger_manager(order.uid).fire(
        "stockReserved",
        {"order": order.number, "warehouse": event["warehouse"]},
        event_id=f"stockReserved:{event['id']}",
    )
    if fired.status == "recorded":
        Reservation.objects.create(order=order, warehouse=event["warehouse"])
    return JsonResponse({"order": order.number, "status": fired.status}, status=202)


@require_GET
def order(request: HttpRequest, number: str) -> JsonResponse:
    """Where an order stands, and why."""
    found = Order.objects.filter(number=number).first()
    if found is None:
        return JsonResponse({"error": f"no such order: {number}"}, status=404)
    manager = get_trigger_manager(found.uid)
    tasks = {name: each.status for name, each in manager.storage.instances.items()}
    return JsonResponse({"parcel": found.parcel, "tasks": tasks, "why": str(manager.explain())})


def read(request: HttpRequest, *fields: str) -> dict[str, Any]:
    """What a webhook was sent. In earnest, check its signature first."""
    try:
        event = json.loads(request.body)
        return {field: event[field] for field in fields} | {"order": str(event["order"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"expected JSON with {', '.join(fields)}") from error
