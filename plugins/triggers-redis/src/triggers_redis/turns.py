"""Turns: the threads of a process change one session one after the other, first come, first served.

Threads that raced on the server would lose against each other; here they wait for nothing but the
one before them. That is all that turns are for: what is written is right without them, for the
server compares. So a turn that was lost, because its thread was interrupted or has died, costs one
other thread a moment, and nothing ever waits for ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import Final

LONGEST: Final = 1.0
"""Seconds for which a thread waits for one other; a change takes a few milliseconds. Then the other
has lost its turn, or its server is out of reach, which the next may as well see for itself."""


class Turn:
    """A thread's place in the line; `leave` it any number of times."""

    __slots__ = ("_line", "_lines", "_name", "_ready", "_thread")

    def __init__(self, lines: dict[str, deque[Turn]], name: str) -> None:
        self._lines, self._name = lines, name
        self._line: deque[Turn] | None = None
        self._ready: threading.Lock | None = None
        self._thread = get_ident()

    # An exception may come out of a signal handler between any two steps. Each step here is one
    # operation of a built-in type, and what lies between two of them is a state that waits, at
    # worst, until `LONGEST` has passed.

    def enter(self) -> None:
        """Wait for this thread's turn; a thread that has it already goes on."""
        self._line = line = self._lines.setdefault(self._name, deque())
        line.append(self)
        while (first := _first(line)) is not self and first is not None:
            if first._thread != self._thread and self._waits_for(first, line):
                continue
            _remove(line, first)  # it is lost, or this very thread's
            following = _first(line)
            if following is not None:
                following._wake()

    def _waits_for(self, first: Turn, line: deque[Turn]) -> bool:
        """Wait until another is first; False when that takes too long."""
        ready = threading.Lock()
        ready.acquire()
        self._ready = ready  # and only then look again: who leaves now wakes this one
        until = time.monotonic() + LONGEST
        while _first(line) is first:
            left = until - time.monotonic()
            if left <= 0:
                return False
            ready.acquire(timeout=left)
        return True

    @property
    def wanted(self) -> bool:
        """Whether another thread waits."""
        return self._line is not None and len(self._line) > 1

    def leave(self) -> None:
        """Let the next thread go on."""
        line = self._line
        if line is None:  # interrupted before it knew its line, which it may have made
            line = self._lines.get(self._name)
            if line is None:
                return
        _remove(line, self)
        if not line and self._lines.get(self._name) is line:
            # Somebody may just be entering this very line, and then be alone in it: no harm.
            self._lines.pop(self._name, None)
        following = _first(line)
        if following is not None:
            following._wake()

    def _wake(self) -> None:
        ready = self._ready
        if ready is not None and ready.locked():
            with suppress(RuntimeError):  # somebody else has just done it
                ready.release()


class Turns:
    """A line for each name.

    Example::

        turn = turns.turn("order:1")
        try:
            turn.enter()
            change()
        finally:
            turn.leave()
    """

    def __init__(self) -> None:
        self._turns: dict[str, deque[Turn]] = {}

    def turn(self, name: str) -> Turn:
        """A place in a line, not yet taken."""
        return Turn(self._turns, name)


def _first(line: deque[Turn]) -> Turn | None:
    try:
        return line[0]
    except IndexError:
        return None


def _remove(line: deque[Turn], turn: Turn) -> None:
    try:  # noqa: SIM105 -- on every change
        line.remove(turn)
    except ValueError:
        pass  # out of it already
