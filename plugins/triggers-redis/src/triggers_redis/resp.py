"""RESP2, as far as it is needed here, in few steps.

Redis-py's own packing and parsing do much more for any type and protocol, and take three times as
long as the server takes to answer.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Iterable
from contextlib import suppress
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


def _close(sock: socket.socket, pid: int) -> None:
    if pid == os.getpid():  # else a fork copied it, and the parent goes on using it
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class Wire:
    """Requests and replies on one connection, which it owns.

    It is `dirty` from before the first byte of a request until the whole reply has been read. An
    exception may come out of a signal handler at any moment; what it left dirty must not be used
    again, for the next request would read the reply to the last one.

    :param sock: connected, logged in, with nothing left to read; timeouts are as it has them.
    """

    __slots__ = ("__weakref__", "_at", "_closer", "_data", "_sock", "dirty")

    def __init__(self, sock: socket.socket) -> None:
        self.dirty = False
        self._data, self._at = b"", 0
        self._sock = sock
        # When a thread has ended, or its store has let go of it. No `__del__`: in a cycle of
        # garbage the socket's own comes first, perhaps, and complains.
        self._closer = weakref.finalize(self, _close, sock, os.getpid())
        self._closer.atexit = False

    def ask(self, request: bytes) -> Any:
        """Send one command and return its reply.

        :raises ServerError: the server refused.
        :raises OSError: the connection broke or timed out; it must not be used again.
        """
        self.dirty = True
        self._sock.sendall(request)
        data = self._sock.recv(_SIZE)
        if data[:1] == b"$" and data[-2:] == b"\r\n":  # a text that came in one piece
            end = data.index(b"\r\n")
            if int(data[1:end]) == len(data) - end - 4:
                self.dirty = False
                return data[end + 2 : -2]
        if not data:
            raise ConnectionError("the server closed the connection")
        self._data, self._at = data, 0
        reply = self._reply()
        self._check()
        if type(reply) is not ServerError:
            return reply
        try:
            raise reply
        finally:
            del reply  # it knows this frame, and this frame the connection

    def ask_all(self, requests: bytes, count: int) -> list[Any]:
        """Send several commands and return their replies; all are read before any error is raised.

        :raises ServerError, OSError: as `ask`.
        """
        self.dirty = True
        self._sock.sendall(requests)
        self._data, self._at = b"", 0
        replies = [self._reply() for _ in range(count)]
        self._check()
        for reply in replies:
            if type(reply) is ServerError:
                try:
                    raise reply
                finally:
                    del reply, replies
        return replies

    def close(self) -> None:
        """Close the connection; a request that is under way on it fails with an OSError."""
        self.dirty = True
        self._closer()

    def _check(self) -> None:
        """Nothing must be left when the last reply has been read."""
        if self._at != len(self._data):
            raise ConnectionError("the server answered more than it was asked")
        self.dirty = False

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
            return ServerError(rest.decode("utf-8", "replace"))
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
