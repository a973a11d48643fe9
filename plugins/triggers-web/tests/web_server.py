"""A real server on a loopback port, and requests as bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import h11
import uvicorn

PATIENCE = 240.0  # seconds until a server that hangs fails a test


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """uvicorn in a thread, with an ASGI application."""

    def __init__(self, app: Any, **options: Any) -> None:
        given = {"lifespan": "off", "log_config": None, "access_log": False, **options}
        config = uvicorn.Config(app, host="127.0.0.1", port=0, http="h11", **given)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        end = time.monotonic() + PATIENCE
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.01)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server does not stop"

    def send(self, data: bytes) -> Answer | None:
        """Send bytes as they are; the answer, or None when the connection ends without one."""
        with self.connection() as stream:
            with suppress(OSError):  # it may answer before it has all of it
                stream.sendall(data)
            return read_answer(stream)

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST"
    ) -> Answer:
        """Send a request as senders do."""
        answer = self.send(request(path, body, headers, method=method))
        assert answer is not None
        return answer

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A connection to it."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as stream:
            yield stream


def request(
    path: str, body: bytes, headers: Mapping[str, str], *more: bytes, method: str = "POST"
) -> bytes:
    """A request with a length."""
    head = head_of(path, {**headers, "Content-Length": str(len(body))}, *more, method=method)
    return head + body


def head_of(path: str, headers: Mapping[str, str], *more: bytes, method: str = "POST") -> bytes:
    """The head of a request: line and headers."""
    known = {"Host": "hooks.example", "Content-Type": "application/json", **headers}
    lines = [f"{method} {path} HTTP/1.1".encode()]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in known.items()]
    return b"\r\n".join([*lines, *more, b"", b""])


def read_answer(stream: socket.socket) -> Answer | None:
    """One response, or None when the connection ends before it."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            try:
                data = stream.recv(65_536)
            except ConnectionResetError:
                return None if head is None else _answer(head, body)
            if not data and head is None:
                return None
            parser.receive_data(data)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _answer(head, body)


def _answer(head: h11.Response, body: bytes) -> Answer:
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return Answer(head.status_code, headers, body)
