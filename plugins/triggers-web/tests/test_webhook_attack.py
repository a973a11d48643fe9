"""An attack on a real server: what is no webhook of ours is refused, and disturbs nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from web_server import Server, head_of, read_answer, request
from web_signing import (
    NOW,
    as_json,
    hmac_headers,
    make_app,
    make_intake,
    payment,
    standard_headers,
    stripe_headers,
)

from triggers_core import Application
from triggers_web.http import MAX_BODY, Request, Response
from triggers_web.intake import Intake
from triggers_web.starlette import HandlerApp

BODY = as_json({"order": 1, "a": "b"})
HEADERS = hmac_headers(BODY)


class Hooks:
    """An intake whose clock can be set."""

    def __init__(self, app: Application) -> None:
        self.app, self.now = app, float(NOW)
        self.intake = make_intake(app)
        self.intake._clock = lambda: self.now

    def events(self) -> int:
        return sum(each.events for each in self.app.store.sessions())


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    app = make_app()
    yield Hooks(app)
    app.close()


@pytest.fixture(scope="module")
def server(hooks: Hooks) -> Iterator[Server]:
    hook_app = HandlerApp(hooks.intake, hooks.app)
    with Server(Starlette(routes=[Mount("/hooks", app=hook_app)])) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(hooks: Hooks) -> Iterator[Server]:
    """A server that waits 0.3 seconds for a body."""
    with Server(HandlerApp(hooks.intake, hooks.app, body_timeout=0.3)) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_stored_and_it_still_works(hooks: Hooks, server: Server) -> Iterator[None]:
    """After each attack: no event of it, and who is signed is served."""
    hooks.now = NOW
    for each in hooks.app.store.sessions():
        hooks.app.store.delete(each.uid)
    yield
    assert hooks.events() == 0
    assert server.post("/hooks/warehouse", BODY, HEADERS).status == 200
    assert hooks.events() == 1


# -- paths and methods ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/warehouse",
        "/hooks",
        "/hooks/",
        "/hooks/warehouse/",
        "/hooks//warehouse",
        "//hooks/warehouse",
        "/hooks/./warehouse",
        "/hooks/x/../warehouse",
        "/hooks/x/%2e%2e/warehouse",
        "/hooks/..%2fwarehouse",
        "/hooks%2fwarehouse",
        "/hooks/%2fwarehouse",
        "/hooks/%77arehouse",
        "/hooks/warehouse%00",
        "/hooks/warehouse%20",
        "/hooks/warehouse;x=1",
        "/hooks/Warehouse",
        "/hooks/warehouse%3f",
        "/hooks/%c0%afwarehouse",
        "/hooks/warehouse%ff",
    ],
)
def test_tricks_with_paths(server: Server, path: str) -> None:
    assert server.post(path, BODY, HEADERS).status in (404, 307)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_methods(server: Server, method: str) -> None:
    answer = server.post("/hooks/warehouse", BODY, HEADERS, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_method_within_a_header(server: Server) -> None:
    headers = {**HEADERS, "X-HTTP-Method-Override": "POST"}
    assert server.post("/hooks/warehouse", BODY, headers, method="GET").status == 405


# -- sizes ----------------------------------------------------------------------------------------


def test_a_length_that_is_too_long_is_refused_at_once(server: Server) -> None:
    head = head_of("/hooks/warehouse", {**HEADERS, "Content-Length": str(MAX_BODY + 1)})
    answer = server.send(head)  # and no byte of the body
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_a_body_without_a_length_is_cut_off(server: Server) -> None:
    head = head_of("/hooks/warehouse", {**HEADERS, "Transfer-Encoding": "chunked"})
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    answer = server.send(head + chunk * (MAX_BODY // 65_536 + 1))  # and it does not end
    assert answer is not None
    assert answer.status == 413


@pytest.mark.parametrize(
    "more",
    [
        b"Transfer-Encoding: chunked",
        b"Content-Length: 3",
        b"Content-Length : 3",
        b"Transfer-Encoding: identity",
    ],
)
def test_two_lengths_are_none(server: Server, more: bytes) -> None:
    """What a proxy may read in another way than the server does."""
    answer = server.send(request("/hooks/warehouse", BODY, HEADERS, more))
    assert answer is not None
    assert answer.status in (400, 501)


def test_odd_chunks(impatient: Server) -> None:
    head = head_of("/warehouse", {**HEADERS, "Transfer-Encoding": "chunked"})
    for chunks in (b"-1\r\n", b"0x5\r\n", b"zz\r\n", b"\r\n", b"5;" + b"x" * 100_000, b"F" * 30):
        answer = impatient.send(head + chunks)
        assert answer is None or answer.status in (400, 408)


def test_many_headers(server: Server) -> None:
    more = [b"X-%d: %b" % (each, b"x" * 90) for each in range(1_000)]
    answer = server.send(request("/hooks/warehouse", BODY, {}, *more))
    assert answer is None or answer.status in (400, 401, 431)


@pytest.mark.parametrize(
    "body",
    [b"[" * 900_000, b'{"a":' * 100_000, b"1" * 900_000, b'"' + b"\\" * 900_000],
    ids=["lists", "objects", "digits", "backslashes"],
)
def test_bodies_that_are_dear_to_read(server: Server, body: bytes) -> None:
    """Even from who knows the secret."""
    assert server.post("/hooks/warehouse", body, hmac_headers(body)).status == 400
    assert server.post("/hooks/warehouse", body, {"X-Signature": "0"}).status == 401


# -- slowness -------------------------------------------------------------------------------------


def test_a_body_that_does_not_come(impatient: Server) -> None:
    head = head_of("/warehouse", {**HEADERS, "Content-Length": "10"})
    answer = impatient.send(head + b"{")
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert b"0.3 s" in answer.body


def test_many_slow_ones_do_not_keep_others(impatient: Server) -> None:
    """The threads and the loop are free while bodies are awaited."""
    head = head_of("/warehouse", {**HEADERS, "Content-Length": "10"})
    with ExitStack() as stack:
        streams = [stack.enter_context(impatient.connection()) for _ in range(100)]
        for stream in streams:
            stream.sendall(head)
        forged = {"X-Signature": "0"}
        assert impatient.post("/warehouse", BODY, forged).status == 401
        answers = [read_answer(each) for each in streams]
    assert [each.status for each in answers if each] == [408] * 100


def test_who_leaves_in_the_middle(server: Server) -> None:
    for _ in range(20):
        with server.connection() as stream:
            stream.sendall(head_of("/hooks/warehouse", {**HEADERS, "Content-Length": "10"}))


# -- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sign"), [("stripe", stripe_headers), ("standard", standard_headers)]
)
def test_a_replay(server: Server, hooks: Hooks, path: str, sign: Any) -> None:
    body = as_json({**json.loads(payment()), "order": 1})
    headers = sign(body)
    answers = [server.post(f"/hooks/{path}", body, headers) for _ in range(2)]
    assert [each.status for each in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert hooks.events() == 1, "a replay at once is a repetition"
    hooks.now = NOW + 301
    assert server.post(f"/hooks/{path}", body, headers).status == 401
    [session] = hooks.app.store.sessions()
    hooks.app.store.delete(session.uid)
    assert server.post(f"/hooks/{path}", body, headers).status == 401, "in no session any more"


def test_a_signature_of_another_route(server: Server) -> None:
    for path in ("stripe", "standard", "github"):
        assert server.post(f"/hooks/{path}", BODY, HEADERS).status == 401


def test_headers_that_come_twice(server: Server) -> None:
    signature = HEADERS["X-Signature"].encode()
    for more in (b"X-Signature: " + signature, b"x-signature: 0", b"X-SIGNATURE:"):
        answer = server.send(request("/hooks/warehouse", BODY, HEADERS, more))
        assert answer is not None
        assert answer.status == 401
    twice = request("/hooks/warehouse", BODY, HEADERS, b"Content-Type: text/plain")
    answer = server.send(twice)
    assert answer is not None
    assert answer.status == 415


def test_underscores_are_no_hyphens(server: Server) -> None:
    assert (
        server.post("/hooks/warehouse", BODY, {"X_Signature": HEADERS["X-Signature"]}).status == 401
    )


# -- the rest -------------------------------------------------------------------------------------


def test_the_host_header_means_nothing(server: Server, hooks: Hooks) -> None:
    for host in ("evil.example", "", "a b", "x" * 2_000, "[::1"):
        answer = server.send(request("/hooks/warehouse", BODY, {**HEADERS, "Host": host}))
        assert answer is None or answer.status in (200, 400)
        if answer is not None:
            assert host not in answer.body.decode() or not host
    for each in hooks.app.store.sessions():
        hooks.app.store.delete(each.uid)


def test_what_is_sent_after_a_refusal_is_no_second_request(server: Server, hooks: Hooks) -> None:
    """The body of a refused request, sent on, must not be read as a request of its own."""
    inner = request("/hooks/warehouse", BODY, HEADERS)
    outer = request("/hooks/nothing", inner, {})
    with server.connection() as stream:
        stream.sendall(outer)
        answer = read_answer(stream)
        assert answer is not None
        assert answer.status == 404
        assert stream.recv(65_536) == b""


def test_who_is_answered_knows_nothing_of_the_others(server: Server) -> None:
    """Two thousand answers, and each is that of its own request."""
    wrong: list[object] = []

    def work(who: int) -> None:
        for each in range(50):
            body = as_json({"order": 1, "who": who, "n": each})
            answer = server.post("/hooks/warehouse", body, {"X-Signature": "0"})
            found = server.post(f"/hooks/none-{who}", body, {})
            if (answer.status, found.status) != (401, 404):
                wrong.append((answer, found))

    threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- too much at once, and too slow, on our side --------------------------------------------------


def test_more_at_once_than_can_be_answered() -> None:
    go, came = threading.Event(), threading.Semaphore(0)

    def waits(_: Request) -> Response:
        came.release()
        go.wait(60)
        return Response(204)

    app = make_app()
    with Server(HandlerApp(waits, app, at_once=2)) as server:
        with server.connection() as one, server.connection() as two:
            for stream in (one, two):
                stream.sendall(request("/", b"{}", {}))
                assert came.acquire(timeout=60)
            refused = server.post("/", b"{}", {})
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            go.set()
            for stream in (one, two):
                answer = read_answer(stream)
                assert answer is not None
                assert answer.status == 204
        assert server.post("/", b"{}", {}).status == 204
    app.close()


def test_a_store_that_takes_too_long_is_a_503_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, go = make_app(), threading.Event()
    intake, fire = make_intake(app), Intake._fire

    def slow(*arguments: Any) -> Response:
        go.wait(60)
        return fire(*arguments)

    monkeypatch.setattr(Intake, "_fire", slow)
    with Server(HandlerApp(intake, app, answer_within=0.3)) as server:
        answer = server.post("/warehouse", BODY, HEADERS)
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        go.set()
        while server.post("/warehouse", BODY, HEADERS).status != 200:
            pass  # as a sender does; a busy machine may take longer than that
    assert sum(each.events for each in app.store.sessions()) == 1
    app.close()
