"""Turns: the threads of a process change one session one after the other, first come, first served.

Threads that raced on the server would lose against each other; here they wait for nothing but the
one before them, and get what it left the session like.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class _Waiter(Generic[T]):
    __slots__ = ("left", "ready", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.ready = threading.Lock()
        self.ready.acquire()
        self.left: T | None = None


class _Turn(Generic[T]):
    __slots__ = ("depth", "thread", "waiters")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.depth = 0
        self.waiters: deque[_Waiter[T]] = deque()


class Turns(Generic[T]):
    """A queue for each name. What a thread leaves behind goes to the next one in the queue.

    Example::

        left = turns.enter("order:1")
        try:
            left = change(left)
        finally:
            turns.leave("order:1", left)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn[T]] = {}

    def enter(self, name: str) -> T | None:
        """Wait for this thread's turn; a thread that has it already goes on.

        :returns: what the thread before left, if this one had to wait.
        """
        with self._lock:
            turn = self._turns.get(name)
            if turn is None:
                self._turns[name] = _Turn()
                return None
            if turn.thread == threading.get_ident():
                turn.depth += 1
                return None
            waiter: _Waiter[T] = _Waiter()
            turn.waiters.append(waiter)
        try:
            waiter.ready.acquire()
        except BaseException:  # interrupted: nobody must wait for this thread
            with self._lock:
                still_waits = waiter in turn.waiters
                if still_waits:
                    turn.waiters.remove(waiter)
            if not still_waits:
                self.leave(name, waiter.left)
            raise
        return waiter.left

    def wanted(self, name: str) -> bool:
        """Whether a thread waits for the turn that this thread has."""
        return bool(self._turns[name].waiters)

    def leave(self, name: str, left: T | None) -> None:
        """Give the turn to the next thread.

        :param left: what it gets.
        """
        with self._lock:
            turn = self._turns[name]
            if turn.depth:
                turn.depth -= 1
                return
            if not turn.waiters:
                del self._turns[name]
                return
            waiter = turn.waiters.popleft()
            turn.thread = waiter.thread
        waiter.left = left
        waiter.ready.release()
