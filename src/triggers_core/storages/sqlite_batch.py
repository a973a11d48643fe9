"""Many commits of one thread in one transaction of SQLite."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from triggers_core.storages.sqlite_file import SqliteFile

_T = TypeVar("_T")


class Batch(threading.local):
    """The transaction that a thread's commits join, if it has begun one."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.half_written = False
        """Whether the records of one commit, which must all be there or none, are being written."""

    def run(self, file: SqliteFile, work: Callable[[], _T]) -> _T:
        """Run `work` in a write transaction. What it raises leaves whole commits only."""
        raised: list[BaseException] = []

        def many(connection: sqlite3.Connection) -> tuple[list[_T], bool]:
            self.connection, self.half_written = connection, False
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
