"""Pages that say that they have changed; and pages mounted into other applications."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import Mount
from web_pages import READER, Document, make_shop, order
from web_server import PATIENCE, Server

from triggers_core import Application
from triggers_core.testing import VirtualClock
from triggers_web.http import Request, Response
from triggers_web.pages import Access, everybody
from triggers_web.starlette import HandlerApp, pages, site
from triggers_web.streaming import Streams


@pytest.fixture
def shop() -> Iterator[Application]:
    app = make_shop()
    app.store.clock = VirtualClock()  # each minute, pages say anew how long ago things were
    yield app
    app.close()


class Stream:
    """A stream of events, as a browser reads it."""

    def __init__(self, server: Server, address: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._connection.request("GET", address)
        self.answer = self._connection.getresponse()

    def next(self) -> dict[str, str]:
        """The next event; empty at the end."""
        found: dict[str, str] = {}
        while line := self.answer.readline().decode():
            name, colon, value = line.rstrip("\n").partition(": ")
            if not line.strip() and "data" in found:
                return found
            if colon and name:
                found[name] = value
        return {}

    def close(self) -> None:
        """Leave, as a browser does that is closed."""
        self.answer.close()
        self._connection.close()


Listen = Callable[[Server, str], Stream]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Opens streams, and closes them at the end."""
    streams: list[Stream] = []

    def opened(server: Server, address: str) -> Stream:
        streams.append(Stream(server, address))
        return streams[-1]

    yield opened
    for each in streams:
        each.close()


def fast(handler: HandlerApp, app: Application, **options: Any) -> HandlerApp:
    """The same, with streams that look often."""
    handler.streams = Streams(app, every=0.02, **options)
    return handler


LIVE = "/live?of=%2Fsession%3Fuid%3Dorder%253A1"


def test_a_page_that_changes(shop: Application, listen: Listen) -> None:
    manager = order(shop)
    handler = fast(pages(shop, access=everybody("alice")), shop)
    with Server(handler) as server:
        stream = listen(server, LIVE)
        assert stream.answer.status == 200
        assert stream.answer.headers["content-type"] == "text/event-stream"
        assert stream.answer.headers["cache-control"] == "no-store"
        first = stream.next()
        assert first["event"] == "version"
        manager.fire("packed")
        assert stream.next()["data"] != first["data"]
        handler.streams.end()  # else the server would wait for it
        assert stream.next() == {}


def test_the_page_knows_its_version(shop: Application, listen: Listen) -> None:
    order(shop)
    with Server(fast(pages(shop, access=everybody("alice")), shop, lasts=1.0)) as server:
        page = Document(server.post("/session?uid=order:1", b"", {}, "GET").body.decode()).root
        [main] = page.all("main")
        stream = listen(server, LIVE)
        seen, minute = stream.next()["data"].split(".")
        assert main.attributes["data-version"].split(".")[0] == seen
        assert minute.isdecimal()
        assert stream.next() == {}  # it is over
        [html] = page.all("html")
        assert html.attributes["data-page"] == "/session?uid=order:1"


def test_there_are_not_too_many(shop: Application, listen: Listen) -> None:
    order(shop)
    handler = fast(pages(shop, access=everybody()), shop, at_once=1)
    with Server(handler) as server:
        stream = listen(server, LIVE)
        stream.next()
        assert listen(server, LIVE).answer.status == 204  # ask again instead
        stream.close()
        left = threading.Event()
        for _ in range(int(PATIENCE / 0.02)):
            if handler.streams.has_room:
                break
            left.wait(0.02)
        again = listen(server, LIVE)
        assert again.answer.status == 200
        handler.streams.end()


def test_whoever_may_not_see_it_any_more(shop: Application, listen: Listen) -> None:
    order(shop)
    rights = [Access(read=True)]
    handler = fast(pages(shop, access=lambda request: rights[-1]), shop)
    with Server(handler) as server:
        stream = listen(server, LIVE)
        assert stream.next()["event"] == "version"
        rights.append(Access())
        assert stream.next() == {}
        assert listen(server, LIVE).answer.status == 403


