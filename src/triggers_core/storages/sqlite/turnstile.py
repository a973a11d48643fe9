"""A fair lock between the processes of one machine, for SQLite's writers.

SQLite's busy handler lets a waiting process sleep and try again, so one that commits in a loop
starves the others (measured: the slowest of four got nothing for three seconds). Two locks on a
file next to the database make a queue: take NEXT, take MAIN, release NEXT. Only one process tries
for MAIN, and nobody who comes later can be faster; a killed process drops its locks.

They are open-file-description locks where there are any (Linux): they belong to the handle, so that
a process may open many of them, and the kernel sees no deadlock where threads of one process wait
for different files. Elsewhere byte locks of the process, which are tried for and never waited for,
do the same, only less fairly between two handles of one process.
"""

from __future__ import annotations

import io
import os
import random
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

try:
    import fcntl
except ImportError:  # no byte locks (Windows): jitter keeps writers apart, less fairly
    fcntl = None  # type: ignore[assignment]

_NEXT, _MAIN = 0, 1
_JITTER: Final = 0.002  # seconds; a commit takes a tenth of that
_SHORTEST, _LONGEST = 0.00002, 0.002  # seconds between two tries
_TAKEN: Final = (BlockingIOError, PermissionError)  # POSIX allows either
_FLOCK: Final = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, pid


class TurnstileBusy(TimeoutError):
    """The turn did not come in time; `holder` is the pid of who has it, 0 when nobody knows."""

    def __init__(self, holder: int) -> None:
        super().__init__(f"process {holder or '(unknown)'} has been writing all the while")
        self.holder = holder


class _Handle(io.FileIO):
    """Closed with its last reference, without a warning.

    An exception may have come before it was kept, and a store that nobody uses any more need not be
    closed.
    """

    def __del__(self) -> None:
        self.close()


class Turnstile:
    """One handle of the lock. Threads that share it must come one at a time."""

    leave: Callable[[], Any]
    """Give up the turn, and the place in the queue: both, or what is had of them. A function in C:
    an exception out of a signal handler cannot come before it has had its effect, so that it may
    stand first in a `finally` whose `try` holds `enter`."""

    def __init__(self, path: str, like: str) -> None:
        """Open it.

        :param path: a file that exists only for this; created when missing.
        :param like: the file whose mode and owner a new one gets: who may write to the database
            may stand in line for it.
        """
        self._file: io.FileIO | None = None
        self.leave = _nothing
        if fcntl is None:
            return
        try:
            self._file = _Handle(path, "r+", opener=partial(_open, like=like))
        except PermissionError:
            # Somebody else's, as an earlier version or another umask left it. The queue is for
            # fairness alone; SQLite's own locks keep writers apart.
            return
        number = self._file.fileno()
        # Who has MAIN can be told by the length of the lock: the kernel names no process.
        length = os.getpid()
        self.leave = _unlocking(number, 0, 0)
        self._leave_next = _unlocking(number, _NEXT, 1)
        # NEXT and MAIN lie side by side: when nobody is there, one step takes both.
        self._take_both = _locking(number, _NEXT, 1 + length)
        self._take = (_locking(number, _NEXT, 1), _locking(number, _MAIN, length))

    def enter(self, patience: float) -> None:
        """Wait in line.

        :param patience: seconds until it is given up.
        :raises TurnstileBusy: the turn has not come.
        """
        if self._file is None:
            time.sleep(random.random() * _JITTER)
            return
        try:
            self._take_both()
        except _TAKEN:
            self._wait(time.monotonic() + patience)
        self._leave_next()

    def _wait(self, until: float) -> None:
        for take in self._take:
            began = time.monotonic()
            while True:
                try:
                    take()
                    break
                except _TAKEN:
                    pass
                now = time.monotonic()
                if now > until:
                    assert self._file is not None
                    raise TurnstileBusy(_holder(self._file.fileno()))
                # Short at first: a commit takes a tenth of a millisecond.
                time.sleep(min(_SHORTEST + (now - began) / 50, _LONGEST))

    def close(self) -> None:
        """Drop the locks and the file handle."""
        if self._file is not None:
            self._file.close()


def _nothing() -> None:
    """There is no lock."""


def _open(path: str, flags: int, like: str) -> int:
    try:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        pass
    model = os.stat(like)
    flags |= os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    number = os.open(path, flags, model.st_mode & 0o666)
    try:
        if os.fstat(number).st_uid == os.geteuid():
            if os.geteuid() == 0:
                os.fchown(number, model.st_uid, model.st_gid)
            os.fchmod(number, model.st_mode & 0o666)  # whatever the umask says
    except OSError:
        pass  # a file system without modes
    return number


if hasattr(fcntl, "F_OFD_SETLK"):

    def _flock(kind: int, start: int, length: int) -> bytes:
        return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)

    def _locking(number: int, start: int, length: int) -> Callable[[], Any]:
        lock = _flock(fcntl.F_WRLCK, start, length)
        return partial(fcntl.fcntl, number, fcntl.F_OFD_SETLK, lock)

    def _unlocking(number: int, start: int, length: int) -> Callable[[], Any]:
        lock = _flock(fcntl.F_UNLCK, start, length)
        return partial(fcntl.fcntl, number, fcntl.F_OFD_SETLK, lock)

    def _holder(number: int) -> int:
        asked = _flock(fcntl.F_WRLCK, _MAIN, 1)
        found = struct.unpack(_FLOCK, fcntl.fcntl(number, fcntl.F_OFD_GETLK, asked))
        kind, _, start, length, pid = found
        if kind == fcntl.F_UNLCK:
            return 0
        return pid if pid > 0 else length if start == _MAIN else 0

else:

    def _locking(number: int, start: int, length: int) -> Callable[[], Any]:
        return partial(fcntl.lockf, number, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)

    def _unlocking(number: int, start: int, length: int) -> Callable[[], Any]:
        return partial(fcntl.lockf, number, fcntl.LOCK_UN, length, start)

    def _holder(number: int) -> int:
        return 0
