"""The web service, for any ASGI server: ``uvicorn shop.web:app``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from triggers_core import get_trigger_manager
from triggers_core.application import default_application
from triggers_core.exceptions import EventIdConflict, InvalidInput

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

WEBHOOKS = {"/payments": ("paid", ("amount",)), "/stock": ("reserved", ("warehouse",))}
"""Path → the trigger that it fires, and the fields that go with it beside order and id."""


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body = await read(receive)
    # Triggers blocks while it stores something, so it does that in a thread.
    status, answer = await asyncio.to_thread(respond, scope["method"], scope["path"], body)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer."""
    if method == "POST" and path in WEBHOOKS:
        return take(*WEBHOOKS[path], body)
    if method == "GET" and path.startswith("/orders/"):
        return show(path.removeprefix("/orders/"))
    return 404, {"error": "POST /payments or /stock, GET /orders/NUMBER"}


def take(trigger: str, fields: tuple[str, ...], body: bytes) -> tuple[int, dict[str, Any]]:
    """A webhook: record that something has happened, once, in whatever order things come."""
    try:
        event = json.loads(body)
        order, identity = str(event["order"]), str(event["id"])
        kwargs = {"order": order, **{field: event[field] for field in fields}}
    except (ValueError, KeyError, TypeError) as error:
        return 400, {"error": f"expected JSON with order, id, {', '.join(fields)}: {error!r}"}
    manager = get_trigger_manager(f"order:{order}")
    try:
        result = manager.fire(trigger, kwargs, event_id=f"{trigger}:{identity}")
    except EventIdConflict as error:
        return 409, {"error": str(error)}
    except InvalidInput as error:
        return 422, {"error": str(error)}
    return 202, {"order": order, "status": result.status, "scheduled": list(result.scheduled)}


def show(order: str) -> tuple[int, dict[str, Any]]:
    """Where an order stands: what it has, what it waits for, and why."""
    manager = get_trigger_manager(f"order:{order}")
    if not manager.storage.exists:
        return 404, {"error": f"no such order: {order}"}
    shipped = manager.storage.latest_kwargs.get("t_ship", {})
    tasks = {name: each.status for name, each in manager.storage.instances.items()}
    return 200, {**shipped, "tasks": tasks, "why": str(manager.explain())}


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
        await asyncio.to_thread(default_application.start if begins else default_application.stop)
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
