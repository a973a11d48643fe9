"""Fair locks, one for each session, between the threads of a process: first come, first served.

Threads that raced on the server would lose against each other; here they wait for nothing but the
one before them. That is all that the locks are for: what is written is right without them, for the
server compares. So a lock that is never released, because its thread was interrupted or has died,
costs one other thread a moment, and nothing ever waits for ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import Final

TIMEOUT: Final = 1.0
"""Seconds for which a thread waits for one other; a change takes a few milliseconds. Then the other
has lost the lock, or its server is out of reach, which the next may as well see for itself."""


class SessionLock:
    """A thread's place in the queue for a session; `release` it any number of times."""

    __slots__ = ("_name", "_queue", "_queues", "_ready", "_thread")

    def __init__(self, queues: dict[str, deque[SessionLock]], name: str) -> None:
        self._queues, self._name = queues, name
        self._queue: deque[SessionLock] | None = None
        self._ready: threading.Lock | None = None
        self._thread = get_ident()

    # An exception may come out of a signal handler between any two steps. Each step here is one
    # operation of a built-in type, and what lies between two of them is a state that waits, at
    # worst, until `TIMEOUT` has passed.

    def acquire(self) -> None:
        """Wait until this thread is first; one that has the lock already goes on."""
        self._queue = queue = self._queues.setdefault(self._name, deque())
        queue.append(self)
        while (first := _first(queue)) is not self and first is not None:
            if first._thread != self._thread and self._waits_for(first, queue):
                continue
            _remove(queue, first)  # it is lost, or this very thread's
            following = _first(queue)
            if following is not None:
                following._wake()

    def _waits_for(self, first: SessionLock, queue: deque[SessionLock]) -> bool:
        """Wait until another is first; False when that takes too long."""
        ready = threading.Lock()
        ready.acquire()
        self._ready = ready  # and only then look again: who releases now wakes this one
        until = time.monotonic() + TIMEOUT
        while _first(queue) is first:
            left = until - time.monotonic()
            if left <= 0:
                return False
            ready.acquire(timeout=left)
        return True

    @property
    def contended(self) -> bool:
        """Whether another thread waits."""
        return self._queue is not None and len(self._queue) > 1

    def release(self) -> None:
        """Let the next thread go on."""
        queue = self._queue
        if queue is None:  # interrupted before it knew its queue, which it may have made
            queue = self._queues.get(self._name)
            if queue is None:
                return
        _remove(queue, self)
        if not queue and self._queues.get(self._name) is queue:
            # Somebody may just be entering this very queue, and then be alone in it: no harm.
            self._queues.pop(self._name, None)
        following = _first(queue)
        if following is not None:
            following._wake()

    def _wake(self) -> None:
        ready = self._ready
        if ready is not None and ready.locked():
            with suppress(RuntimeError):  # somebody else has just done it
                ready.release()


class SessionLocks:
    """A queue for each session.

    Example::

        lock = locks.lock("order:1")
        try:
            lock.acquire()
            change()
        finally:
            lock.release()
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[SessionLock]] = {}

    def lock(self, name: str) -> SessionLock:
        """The lock of a session, not yet acquired."""
        return SessionLock(self._queues, name)


def _first(queue: deque[SessionLock]) -> SessionLock | None:
    try:
        return queue[0]
    except IndexError:
        return None


def _remove(queue: deque[SessionLock], lock: SessionLock) -> None:
    try:  # noqa: SIM105 -- on every change
        queue.remove(lock)
    except ValueError:
        pass  # out of it already
