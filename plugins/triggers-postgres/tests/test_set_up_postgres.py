"""The tables: made once, by whoever comes first; in time, or as SQL for others to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore
from triggers_postgres.schema import schema_sql

Make = Callable[..., PostgresStore]

PROCESS = """
import sys
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore
url, schema, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
with PostgresStore(url, schema) as store:
    print(SessionDriver(store, name).fire("go").status)
"""


def tables(connection: psycopg.Connection[Any], schema: str) -> set[str]:
    select = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
    return {name for (name,) in connection.execute(select, (schema,)).fetchall()}


def test_ten_processes_at_once(
    make_postgres_store: Make, connection: psycopg.Connection[Any], postgres_url: str
) -> None:
    store = make_postgres_store(create=False)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, postgres_url, store.schema, f"order:{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(10)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.communicate(timeout=60) == ("recorded\n", "")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert len(store.sessions()) == 10
    versions = connection.execute(f'SELECT * FROM "{store.schema}".schema_version').fetchall()
    assert versions == [(1,)]


def test_set_up_says_whether_there_was_anything_to_do(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store(create=False)
    assert store.set_up()
    assert "instances" in tables(connection, store.schema)
    assert not store.set_up()
    assert SessionDriver(store).fire("go").status == "recorded"


def test_without_create_the_error_says_what_to_do(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store(create=False)
    with pytest.raises(StorageError, match=r"has no tables of Triggers.*`triggers storage init`"):
        SessionDriver(store).fire("go")
    assert tables(connection, store.schema) == set()


def test_the_printed_statements_make_the_same(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store(create=False)
    sql = store.set_up_sql()
    assert sql == schema_sql(store.schema)
    with connection.transaction():
        connection.execute(sql)
    assert not store.set_up()
    session = SessionDriver(store)
    session.configure(t_x={"after": ["go"]})
    assert session.fire("go").scheduled == ["t_x#0"]
    other = make_postgres_store()
    other.set_up()
    columns = (
        "SELECT table_name, column_name, data_type, collation_name, is_nullable"
        " FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, 2"
    )
    found = [connection.execute(columns, (s.schema,)).fetchall() for s in (store, other)]
    assert found[0] == found[1]


def test_a_schema_that_is_there_needs_no_right_to_create_one(
    make_postgres_store: Make, connection: psycopg.Connection[Any], postgres_url: str
) -> None:
    store = make_postgres_store()
    role = store.schema
    connection.execute(f'CREATE ROLE "{role}" LOGIN')
    try:
        mine = make_postgres_store(schema=store.schema, kwargs={"user": role})
        with pytest.raises(StorageError, match=r"permission denied.*CREATE on the database"):
            mine.set_up()
        connection.execute(f'CREATE SCHEMA "{role}" AUTHORIZATION "{role}"')
        assert mine.set_up()
        SessionDriver(mine).fire("go")
    finally:
        connection.execute(f'DROP SCHEMA IF EXISTS "{role}" CASCADE')
        connection.execute(f'DROP ROLE "{role}"')


def test_a_newer_version_is_left_alone(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store()
    store.set_up()
    connection.execute(f'UPDATE "{store.schema}".schema_version SET version = 99')
    for other in (make_postgres_store(schema=store.schema),):
        with pytest.raises(UnknownSchema, match=r"version 99.*upgrade it"):
            SessionDriver(other).fire("go")
        with pytest.raises(UnknownSchema, match=r"version 99.*upgrade it"):
            other.set_up()


def test_tables_that_are_dropped_are_made_again(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store()
    session = SessionDriver(store)
    session.fire("go")
    connection.execute(f'DROP SCHEMA "{store.schema}" CASCADE')
    with pytest.raises(StorageError, match="has no tables"):
        session.fire("go")
    session.fire("again")
    assert session.fired() == ["again"]


@pytest.mark.parametrize("schema", ["", "1st", 'a"b', "a b", "x" * 64, "ü", None])
def test_names_of_schemas(schema: Any) -> None:
    with pytest.raises(StorageError, match="schema: expected a name of 1 to 63 letters"):
        PostgresStore(schema=schema)
