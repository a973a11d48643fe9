"""Carrying out steps within a transaction that somebody else has begun and will end.

Nothing is tried again here: what failed has failed the whole transaction, which is the
application's to repeat.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from triggers_core.exceptions import StorageError, TransactionConflict
from triggers_postgres.errors import hidden_interruption, said, storage_error
from triggers_postgres.sql import Rows, Statement
from triggers_postgres.steps import Batch, Steps

_T = TypeVar("_T")

_LOCKED: Final = "55P03"  # lock_not_available: the application's own lock_timeout

Extend = Callable[[Batch], Batch]
"""Looks at a batch before it is sent, and may add to its end; the steps never see those rows."""
Hear = Callable[[Rows], None]


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _ignore(rows: Rows) -> None:
    pass


def carry_within(
    connection: psycopg.Connection[Any],
    place: str,
    steps: Steps[_T],
    extended: Extend = _as_it_is,
    heard: Hear = _ignore,
) -> _T:
    """Carry out steps on a connection, and leave the transaction open.

    :param place: where the sessions are, for messages.
    :param extended: a batch with what is to be sent along with it.
    :param heard: gets the rows of that.
    :raises TransactionConflict: the transaction has lost against another one.
    :raises StorageError: it cannot be used, or a statement failed.
    """
    handled = sys.exception()
    try:
        batch = next(steps)
        while True:
            sent = extended(batch)
            try:
                rows = _rows(connection, sent)
            except psycopg.Error as error:
                raise of_the_transaction(place, error, handled) from error
            for more in rows[len(batch) :]:
                heard(more)
            batch = steps.send(rows[: len(batch)])
    except StopIteration as done:
        answer: _T = done.value
        return answer
    finally:
        steps.close()


async def acarry_within(
    connection: psycopg.AsyncConnection[Any],
    place: str,
    steps: Steps[_T],
    extended: Extend = _as_it_is,
    heard: Hear = _ignore,
) -> _T:
    """As `carry_within`, awaited."""
    handled = sys.exception()
    try:
        batch = next(steps)
        while True:
            sent = extended(batch)
            try:
                rows = await _arows(connection, sent)
            except psycopg.Error as error:
                raise of_the_transaction(place, error, handled) from error
            for more in rows[len(batch) :]:
                heard(more)
            batch = steps.send(rows[: len(batch)])
    except StopIteration as done:
        answer: _T = done.value
        return answer
    finally:
        steps.close()


# Cursors of psycopg's own class: what an application has set as its connection's may interpolate
# parameters by itself, or make something else of rows.


def _rows(connection: psycopg.Connection[Any], batch: Sequence[Statement]) -> list[Rows]:
    def execute(statement: Statement) -> psycopg.Cursor[Any]:
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        return cursor.execute(statement[0], statement[1] or None, binary=True)

    if len(batch) == 1 or not psycopg.Pipeline.is_supported():
        return [_fetched(execute(each)) for each in batch]
    with connection.pipeline():
        cursors = [execute(each) for each in batch]
    return [_fetched(each) for each in cursors]


def _fetched(cursor: psycopg.Cursor[Any]) -> Rows:
    return cursor.fetchall() if cursor.description else []


async def _arows(
    connection: psycopg.AsyncConnection[Any], batch: Sequence[Statement]
) -> list[Rows]:
    async def execute(statement: Statement) -> psycopg.AsyncCursor[Any]:
        cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        return await cursor.execute(statement[0], statement[1] or None, binary=True)

    if len(batch) == 1 or not psycopg.AsyncPipeline.is_supported():
        return [await _afetched(await execute(each)) for each in batch]
    async with connection.pipeline():
        cursors = [await execute(each) for each in batch]
    return [await _afetched(each) for each in cursors]


async def _afetched(cursor: psycopg.AsyncCursor[Any]) -> Rows:
    return await cursor.fetchall() if cursor.description else []


def check_usable(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Refuse a transaction in which nothing can be done any more.

    :raises StorageError: it has failed already.
    """
    if connection.info.transaction_status is TransactionStatus.INERROR:
        raise StorageError(
            "the application's transaction has failed before: roll it back (or back to a"
            " savepoint) first"
        )


def is_alone(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether no transaction is open, and none would begin by itself (autocommit)."""
    return connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE


def of_the_transaction(
    place: str, error: psycopg.Error, handled: BaseException | None
) -> BaseException:
    """The error that the application gets for one of the driver's.

    :param handled: what was being handled before; see `hidden_interruption`.
    """
    interruption = hidden_interruption(error, handled)
    if interruption is not None:
        return interruption
    if error.sqlstate == _LOCKED:
        return TransactionConflict(
            f"{place}: {said(error)}. Another transaction has locked the session: roll back, and"
            " run the whole of it again"
        )
    return storage_error(place, error, joined=True)


__all__ = [
    "acarry_within",
    "carry_within",
    "check_usable",
    "is_alone",
    "of_the_transaction",
]
