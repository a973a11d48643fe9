"""What an application's transactions have changed and not committed, as far as one caller knows.

Whoever changes a session through `using`, and then the same one in another transaction, waits for a
lock that only they could release; PostgreSQL sees one connection waiting for another that is idle,
which is no deadlock to it. So each joined change is noted, and a change of another transaction's
looks whether its own caller has one of the session that is still open.

The notes are in a context variable: a thread of a pool that has served one request (and handed the
transaction on to be committed elsewhere) knows nothing of it when it serves the next one. A context
is copied into threads and tasks, which may well wait for whoever began them: so a note says whose
it is, and counts for nobody else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from weakref import ref

import psycopg
from psycopg.pq import TransactionStatus

from triggers_core.exceptions import NestedCommit
from triggers_postgres.marks import Mark

if TYPE_CHECKING:
    from triggers_postgres.store import PostgresStore

T = TypeVar("T")

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

_MOST: Final = 1_000  # notes of one caller; a transaction that changes more sessions is on its own


class Change(NamedTuple):
    """That a session was changed in a transaction."""

    owner: object
    """Whose: a thread's id, or a task."""
    store: ref[Any]
    uid: str
    connection: ref[Any]
    transaction: int
    """Its id."""
    xid: int
    """The same, or that of the savepoint: its roll-back releases the session."""

    @property
    def over(self) -> bool:
        """Whether the transaction has ended, as far as can be told without asking the server."""
        connection = self.connection()
        return (
            connection is None
            or connection.closed
            or connection.info.transaction_status is TransactionStatus.IDLE
        )


_changes: ContextVar[tuple[Change, ...]] = ContextVar("triggers_postgres_changes", default=())


class _Behalf(threading.local):
    task: object = None
    """The task that waits for what this thread is doing."""


_behalf: Final = _Behalf()


def _caller() -> object:
    """Who would wait for ever: the task, else the thread."""
    try:
        task: object = asyncio.current_task()
    except RuntimeError:  # no event loop here
        task = _behalf.task
    return threading.get_ident() if task is None else ref(task)


def note(store: PostgresStore, uid: str, connection: AnyConnection, mark: Mark) -> None:
    """Note that a session was changed within the transaction of a connection."""
    if mark.xid is None:
        return
    new = Change(_caller(), ref(store), uid, ref(connection), mark.transaction, mark.xid)
    kept = [
        each
        for each in _changes.get()
        if each != new
        and not each.over
        and (each.connection is not new.connection or each.transaction == new.transaction)
    ]
    _changes.set((*kept[-_MOST:], new))


def open_changes(
    store: PostgresStore, uid: str, connection: AnyConnection | None = None
) -> list[tuple[int, int]]:
    """Ids of the transactions (or savepoints) in which the caller has changed a session.

    Each is there twice, for `STATUS`: the roll-back of a savepoint alone counts.

    A connection of a pool may be in somebody else's transaction by now: the server can tell.

    :param connection: on which the session may be changed: it has the lock, if there is one.
    """
    changes = _changes.get()
    if not changes:
        return []
    caller = _caller()
    return [
        (each.xid, each.xid)
        for each in changes
        if each.uid == uid
        and each.owner == caller
        and each.store() is store
        and (connection is None or each.connection() is not connection)
        and not each.over
    ]


def refuse_to_wait(store: PostgresStore, uid: str, connection: AnyConnection | None = None) -> None:
    """Refuse a change of a session that the caller's own open transaction has locked.

    :raises NestedCommit: it would wait for ever.
    """
    ids = open_changes(store, uid, connection)
    if ids:
        check_ended(uid, store.statuses(ids))


def check_ended(uid: str, status: dict[int, str | None]) -> None:
    """Look at what the server has answered about the ids of `open_changes`.

    :raises NestedCommit: one of them is in progress.
    """
    if "in progress" in status.values():
        raise NestedCommit(
            f"session {uid!r} has been changed in a transaction of the application that is still"
            " open in this thread (or task), and this change would wait for its end for ever: use"
            " manager.using(...) with the connection of that transaction, or commit it first"
        )


def on_behalf(call: Callable[[], T]) -> Callable[[], T] | None:
    """A call that a thread makes for the current task, which is to wait for it.

    :returns: None if the task has nothing noted.
    """
    changes = _changes.get()
    task = asyncio.current_task() if changes else None
    if task is None or ref(task) not in [each.owner for each in changes]:
        return None

    def called() -> T:
        _behalf.task = task
        try:
            return call()
        finally:
            _behalf.task = None

    return called


__all__ = ["check_ended", "note", "on_behalf", "open_changes", "refuse_to_wait"]
