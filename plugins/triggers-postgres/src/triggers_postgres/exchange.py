"""Batches of statements on a connection of the store's own, by libpq's pipeline mode.

psycopg's `Connection.pipeline` looks at the socket for each command that it sends, and again for
each cursor that is read: with the small batches of a change, that takes longer than what the server
does. Here each round trip waits once. How it is waited, and how values are converted, is psycopg's
(`Connection.wait`, `Transformer`): signals, gevent, and its two implementations are its affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from triggers_core.exceptions import TriggersError
from triggers_postgres.sql import Rows, Statement

# The level is said, for the server's default may be another one: each statement has to see what was
# committed before it, when the session's lock has been waited for.
BEGIN: Final[Statement] = ("BEGIN ISOLATION LEVEL READ COMMITTED", ())
COMMIT: Final[Statement] = ("COMMIT", ())

_AUTO: Final = PyFormat.AUTO
_TEXTS: Final = 1_000  # texts of statements that are kept


class Exchange:
    """One transaction: what is sent to the server in it, and what comes back. A context manager.

    What was sent is committed at the end, or along with `answers` (``last=True``). After an error
    of PostgreSQL's or of ours the connection is as it was, or in whatever state the error has left
    it. After any other, nobody knows where it came: the connection stays in the middle of the
    exchange, and is of no use any more.

    :param connection: nobody else's meanwhile, and in autocommit mode.
    :param begin: whether the transaction has to say its isolation level. Otherwise it is what is
        sent between two synchronisations of a pipeline: no BEGIN, no COMMIT.

    Example::

        with Exchange(connection) as exchange:
            (rows,) = exchange.answers([("SELECT %s::integer", (7,))])
    """

    __slots__ = ("_begin", "_open", "_pgconn", "_transformer", "_unread", "connection")

    def __init__(self, connection: psycopg.Connection[Any], begin: bool = False) -> None:
        self.connection: psycopg.Connection[Any] = connection
        self._begin = begin
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._open = True
        self._unread = 0
        """Statements that were sent, and whose results have not been read."""

    def __enter__(self) -> Self:
        self._pgconn.enter_pipeline_mode()
        if self._begin:
            self._send(BEGIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._open:
            return
        if error is None or isinstance(error, StopIteration):  # steps that were over
            self._end()
        elif isinstance(error, psycopg.Error | TriggersError):
            self._begin = False  # whoever lends the connection rolls back
            with suppress(psycopg.Error):
                self._end()

    def answers(self, batch: Sequence[Statement], last: bool = False) -> list[Rows]:
        """Send a batch in one round trip, and return the rows of each statement.

        :param last: whether to commit along with it; then this is over.
        :raises psycopg.Error: the first one of the batch.
        """
        first = self._unread
        for statement in batch:
            self._send(statement)
        if last:
            results = self._end()
        else:
            self._pgconn.send_flush_request()
            results = self._checked(self.connection.wait(self._results()))
        return [self._rows(result) for result in results[first : first + len(batch)]]

    def _send(self, statement: Statement) -> None:
        text, values = statement
        given, types, formats = None, None, None
        if values:
            transformer = self._transformer
            given = transformer.dump_sequence(values, [_AUTO] * len(values))
            types, formats = transformer.types, transformer.formats
        self._pgconn.send_query_params(
            _numbered(text, len(values)),
            given,
            param_types=types,
            param_formats=formats,
            result_format=Format.BINARY,
        )
        self._unread += 1

    def _end(self) -> list[PGresult]:
        """Commit, and leave the pipeline."""
        if self._begin:
            self._send(COMMIT)
        self._pgconn.pipeline_sync()
        results = self.connection.wait(self._results(synchronised=True))
        self._pgconn.exit_pipeline_mode()
        self._open = False
        return self._checked(results)

    def _results(self, synchronised: bool = False) -> PQGen[list[PGresult]]:
        """The result of each statement; and an error of the commit, if there was one."""
        yield from send(self._pgconn)
        results: list[PGresult] = []
        while self._unread or synchronised:
            found = yield from fetch_many(self._pgconn)
            if not found:
                raise psycopg.OperationalError("the server's answers are out of step")
            if found[0].status == ExecStatus.PIPELINE_SYNC:
                break
            results.append(found[0])
            self._unread -= self._unread > 0
        return results

    def _checked(self, results: list[PGresult]) -> list[PGresult]:
        for result in results:
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                raise error_from_result(result, encoding=self.connection.info.encoding)
        return results

    def _rows(self, result: PGresult) -> Rows:
        if result.status != ExecStatus.TUPLES_OK:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)


@lru_cache(maxsize=_TEXTS)
def _numbered(text: str, parameters: int) -> bytes:
    """A statement with ``$1`` … for its ``%s``, as the server has it."""
    first, *rest = text.split("%s") if parameters else (text,)
    return "".join([first, *(f"${n}{part}" for n, part in enumerate(rest, 1))]).encode()
