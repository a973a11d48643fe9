"""Batched commits: many of one thread in one transaction of SQLite."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from triggers_core.exceptions import NestedCommit, StorageError
from triggers_core.storages.sqlite.file import SqliteFile

_T = TypeVar("_T")


class Batch(threading.local):
    """The transaction that a thread's commits join, if it has begun one."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.half_written = False
        """Whether the records of one commit, which must all be there or none, are being written."""
        self._inside = False

    def run(self, file: SqliteFile, work: Callable[[], _T]) -> _T:
        """Run `work` in a write transaction. What it raises leaves whole commits only."""
        raised: list[BaseException] = []
        begun = False

        def many(connection: sqlite3.Connection) -> tuple[list[_T], bool]:
            nonlocal begun
            if begun:  # what it has done once, `work` cannot do again
                raise StorageError(
                    f"the SQLite file {file.path} was replaced while it was written: the last"
                    " commits are not stored"
                )
            begun = True
            self.connection, self.half_written, self._inside = connection, False, False
            try:
                return [work()], True
            except sqlite3.Error:
                raise
            except BaseException as error:
                if self.half_written:
                    raise
                raised.append(error)
                return [], True
            finally:
                self.connection = None

        answers = file.write(many)
        for error in raised:
            raise error
        return answers[0]

    def commit(self, work: Callable[[sqlite3.Connection], tuple[_T, bool]]) -> _T:
        """Do what would be a transaction of its own as a part of the one that is open.

        :raises NestedCommit: this thread is inside a change already.
        """
        assert self.connection is not None
        if self._inside:
            raise NestedCommit(
                "this thread is in the middle of another change. A before_commit hook adds events"
                " to it by plan.fire, not by a manager"
            )
        try:
            self._inside = True
            return work(self.connection)[0]
        finally:
            self._inside = False
