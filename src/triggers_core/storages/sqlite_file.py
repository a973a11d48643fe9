"""One SQLite file in one process: its connection, its transactions, its turnstile, and forks."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeVar
from weakref import WeakSet

from triggers_core.exceptions import StorageError
from triggers_core.storages.sqlite_schema import prepare
from triggers_core.storages.turnstile import Turnstile

Synchronous = Literal["FULL", "NORMAL"]
_T = TypeVar("_T")

_BUSY_TIMEOUT: Final = 30.0  # seconds; writers queue at the turnstile, so only others wait here


class SqliteFile:
    """A database file and the one connection that this process has to it."""

    def __init__(self, path: str | os.PathLike[str], synchronous: Synchronous = "FULL") -> None:
        self.path = os.path.abspath(os.fspath(path))
        if synchronous.upper() not in ("FULL", "NORMAL"):
            raise StorageError(f"sqlite: synchronous must be FULL or NORMAL, got {synchronous!r}")
        self._synchronous = synchronous.upper()
        self._forget()
        _files.add(self)

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._turnstile: Turnstile | None = None

    def _connect(self) -> tuple[sqlite3.Connection, Turnstile]:
        if self._connection is None or self._turnstile is None:
            try:
                self._connection, self._turnstile = self._open()
            except (sqlite3.Error, OSError) as error:
                raise StorageError(f"cannot open the SQLite file {self.path}: {error}") from error
        return self._connection, self._turnstile

    def _open(self) -> tuple[sqlite3.Connection, Turnstile]:
        turnstile = Turnstile(f"{self.path}-turnstile")
        try:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                with turnstile:
                    prepare(connection, self.path)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            except BaseException:
                connection.close()
                raise
        except BaseException:
            turnstile.close()
            raise
        return connection, turnstile

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock():
            if self._connection is not None:
                self._connection.close()
            if self._turnstile is not None:
                self._turnstile.close()
            self._connection = self._turnstile = None  # the mutex stays: other threads wait for it

    def _lock(self) -> threading.RLock:
        if self._pid != os.getpid():
            # Forked by something that ran no fork handlers. SQLite forbids even closing a parent's
            # connection in the child, so it is kept, unused, and a new one opened.
            _inherited.append((self._connection, self._turnstile))
            self._forget()
        return self._mutex

    def before_fork(self) -> None:
        """Finish what a thread is doing with the file, close it, and keep everybody out."""
        self._mutex.acquire()
        connection, turnstile = self._connection, self._turnstile
        if connection is not None and turnstile is not None and not connection.in_transaction:
            self._connection = self._turnstile = None
            connection.close()
            turnstile.close()

    def after_fork(self) -> None:
        """Let everybody in again; whoever comes first opens the file anew."""
        if self._pid == os.getpid():
            self._mutex.release()
        elif self._connection is None:
            self._forget()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in the block is of one moment."""
        with self._lock():
            connection, _ = self._connect()
            if connection.in_transaction:  # this thread is inside a write transaction
                yield connection
                return
            try:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def write(self, work: Callable[[sqlite3.Connection], tuple[_T, bool]]) -> _T:
        """Run `work` in a write transaction; it returns its answer and whether to commit.

        :raises StorageError: SQLite refused (a full disk, a file on a network drive, …).
        """
        with self._lock():
            connection, turnstile = self._connect()
            turnstile.enter()
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    answer, keep = work(connection)
                    connection.execute("COMMIT" if keep else "ROLLBACK")
                    return answer
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._failed(error) from error
            finally:
                turnstile.leave()

    def _failed(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"the SQLite file {self.path}: {error}")


_inherited: list[tuple[sqlite3.Connection | None, Turnstile | None]] = []
"""Connections of a parent process, which a child must neither use nor close."""

_files: WeakSet[SqliteFile] = WeakSet()


def _before_fork() -> None:
    # SQLite keeps the locks of all connections of a process in one place, which a fork copies: a
    # child would believe that it holds what its parent holds. So no connection crosses a fork.
    for file in list(_files):
        file.before_fork()


def _after_fork() -> None:
    for file in list(_files):
        file.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
