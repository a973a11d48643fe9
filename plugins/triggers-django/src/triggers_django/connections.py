"""Django's database connections around a body: none that is broken or too old, in no transaction.

A request has Django's signals for that; a body has the hook `body_context`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from django.db import Error, connections


def close_old_ones() -> None:
    """Close this thread's connections that are unusable or too old, unless in a transaction.

    Django's `close_old_connections` closes those, too, if one that is open for long has become old.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def doubt_all() -> None:
    """Let Django ask, before it keeps a connection, whether the server still knows it."""
    for connection in connections.all(initialized_only=True):
        connection.errors_occurred = True


def close_all() -> None:
    """Close this thread's connections, unless in a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


class BodyConnections:
    """Looks after the connections of the thread that runs a body, before it and after it.

    A connection in an atomic block is left alone: it belongs to whoever runs the body there, a test
    that is rolled back, say. It gets a savepoint instead, which an error of the database in the
    body goes back to; outside of a transaction, too, such an error spoils nothing that comes later.
    """

    def __init__(self) -> None:
        self._savepoints: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        close_old_ones()
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block and not connection.needs_rollback:
                self._savepoints.append((connection, connection.savepoint()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection, savepoint in reversed(self._savepoints):
            if isinstance(error, Error) or connection.needs_rollback:
                connection.needs_rollback = False
                connection.savepoint_rollback(savepoint)
            else:
                connection.savepoint_commit(savepoint)
        close_old_ones()
