"""Telling the sweeps of other processes of what falls due soon, by NOTIFY, and hearing of it.

An optimisation that may fail: sweeps look every few seconds, whatever they hear.

PostgreSQL lets transactions that notify commit one after the other, over all databases. So what a
sweep would find in time by itself is not told of, nor is what falls due after something that has
been told of: whoever heard of that looks then, and sees what comes next.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from triggers_postgres.listening import Connect, Listener, start_listening

_CHECK: Final = 60.0  # seconds without a word after which the connection is tried
_END_WAIT: Final = 1.0  # seconds that the thread gets to end; it may be about to connect

Callback = Callable[[], None]


class Told:
    """What this process has told others of."""

    def __init__(self) -> None:
        self._until = 0.0

    def knows(self, at: float, now: float) -> bool:
        """Whether everybody who heard will look by then; in seconds since 1970."""
        return now < self._until <= at

    def note(self, at: float) -> None:
        """A transaction that has told of this moment is committed."""
        self._until = at


class DueWatch:
    """Hears what other processes tell, in a thread, while anybody wants to know.

    :param connect: opens a connection for LISTEN, outside of any pool; None: nothing is heard.
    :param channel: what they notify.
    """

    def __init__(self, connect: Connect | None, channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._begin()
        _live.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[Callback, None] = {}
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def listening(self) -> bool:
        """Whether a NOTIFY would most likely be heard."""
        listener = self._listener
        return listener is not None and listener.listening

    def add(self, callback: Callback) -> None:
        """Call back from now on, once others have told something, and once it begins to listen."""
        if self._connect is None or (callback in self._callbacks and self._listener is not None):
            return
        with self._lock:
            self._callbacks[callback] = None
            if self._listener is None:
                self._start()

    def remove(self, callback: Callback) -> None:
        """Do not call back any more; the last one ends thread and connection."""
        with self._lock:
            self._callbacks.pop(callback, None)
            thread = None if self._callbacks else self._ended()
        _join(thread)

    def close(self) -> None:
        """End thread and connection; `add` begins anew."""
        with self._lock:
            self._callbacks.clear()
            thread = self._ended()
        _join(thread)

    def _ended(self) -> threading.Thread | None:
        """Have the thread end. Holds the lock."""
        listener, self._listener = self._listener, None
        thread, self._thread = self._thread, None
        if listener is not None:
            listener.wake()
        return thread

    def _start(self) -> None:
        listener = Listener(self._connect, self._channel)
        thread = start_listening(listener, self._run, "triggers-postgres-due")
        self._listener, self._thread = listener, thread

    def _run(self, listener: Listener) -> None:
        known = (0, 0)
        try:
            while self._wanted(listener):
                listener.listen()
                if known == (listener.connections, listener.notified):
                    pause = listener.next_try
                    if not listener.wait(_CHECK if pause is None else pause):
                        listener.check()
                heard = (listener.connections, listener.notified)
                if heard != known:
                    known = heard
                    for callback in list(self._callbacks):
                        callback()
        finally:
            with self._lock:
                if self._listener is listener:
                    self._listener = None
                listener.close()

    def _wanted(self, listener: Listener) -> bool:
        with self._lock:
            return self._listener is listener

    def _begin_anew_in_child(self) -> None:
        # Thread and connection are the parent's; that must not be closed here.
        _of_the_parent.append(self._listener)
        self._begin()


def _join(thread: threading.Thread | None) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join(_END_WAIT)


_live: WeakSet[DueWatch] = WeakSet()
_of_the_parent: list[Any] = []


def _begin_anew_in_child() -> None:
    for watch in list(_live):
        watch._begin_anew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)

__all__ = ["DueWatch", "Told"]
