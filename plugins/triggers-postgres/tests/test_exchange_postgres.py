"""One transaction of the store's own, as it goes over the wire."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus

from triggers_core.exceptions import StorageError
from triggers_postgres.exchange import Exchange

both = pytest.mark.parametrize("begin", [False, True], ids=["implicit", "begun"])


@pytest.fixture
def table(connection: psycopg.Connection[Any]) -> str:
    """A temporary table whose rows refer to each other, which is checked at the commit."""
    connection.execute(
        "CREATE TEMPORARY TABLE nodes (id int PRIMARY KEY,"
        " parent int REFERENCES nodes DEFERRABLE INITIALLY DEFERRED)"
    )
    return "nodes"


def state(connection: psycopg.Connection[Any]) -> tuple[PipelineStatus, TransactionStatus]:
    return PipelineStatus(connection.pgconn.pipeline_status), connection.info.transaction_status


USABLE = (PipelineStatus.OFF, TransactionStatus.IDLE)


@both
def test_what_comes_back(connection: psycopg.Connection[Any], table: str, begin: bool) -> None:
    values = (1, ["a", 'b"'], b"\0\xff", 1.5, None)
    select = "SELECT %s::bigint, %s::text[], %s::bytea, %s::float8, %s::boolean"
    with Exchange(connection, begin) as exchange:
        assert exchange.answers([(select, values), ("SELECT 1 WHERE false", ())]) == [[values], []]
        insert = (f"INSERT INTO {table} VALUES (%s)", (7,))
        assert exchange.answers([insert, ("SELECT 2", ())], last=True) == [[], [(2,)]]
        assert state(connection) == USABLE
    assert connection.execute(f"SELECT id FROM {table}").fetchall() == [(7,)]


@both
def test_more_than_fits_into_buffers_both_ways(
    connection: psycopg.Connection[Any], begin: bool
) -> None:
    large = b"x" * 5_000_000
    with Exchange(connection, begin) as exchange:
        answers = exchange.answers([("SELECT %s::bytea", (large,))] * 3)
    assert answers == [[(large,)]] * 3
    assert state(connection) == USABLE


@both
@pytest.mark.parametrize("last", [False, True])
def test_an_error_of_a_statement(
    connection: psycopg.Connection[Any], table: str, begin: bool, last: bool
) -> None:
    """The first error is said, whatever follows it, and nothing is stored."""
    batch = [("SELECT 1", ()), ("SELECT 1 / %s", (0,)), ("SELECT nonsense", ())]

    def exchanges() -> None:
        with Exchange(connection, begin) as exchange:
            exchange.answers([(f"INSERT INTO {table} VALUES (7)", ())])
            exchange.answers(batch, last)

    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        exchanges()
    assert connection.pgconn.pipeline_status == PipelineStatus.OFF
    if begin:
        connection.execute("ROLLBACK")  # as whoever lends it does
    assert state(connection) == USABLE
    assert connection.execute(f"SELECT id FROM {table}").fetchall() == []


@both
@pytest.mark.parametrize("last", [False, True])
def test_an_error_of_the_commit(
    connection: psycopg.Connection[Any], table: str, begin: bool, last: bool
) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), Exchange(connection, begin) as exchange:
        exchange.answers([(f"INSERT INTO {table} VALUES (7, 8)", ())], last)
    assert state(connection) == USABLE
    assert connection.execute(f"SELECT id FROM {table}").fetchall() == []


def test_a_value_that_cannot_be_sent(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.DataError), Exchange(connection) as exchange:
        exchange.answers([("SELECT 1", ()), ("SELECT %s::text", ("\0",))])
    assert state(connection) == USABLE


@pytest.mark.parametrize("error", [StorageError("ours"), ValueError("somebody's")])
def test_errors_in_between(connection: psycopg.Connection[Any], error: Exception) -> None:
    """Ours leave the connection usable; after others, nobody can know."""

    def exchanges() -> None:
        with Exchange(connection) as exchange:
            exchange.answers([("SELECT 1", ())])
            raise error

    with pytest.raises(type(error)):
        exchanges()
    assert (state(connection) == USABLE) == isinstance(error, StorageError)


def test_a_server_that_ends_the_connection(
    connection: psycopg.Connection[Any], postgres_url: str
) -> None:

    def exchanges() -> None:
        with Exchange(ended) as exchange:
            exchange.answers([("SELECT 1", ())])
            connection.execute("SELECT pg_terminate_backend(%s, 60000)", (ended.info.backend_pid,))
            exchange.answers([("SELECT 2", ())], last=True)

    with psycopg.connect(postgres_url, autocommit=True) as ended:
        with pytest.raises(psycopg.OperationalError):
            exchanges()
        assert ended.closed


SCRIPT = """
import sys
import psycopg
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore

with PostgresStore(sys.argv[1], sys.argv[2], num_workers=1) as store:
    session = SessionDriver(store)
    session.configure(t_x={"after": ["a", "b"]})
    session.fire("a", {"name": "ä"}, event_id="mine")
    assert session.fire("a", {"name": "ä"}, event_id="mine").status == "duplicate"
    assert session.fire("b").scheduled == ["t_x#0"]
    session.finish(session.claim("t_x#0"))
    print(psycopg.pq.__impl__, *session.fired())
"""


def test_psycopg_without_its_extension_module(postgres_url: str, store: Any) -> None:
    environment = {**os.environ, "PSYCOPG_IMPL": "python"}
    if subprocess.run(
        [sys.executable, "-c", "import psycopg"], env=environment, capture_output=True
    ).returncode:
        pytest.skip("there is no libpq on this machine but the one within psycopg-binary")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, postgres_url, store.schema],
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stdout) == (0, "python a b t_x\n"), done.stderr
