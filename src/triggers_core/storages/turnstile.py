"""A fair lock between the processes of one machine, for SQLite's writers.

SQLite's busy handler lets a waiting process sleep and try again, so one that commits in a loop
starves the others (measured: the slowest of four got nothing for three seconds). Two byte locks on
a file next to the database make a queue: take NEXT, take MAIN, release NEXT. Only one process waits
for MAIN, and the kernel hands it over when the holder leaves; a killed process drops its locks.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

try:
    import fcntl
except ImportError:  # no byte locks (Windows): jitter keeps writers apart, less fairly
    fcntl = None  # type: ignore[assignment]

_NEXT, _MAIN = 0, 1
_JITTER = 0.002  # seconds; a commit takes a tenth of that


class Turnstile:
    """One process's end of the lock.

    Threads must come one at a time (POSIX locks are the process's), and a process may open a file's
    turnstile only once: closing any handle drops all.
    """

    def __init__(self, path: str) -> None:
        """:param path: a file that exists only for this; created when missing."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)

    def enter(self) -> None:
        """Wait in line."""
        if fcntl is None:
            time.sleep(random.random() * _JITTER)
            return
        lock, file = fcntl.lockf, self._file
        lock(file, fcntl.LOCK_EX, 1, _NEXT)
        try:
            lock(file, fcntl.LOCK_EX, 1, _MAIN)
        finally:
            lock(file, fcntl.LOCK_UN, 1, _NEXT)

    def leave(self) -> None:
        """Let the next one in."""
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _MAIN)

    def close(self) -> None:
        """Drop the locks and the file handle."""
        os.close(self._file)

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *exc_info: Any) -> None:
        self.leave()
