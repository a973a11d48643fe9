"""A pool of connections: all SQLite files of this process, how many are open, and forks."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any, Final, Protocol


class File(Protocol):
    """What is asked of each file (`SqliteFile`)."""

    path: str
    opened: Any
    """Its connection, or None."""
    used: float
    mutex: threading.RLock

    def drop(self) -> None:
        """Close the connection; the next use opens another."""

    def forget(self) -> None:
        """Begin anew, in the child of a fork."""


def disinherit(file: File, parent: int) -> None:
    """Keep what the parent has open, unused, and let the file begin anew."""
    if file.opened is not None:  # in use by the thread that forked
        file.opened.disown(parent)
        inherited.append(file.opened)
    file.forget()


logger: logging.Logger = logging.getLogger(__name__)

_HANDLES: Final = 4  # a file has: the database, -wal, -shm, -turnstile
_HANDLES_FRACTION: Final = 3  # one in so many of the process's handles is for SQLite files
_MOST, _FEWEST = 1000, 8

inherited: list[object] = []
"""Connections of a parent process, which a child must neither use nor close."""

files: dict[int, weakref.ref[File]] = {}
"""Every one there is. Its values are copied in one step: no lock guards it."""

lock: threading.RLock = threading.RLock()
"""Held while a file is opened, and all through a fork: none comes into being in the middle of one.
Who has it waits for no file's mutex."""


gate: threading.Event = threading.Event()
"""Closed while a thread is about to fork: the others would come to one file after the other, and it
would have to wait for all of them."""
gate.set()


def every_file() -> list[File]:
    """Those that are in use now."""
    return [file for file in (each() for each in list(files.values())) if file is not None]


def most_open() -> int:
    """How many files may be open at once, by the limit of the process on its handles."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError, ValueError):
        soft = 512
    if soft < 0:
        return _MOST
    return max(_FEWEST, min(_MOST, soft // _HANDLES_FRACTION // _HANDLES))


def make_room(file: File) -> None:
    """Close those that were not used for the longest time, so that one more can be opened.

    They are opened again by their next use; one that a thread is in stays open.
    """
    if len(files) <= most_open():
        return
    idle = [each for each in every_file() if each is not file and each.opened is not None]
    excess = len(idle) + 1 - most_open()
    if excess <= 0:
        return
    for each in sorted(idle, key=lambda each: each.used):
        mutex = each.mutex
        if mutex._is_owned():  # type: ignore[attr-defined]
            continue  # this thread is in it
        try:
            if mutex.acquire(False):
                each.drop()
                excess -= 1
        except Exception as error:
            logger.warning("the SQLite file %s could not be closed: %s", each.path, error)
        finally:
            try:  # noqa: SIM105 - the release must be the very next call
                mutex.release()
            except RuntimeError:
                pass
        if excess <= 0:
            return


_paused: list[tuple[File, threading.RLock]] = []


def _before_fork() -> None:
    """Finish what threads are doing with the files, close them, and keep everybody out.

    SQLite keeps the locks of all connections of a process in one place, which a fork copies: a
    child would believe that it holds what its parent holds. So no connection crosses a fork.
    """
    gate.clear()
    seen: set[int] = set()
    while True:
        for file in every_file():
            if id(file) not in seen:
                seen.add(id(file))
                mutex = file.mutex
                inside = mutex._is_owned()  # type: ignore[attr-defined]
                mutex.acquire()
                _paused.append((file, mutex))
                if not inside:
                    _close(file)
        lock.acquire()
        if all(id(file) in seen or file.opened is None for file in every_file()):
            return
        lock.release()  # whoever wants to open a file, and has its mutex, goes first


def _close(file: File) -> None:
    try:
        file.drop()
    except Exception as error:
        logger.warning("the SQLite file %s could not be closed: %s", file.path, error)


def _after_in_parent() -> None:
    gate.set()
    lock.release()
    while _paused:
        _, mutex = _paused.pop()
        mutex.release()


def _after_in_child() -> None:
    global gate, lock
    lock, gate = threading.RLock(), threading.Event()
    gate.set()
    _paused.clear()
    for file in every_file():
        disinherit(file, os.getppid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
