"""Carries steps out on a connection of the store's own."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from psycopg import Connection

from triggers_postgres.exchange import Exchange
from triggers_postgres.sql import Rows
from triggers_postgres.steps import Batch, Last, Steps

_T = TypeVar("_T")


def rows_of(connection: Connection[Any], batch: Batch) -> list[Rows]:
    """Send a batch in one round trip, as a transaction, and return the rows of each statement."""
    with Exchange(connection) as exchange:
        return exchange.answers(batch, last=True)


def read(connection: Connection[Any], steps: Steps[_T]) -> _T:
    """Carry out steps that only read, each batch by itself."""
    try:
        batch = next(steps)
        while True:
            batch = steps.send(rows_of(connection, batch))
    except StopIteration as done:
        return cast(_T, done.value)


def write(connection: Connection[Any], steps: Steps[_T], begin: bool = False) -> _T:
    """Carry out steps in a transaction of their own, on a connection in autocommit mode.

    What is raised leaves nothing stored, unless the last batch was sent; the connection is as it
    was, or in whatever state the error has left it.

    :param begin: whether the transaction has to say its isolation level, for the server's default
        is another one than `READ COMMITTED`.
    """
    try:
        batch = next(steps)
        while True:
            with Exchange(connection, begin) as exchange:
                while not isinstance(batch, Last):
                    batch = steps.send(exchange.answers(batch))
                rows = exchange.answers(batch, last=True)
            batch = steps.send(rows)
    except StopIteration as done:
        return cast(_T, done.value)
