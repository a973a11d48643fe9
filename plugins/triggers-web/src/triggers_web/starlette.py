"""Handlers as an ASGI application: pure ASGI, within a Starlette application that can be mounted.

Bodies are read in the event loop, bounded in size and time; handlers are called in the threads of
the application (`Application.in_thread`), so that the loop never waits for a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from triggers_core.application import Application, default_application
from triggers_web.http import Handler, Headers, Request, Response, early, json_response
from triggers_web.intake import Intake
from triggers_web.pages import Pages
from triggers_web.pages.access import AccessOf, nobody
from triggers_web.streaming import Streams

BODY_TIMEOUT: Final = 10.0
"""Seconds within which a whole body has to arrive."""
AT_ONCE: Final = 200
"""Requests that are answered at the same time, at most: more than the application has threads, and
few enough that nobody waits for long."""
ANSWER_WITHIN: Final = 9.0
"""Seconds after which a webhook's sender is told to come again: GitHub waits for 10."""
_RETRY_SOON: Final = {"retry-after": "1"}
_RETRY_LATER: Final = {"retry-after": "10"}


class HandlerApp:
    """An ASGI application that answers HTTP requests by a handler.

    :param handler: a plain function from a request to a response; it may block.
    :param app: in whose threads it is called.
    :param body_timeout: seconds within which a whole body has to arrive; then it is a 408.
    :param at_once: requests that may be with the handler at the same time; others get a 503.
    :param answer_within: seconds after which a 503 is sent, whatever the handler is still doing;
        None: it may take as long as it likes.

    Example::

        fastapi_app.mount("/hooks", HandlerApp(Intake({...})))
    """

    def __init__(
        self,
        handler: Handler,
        app: Application | None = None,
        *,
        body_timeout: float = BODY_TIMEOUT,
        at_once: int = AT_ONCE,
        answer_within: float | None = None,
    ) -> None:
        self._handler = handler
        self._app = app or default_application
        self._body_timeout = body_timeout
        self._left = at_once
        self._answer_within = answer_within
        self.streams: Streams = Streams(self._app)
        """Pages that are watched."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI servers ask."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        assert scope["type"] == "http", f"{type(self).__name__} cannot serve {scope['type']}"
        answer, was_read = await self._answer(scope, receive)
        if answer is None:
            return
        if answer.watch is not None and scope["method"] == "GET" and self.streams.has_room:
            await self.streams.serve(answer, receive, send)
        else:
            await _send(scope, send, answer, was_read)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Response | None, bool]:
        """The response, and whether the body has been read; None: nobody is there any more."""
        request = request_of(scope)
        first = early(self._handler, request)
        if isinstance(first, Response):
            return first, False
        try:
            async with asyncio.timeout(self._body_timeout):
                body = await _body(request.headers, receive, first)
        except TimeoutError:
            return _refusal(408, f"the body did not arrive within {self._body_timeout:g} s"), False
        if body is None:
            return None, True
        if isinstance(body, Response):
            return body, False
        if self._left <= 0:
            return _refusal(503, "too many requests at once", _RETRY_SOON), True
        self._left -= 1
        try:
            async with asyncio.timeout(self._answer_within):
                call = partial(self._handler, request_of(scope, body))
                return await self._app.in_thread(call), True
        except TimeoutError:
            return _refusal(503, "this takes too long; send it again later", _RETRY_LATER), True
        finally:
            self._left += 1


def site(
    app: Application | None = None,
    *,
    access: AccessOf = nobody,
    hosts: Collection[str] | None = None,
) -> Starlette:
    """All that this package serves, for one application: pages, and webhooks below ``/webhooks``.

    Webhooks are those of ``TRIGGER_PLUGIN_OPTIONS["web"]["webhooks"]``. The application is started
    and stopped along with the server; where this is mounted into another application, that one
    does it.

    :param access: who may see pages and act on them, as for `pages`: by default, nobody.
    :param hosts: likewise.
    :raises InvalidSetting: the settings say something impossible.

    Example::

        app = site()  # uvicorn shop.web:app
        fastapi_app.mount("/triggers", site(access=everybody("on call", act=True)))
    """
    owner = app or default_application
    hooks = webhooks(None, owner)
    shown = pages(owner, access=access, hosts=hosts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with owner:
            yield

    routes = [Mount("/webhooks", app=hooks), Mount("/", app=shown)]
    made = Starlette(routes=routes, lifespan=lifespan)
    made.state.streams = shown.streams
    return made


def pages(
    app: Application | None = None,
    *,
    access: AccessOf = nobody,
    hosts: Collection[str] | None = None,
) -> HandlerApp:
    """The pages alone, to be mounted into an ASGI application, at any prefix.

    :param access: says of a request who sent it, and what they may see and do; by default, nobody
        may see anything.
    :param hosts: names of this server; requests for others are refused. None: whoever serves the
        pages looks at that.

    Example::

        def access(request):
            user = request.user  # of your authentication middleware
            return Access(who=user.display_name, read=True, act="operator" in user.groups)

        fastapi_app.mount("/triggers", pages(access=access))
    """
    owner = app or default_application
    return HandlerApp(Pages(owner, access=access, hosts=hosts), owner)


def webhooks(routes: Mapping[str, Any] | None = None, app: Application | None = None) -> HandlerApp:
    """The webhooks alone, to be mounted into an ASGI application.

    :param routes: path → what a webhook there is; those of the settings when not given.
    :raises InvalidSetting: a route makes no sense; names the place and the cure.

    Example::

        fastapi_app.mount("/hooks", webhooks({"/stripe": {...}}))
    """
    owner = app or default_application
    intake = Intake.from_settings(owner) if routes is None else Intake(routes, owner)
    return HandlerApp(intake, owner, answer_within=ANSWER_WITHIN)


def request_of(scope: Scope, body: bytes = b"") -> Request:
    """A request as handlers see it, from an ASGI scope of type ``http``."""
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    raw = scope.get("raw_path")
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=path or "/",
        raw_path=None if raw is None else raw.partition(b"?")[0].decode("latin-1"),
        root=root,
        headers=Headers(pairs),
        scheme=scope.get("scheme", "http"),
        query_string=scope.get("query_string", b"").decode("latin-1"),
        body=body,
        client=client[0] if client else None,
        user=scope.get("user"),
    )


async def _body(headers: Headers, receive: Receive, most: int) -> bytes | Response | None:
    """A body of at most so many bytes; a refusal when it is longer, None when the client left."""
    if "content-length" in headers and "transfer-encoding" in headers:
        # Servers go by the second, as they should; a proxy before them may not.
        return _refusal(400, "the length of the body is stated in two ways")
    too_long = partial(_refusal, 413, f"the body is longer than {most:,} bytes")
    stated = headers.get("content-length", "")
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > most):
        return too_long()
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            return too_long()
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(scope: Scope, send: Send, answer: Response, was_read: bool) -> None:
    content = answer.content
    headers = [*answer.all_headers, ("content-length", str(len(content)))]
    if not was_read and scope.get("http_version", "1.1").startswith("1"):
        headers.append(("connection", "close"))  # nobody will read the rest of the body
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    sent = b"" if scope["method"] == "HEAD" else content
    await send({"type": "http.response.body", "body": sent})


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(status, {"error": reason}, headers)
