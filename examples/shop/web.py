"""The web service, for any ASGI server: ``uvicorn shop.web:app``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from triggers_core import aget_trigger_manager
from triggers_core.application import default_application
from triggers_core.exceptions import EventIdConflict, InvalidInput
from triggers_core.storages import SessionStorage

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

WEBHOOKS = {"/payments": ("paid", ("amount",)), "/stock": ("reserved", ("warehouse",))}
"""Path → the trigger that it fires, and the fields that go with it beside order and id."""


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body = await read(receive)
    status, answer = await respond(scope["method"], scope["path"], body)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer."""
    if method == "POST" and path in WEBHOOKS:
        return await take(*WEBHOOKS[path], body)
    if method == "GET" and path.startswith("/orders/"):
        return await show(path.removeprefix("/orders/"))
    return 404, {"error": "POST /payments or /stock, GET /orders/NUMBER"}


async def take(trigger: str, fields: tuple[str, ...], body: bytes) -> tuple[int, dict[str, Any]]:
    """A webhook: record that something has happened, once, in whatever order things come."""
    try:
        event = json.loads(body)
        order, identity = str(event["order"]), str(event["id"])
        kwargs = {"order": order, **{field: event[field] for field in fields}}
    except (ValueError, KeyError, TypeError) as error:
        return 400, {"error": f"expected JSON with order, id, {', '.join(fields)}: {error!r}"}
    manager = await aget_trigger_manager(f"order:{order}")
    try:
        result = await manager.afire(trigger, kwargs, event_id=f"{trigger}:{identity}")
    except EventIdConflict as error:
        return 409, {"error": str(error)}
    except InvalidInput as error:
        return 422, {"error": str(error)}
    return 202, {"order": order, "status": result.status, "scheduled": list(result.scheduled)}


async def show(order: str) -> tuple[int, dict[str, Any]]:
    """Where an order stands: what it has, what it waits for, and why."""
    manager = await aget_trigger_manager(f"order:{order}")
    answer = await manager.aread(standing)
    if answer is None:
        return 404, {"error": f"no such order: {order}"}
    return 200, {**answer, "why": str(await manager.aexplain())}


def standing(storage: SessionStorage) -> dict[str, Any] | None:
    """What there is of an order; read in a thread, as all that waits for the storage."""
    if not storage.exists:
        return None
    shipped = storage.latest_kwargs.get("t_ship", {})
    return {**shipped, "tasks": {name: each.status for name, each in storage.instances.items()}}


async def read(receive: Receive) -> bytes:
    """The body of a request."""
    body, more = b"", True
    while more:
        part = await receive()
        body += part.get("body", b"")
        more = part.get("more_body", False)
    return body


async def lifespan(receive: Receive, send: Send) -> None:
    """The server starts and ends: with it what looks after what a killed one left behind."""
    while True:
        message = await receive()
        begins = message["type"] == "lifespan.startup"
        await (default_application.astart() if begins else default_application.astop())
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
