"""Waiting for a NOTIFY of another connection, a wake-up, or a while.

NOTIFY is an optimisation that may fail: behind pgbouncer in transaction mode LISTEN is accepted and
nothing ever comes; a connection may be lost. Whoever waits here looks again after a while anyway.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import sql

from triggers_postgres.errors import uncover

logger: logging.Logger = logging.getLogger(__name__)

_RECONNECT: Final = 1.0  # seconds after which another connection is tried for, at first
_RECONNECT_AT_MOST: Final = 60.0

Connect = Callable[[], psycopg.Connection[Any]]


class Listener:
    """One connection with LISTEN, and a way to be woken from another thread. Used in one thread.

    :param connect: opens the connection, outside of any pool; None: nothing is to be heard.
    :param channel: the channel to listen on.
    """

    def __init__(self, connect: Connect | None, channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._connection: psycopg.Connection[Any] | None = None
        self._next_try = 0.0
        self._pause = _RECONNECT
        self.connections: int = 0
        """How many connections it has had. Before each, something may have been missed."""
        self.notified: int = 0
        """How often it was notified, or may have been."""
        self._awake, self._waker = socket.socketpair()
        for each in (self._awake, self._waker):
            each.setblocking(False)

    @property
    def listening(self) -> bool:
        """Whether a NOTIFY would most likely be heard."""
        return self._connection is not None

    @property
    def next_try(self) -> float | None:
        """Seconds until another connection is tried for; None while there is one."""
        return None if self.listening else max(0.0, self._next_try - time.monotonic())

    def wake(self) -> None:
        """End the wait, now or the next one. From any thread."""
        with suppress(OSError):  # full: it will wake as it is; closed: nobody waits
            self._waker.send(b"w")

    def wait(self, seconds: float) -> bool:
        """Return when notified or woken (True), at the latest after so many seconds (False)."""
        self.listen()
        sockets: list[Any] = [self._awake]
        if self._connection is not None:
            sockets.append(self._connection)
        try:
            readable, _, _ = select.select(sockets, [], [], seconds)
        except (OSError, ValueError, psycopg.Error):  # the connection is gone, or its number is
            self._lose()  # beyond what select can do
            readable, _, _ = select.select([self._awake], [], [], seconds)
        if self._awake in readable:
            with suppress(OSError):
                self._awake.recv(4096)
        if self._connection is not None and self._connection in readable:
            try:
                for _ in self._connection.notifies(timeout=0):
                    self.notified += 1
            except psycopg.Error:
                self._lose()
        return bool(readable)

    def listen(self) -> None:
        """Have a connection, if there is none, and one can be had, and it is time to try."""
        if self.listening or self._connect is None or time.monotonic() < self._next_try:
            return
        connection = None
        try:
            connection = self._connect()
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        except psycopg.Error as error:
            logger.debug("LISTEN is not possible now: %s", error)
            if connection is not None:
                connection.close()
            self._pause = min(2 * self._pause, _RECONNECT_AT_MOST)
        else:
            self._connection, self._pause = connection, _RECONNECT
            self.connections += 1
        self._next_try = time.monotonic() + self._pause * random.uniform(0.5, 1.0)

    def check(self) -> None:
        """Use the connection, so that nobody on the way takes it for abandoned; notice its end."""
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
                self.notified += 1  # what comes along with the answer, psycopg may keep to itself
            except psycopg.Error:
                self._lose()

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Let go of the connection and the sockets."""
        self._lose()
        self._awake.close()
        self._waker.close()


__all__ = ["Connect", "Listener"]


def start_listening(
    listener: Listener, run: Callable[[Listener], None], name: str
) -> threading.Thread:
    """Start the thread that a listener is used in; what cannot be started leaves nothing open."""
    thread = threading.Thread(target=run, args=(listener,), name=name, daemon=True)
    handled = sys.exception()
    try:
        thread.start()
    except BaseException as error:
        listener.close()
        uncover(error, handled)
        raise
    return thread
