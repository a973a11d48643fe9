"""Requests and responses, as handlers and adapters see them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from web_signing import make_app

from triggers_web.http import (
    MAX_BODY,
    Headers,
    Request,
    Response,
    early,
    json_response,
    redirect,
)
from triggers_web.starlette import HandlerApp, request_of

FORM = Headers([("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")])


def test_headers() -> None:
    headers = Headers([("X-A", "1"), ("x-a", "2"), ("X-B", "3")])
    assert (headers["x-A"], headers.all("X-a"), headers.all("x-c")) == ("1", ["1", "2"], [])
    assert (len(headers), list(headers), "X-B" in headers, 3 in headers) == (
        2,
        ["x-a", "x-b"],
        True,
        False,
    )


def test_a_query_and_a_form() -> None:
    request = Request(method="GET", path="/", query_string="a=1&b=%C3%BC+x&a=2&c=")
    assert request.query == {"a": "2", "b": "ü x", "c": ""}
    assert request.query_pairs[0] == ("a", "1")
    assert request.form == {}
    sent = Request(method="POST", path="/", headers=FORM, body=b"uid=order%3A1&x=")
    assert sent.form == {"uid": "order:1", "x": ""}
    for body in (b"a=1&" * 1_001, b"a=\xff"):
        with pytest.raises(ValueError, match=r"fields|decode"):
            _ = Request(method="POST", path="/", headers=FORM, body=body).form


def test_responses() -> None:
    assert Response(200, "ü").content == "ü".encode()
    headers = dict(Response(200, "x", {"Cache-Control": "max-age=60"}).all_headers)
    assert headers["cache-control"] == "max-age=60"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "content-type" not in dict(Response(204).all_headers)
    assert dict(redirect("/sessions?uid=x").all_headers)["location"] == "/sessions?uid=x"
    assert json_response(200, {"a": "\ud800"}).content == b'{"a":"\\ud800"}'


def test_a_function_is_a_handler() -> None:
    def handler(request: Request) -> Response:
        return Response(200, request.path)

    assert early(handler, Request(method="GET", path="/")) == MAX_BODY


@pytest.mark.parametrize(
    ("root", "path", "below"),
    [
        ("", "/a/b", "/a/b"),
        ("/m", "/m/a", "/a"),
        ("/m", "/m", "/"),
        ("/m/", "/m/a", "/a"),
        ("/m", "/ma", "/ma"),
        ("/m", "/a", "/a"),  # a server that strips it
    ],
)
def test_where_a_handler_is_mounted(root: str, path: str, below: str) -> None:
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "root_path": root, "headers": [],
        "raw_path": path.encode() + b"?x", "query_string": b"x", "client": ("127.0.0.1", 1),
    }  # fmt: skip
    request = request_of(scope)
    assert (request.path, request.raw_path, request.root) == (below, path, root.rstrip("/"))
    assert (request.client, request.user, request.query_string) == ("127.0.0.1", None, "x")
    del scope["raw_path"], scope["client"]
    assert (request_of(scope).raw_path, request_of(scope).client) == (None, None)


def asgi(app: HandlerApp, kind: str, method: str = "GET") -> list[dict[str, Any]]:
    """What it sends."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {"type": kind, "method": method, "path": "/", "headers": [], "http_version": "2"}
    asyncio.run(app(scope, receive, send))
    return sent


def test_other_kinds_of_connections_and_methods_without_a_body() -> None:
    owner = make_app()
    app = HandlerApp(lambda _: Response(200, "text"), owner)
    assert asgi(app, "websocket") == [{"type": "websocket.close", "code": 1000, "reason": ""}]
    assert asgi(app, "http")[1]["body"] == b"text"
    head, body = asgi(app, "http", "HEAD")
    assert (b"content-length", b"4") in head["headers"]
    assert body["body"] == b""
    owner.close()


def test_an_early_answer_of_http_2_has_no_header_of_http_1() -> None:
    class Refuses:
        def early(self, request: Request) -> Response | int:
            return Response(404, "no")

        def __call__(self, request: Request) -> Response:
            raise AssertionError

    owner = make_app()
    head, _ = asgi(HandlerApp(Refuses(), owner), "http")
    assert b"connection" not in dict(head["headers"])
    owner.close()
