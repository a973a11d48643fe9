"""RESP2, as far as it is needed here, in few steps.

Redis-py's own packing and parsing do much more for any type and protocol, and take three times as
long as the server takes to answer.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

_SIZE: Final = 65_536  # bytes to receive at once


def packed(arguments: Iterable[bytes]) -> bytes:
    """Arguments in RESP: each as its length and its bytes."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments])


def command(*arguments: bytes) -> bytes:
    """A whole command in RESP."""
    return b"*%d\r\n%b" % (len(arguments), packed(arguments))


class ServerError(Exception):
    """An error that the server answered; its first word is the `code`."""

    @property
    def code(self) -> str:
        """For example ``NOSCRIPT``."""
        return str(self).partition(" ")[0]


class Wire:
    """Requests and replies on one connection.

    :param sock: connected, logged in, with nothing left to read; timeouts are as it has them.
    """

    __slots__ = ("_at", "_data", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._data, self._at = sock, b"", 0

    def ask(self, request: bytes) -> Any:
        """Send one command and return its reply.

        :raises ServerError: the server refused.
        :raises OSError: the connection broke or timed out; it must not be used again.
        """
        self._sock.sendall(request)
        data = self._sock.recv(_SIZE)
        if data[:1] == b"$" and data[-2:] == b"\r\n":  # a text that came in one piece
            end = data.index(b"\r\n")
            if int(data[1:end]) == len(data) - end - 4:
                return data[end + 2 : -2]
        if not data:
            raise ConnectionError("the server closed the connection")
        self._data, self._at = data, 0
        return self._reply()

    def ask_all(self, requests: bytes, count: int) -> list[Any]:
        """Send several commands and return their replies; all are read before any error is raised.

        :raises ServerError, OSError: as `ask`.
        """
        self._sock.sendall(requests)
        self._data, self._at = b"", 0
        replies: list[Any] = []
        problem: ServerError | None = None
        for _ in range(count):
            try:
                replies.append(self._reply())
            except ServerError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return replies

    def _reply(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self._text(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ServerError(rest.decode("utf-8", "replace"))
        raise ConnectionError(f"the server answered {line[:40]!r}, which is not RESP2")

    def _line(self) -> bytes:
        while (end := self._data.find(b"\r\n", self._at)) < 0:
            self._receive(1)
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def _text(self, size: int) -> bytes:
        end = self._at + size
        if len(self._data) < end + 2:
            self._receive(end + 2 - len(self._data))
            end = size
        text = self._data[self._at : end]
        self._at = end + 2
        return text

    def _receive(self, least: int) -> None:
        """Receive so many bytes or more, behind those that are still to be read."""
        pieces = [self._data[self._at :]]
        while least > 0:
            data = self._sock.recv(_SIZE)
            if not data:
                raise ConnectionError("the server closed the connection")
            pieces.append(data)
            least -= len(data)
        self._data, self._at = b"".join(pieces), 0
