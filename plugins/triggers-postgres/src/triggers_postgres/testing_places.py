"""The storage `postgres` for the fixture `triggers`: a schema for each test, on one server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from triggers_core.engine.names import new_id
from triggers_core.storages.base import Clock
from triggers_core.testing.kit.places import OpenPlace, Place
from triggers_postgres.store import PostgresStore
from triggers_postgres.testing import PostgresServer


@contextmanager
def places() -> Iterator[OpenPlace]:
    """What opens a place for one test: an entry point of `triggers.test_places`.

    On the server that ``POSTGRES_URL`` names, else on one that is started here and stopped at the
    end.
    """
    url = os.environ.get("POSTGRES_URL")
    if url:
        yield partial(_open_place, url)
        return
    with tempfile.TemporaryDirectory(prefix="triggers-postgres-") as folder:
        try:
            server = PostgresServer(Path(folder))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; or set POSTGRES_URL") from None
        with server:
            yield partial(_open_place, server.url)


@contextmanager
def _open_place(url: str, clock: Clock) -> Iterator[Place]:
    schema = f"triggers_test_{new_id()}".lower().replace("-", "_")[:60]
    store = PostgresStore(url, schema, clock=clock, num_workers=1)
    try:
        yield Place(store)
    finally:
        store.close()
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")  # it lists what goes with it
            connection.execute(drop)