def test_a_session_that_is_deleted(shop: Application, listen: Listen) -> None:
    manager = order(shop)
    with Server(fast(pages(shop, access=everybody()), shop)) as server:
        stream = listen(server, LIVE)
        stream.next()
        manager.delete_session()
        assert stream.next() == {}
        assert listen(server, LIVE).answer.status == 404


def test_a_client_that_says_nothing_more_is_no_client() -> None:
    """What ASGI servers tell of who has left, while nothing is to be sent."""
    app = make_shop()

    async def stream() -> list[str]:
        streams, sent = Streams(app, every=30.0), []
        messages = iter(["http.request", "http.disconnect"])

        async def receive() -> dict[str, Any]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        answer = Response(501, watch=lambda: "1")
        async with asyncio.timeout(PATIENCE):
            await streams.serve(answer, receive, send)
        assert streams.has_room
        return sent

    assert asyncio.run(stream())[0] == "http.response.start"
    app.close()


# -- mounted ---------------------------------------------------------------------------------------


class Login:
    """A middleware that says who is logged in."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["user"] = SimpleNamespace(
                name=dict(scope["headers"]).get(b"x-user", b"").decode()
            )
        await self.app(scope, receive, send)


def by_user(request: Request) -> Access:
    return Access(who=request.user.name, read=bool(request.user.name))


@contextmanager
def mounted(shop: Application, at: str) -> Iterator[Server]:
    outer = FastAPI(middleware=[Middleware(Login)])
    outer.mount(at, site(shop, access=by_user))
    with Server(outer) as server:
        yield server


def test_below_any_prefix(shop: Application) -> None:
    order(shop)
    with mounted(shop, "/ops/triggers") as server:
        alice = {"x-user": "alice"}
        answer = server.post("/ops/triggers/session?uid=order:1", b"", alice, "GET")
        assert answer.status == 200
        page = Document(answer.body.decode()).root
        [html] = page.all("html")
        assert html.attributes["data-root"] == "/ops/triggers"
        assert "alice, read-only" in page.text
        assert "Path=/ops/triggers;" in answer.headers["set-cookie"]
        assert server.post("/ops/triggers/", b"", alice, "GET").status == 200
        assert server.post("/ops/triggers/", b"", {}, "GET").status == 403
        assert server.post("/ops/triggers/webhooks/no", b"{}", {}).status == 404
        for name in ("style.css", "script.js"):
            assert server.post(f"/ops/triggers/static/{name}", b"", {}, "GET").status == 200
            assert f"/ops/triggers/static/{name}" in answer.body.decode()
        for path in ("/static/../site.py", "/static/%2e%2e/site.py", "/static/site.py"):
            assert server.post(f"/ops/triggers{path}", b"", alice, "GET").status == 404


def test_nobody_sees_anything_unless_the_host_says_so(shop: Application) -> None:
    order(shop)
    made = site(shop)
    assert [each.path for each in made.routes if isinstance(each, Mount)] == ["/webhooks", ""]
    with Server(made) as server:
        assert server.post("/", b"", {}, "GET").status == 403
        assert server.post("/session?uid=order:1", b"", {}, "GET").status == 403


def test_only_its_own_hosts(shop: Application) -> None:
    with Server(pages(shop, access=lambda request: READER, hosts={"hooks.example"})) as server:
        assert server.post("/", b"", {}, "GET").status == 200
        assert server.post("/", b"", {"Host": "evil.example"}, "GET").status == 400


def test_a_form_that_is_too_long(shop: Application) -> None:
    with Server(pages(shop, access=everybody(act=True))) as server:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert server.post("/session/fire", b"a=" + b"x" * 300_000, form).status == 413
        assert server.post("/session/fire", b"&".join([b"a=1"] * 2_000), form).status == 400
        assert server.post("/session/fire", b"a=1", form).status == 403
