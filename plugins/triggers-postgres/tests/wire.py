"""A wire between an application and PostgreSQL, which is cut at a chosen message."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit, urlunsplit

Look = Callable[[str, bytes], bool]
"""Gets who connected (its application_name) and a message; whether the wire is to be cut here."""


class Wire:
    """Hands on what is sent, message by message, to the server of `url` and back.

    :param url: where the server is; the wire's own address is `self.url`.

    `before` and `after` are asked about each message of the application's; where one answers True,
    both ends are closed, before the message is handed on or after it, and what is on its way is
    lost: the answer, too.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        user = f"{parts.username or 'postgres'}:{parts.password or ''}".rstrip(":")
        plain = "sslmode=disable&gssencmode=disable"
        self.url: str = urlunsplit(
            ("postgresql", f"{user}@127.0.0.1:{port}", parts.path, plain, "")
        )
        self.before: Look = lambda name, message: False
        self.after: Look = lambda name, message: False
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listening]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in self._sockets:
            cut(each)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                deaf = threading.Event()
                self._start(self._back, server, client, deaf)
                self._start(self._forth, client, server, deaf)

    def _back(self, server: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not deaf.is_set():
                client.sendall(data)
        cut(client)

    def _forth(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError, EOFError), client.makefile("rb") as stream:
            message = startup(stream)
            fields = message[8:].split(b"\0")
            given = dict(zip(fields[::2], fields[1::2], strict=False))
            name = given.get(b"application_name", b"").decode()
            while not self.before(name, message):
                if self.after(name, message):
                    deaf.set()
                server.sendall(message)
                if deaf.is_set():
                    break
                message = following(stream)
        cut(client)
        cut(server)


def startup(stream: IO[bytes]) -> bytes:
    """The first message, which has no type."""
    length = exactly(stream, 4)
    return length + exactly(stream, int.from_bytes(length, "big") - 4)


def following(stream: IO[bytes]) -> bytes:
    """Another message: its type, its length, and what is in it."""
    head = exactly(stream, 5)
    return head + exactly(stream, int.from_bytes(head[1:], "big") - 4)


def exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes; EOFError if there are no more."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def cut(end: socket.socket) -> None:
    """Close one end, whoever waits for it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Killer:
    """Kills the process that sends the n-th message, before that reaches the server."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.reached: list[bytes] = []
        """What the process has sent, up to that message."""

    def __call__(self, name: str, message: bytes) -> bool:
        if not name.startswith("crash-"):
            return False
        self.reached.append(message)
        if len(self.reached) != self.at:
            return False
        os.kill(int(name.removeprefix("crash-")), signal.SIGKILL)
        return True
