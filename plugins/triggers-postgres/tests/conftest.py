from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from triggers_core import TriggerManager
from triggers_core.application import Application
from triggers_core.engine.names import new_id
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore
from triggers_postgres.testing import PostgresServer

sys.path.insert(0, str(Path(__file__).parent))  # helper modules beside the tests

from joined_app import TASKS, Connect, Heard

_RUN = f"triggers_test_{os.getpid()}"


def new_schema() -> str:
    return f"{_RUN}_{new_id()}".lower().replace("-", "_")[:60]


@pytest.fixture(scope="module", autouse=True)
def earlier_tests_have_left_nothing() -> None:
    """Connections that they broke on purpose are let go of here, not in the middle of a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the run: POSTGRES_URL, else one that is started for it."""
    url = os.environ.get("POSTGRES_URL")
    if url is not None:
        yield url
        with psycopg.connect(url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (_RUN,)
            ).fetchall()
            for (schema,) in rows:
                connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
        return
    options = {"max_prepared_transactions": "4"}
    with PostgresServer(tmp_path_factory.mktemp("postgres"), options=options) as server:
        yield server.url


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection beside the store, in autocommit mode."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def make_postgres_store(postgres_url: str) -> Iterator[Callable[..., PostgresStore]]:
    """Makes stores, each in a new schema unless told otherwise; closed after the test."""
    stores: list[PostgresStore] = []

    def make(clock: Any = None, **options: Any) -> PostgresStore:
        given = {"url": postgres_url, "schema": new_schema(), "num_workers": 1, **options}
        stores.append(PostgresStore(clock=clock, **given))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def remake(
    make_postgres_store: Callable[..., PostgresStore], connection: psycopg.Connection[Any]
) -> Callable[..., PostgresStore]:
    """Makes stores in one schema, which is empty again each time: tables are made once."""
    first = make_postgres_store()
    first.set_up()
    first.close()
    names = ("sessions", "configurations", "events", "event_ids", "instances", "waits", "leases")
    tables = [f'"{first.schema}".{name}' for name in names]

    def make(clock: Any = None) -> PostgresStore:
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
        return PostgresStore(first.url, first.schema, clock=clock, num_workers=1)

    return make


@pytest.fixture
def store(make_postgres_store: Callable[..., PostgresStore]) -> PostgresStore:
    return make_postgres_store()


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that keeps everything it has acknowledged."""
    with PostgresServer(tmp_path / "durable", durable=True) as server:
        yield server


# -- transactions of an application --------------------------------------------------------------


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def app(store: PostgresStore, heard: Heard) -> Iterator[Application]:
    settings = Settings.isolated(TRIGGER_PLUGINS=[heard])
    with Application("joined", settings, store=store, runner=ManualRunner) as app:
        yield app


@pytest.fixture
def manager(app: Application) -> TriggerManager:
    manager = app.manager("order:1")
    manager.update_configuration(TASKS)
    return manager


@pytest.fixture
def connect(postgres_url: str) -> Iterator[Connect]:
    """Opens connections of an application; closed after the test."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(**options: Any) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(postgres_url, **options))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def orders(connection: psycopg.Connection[Any], store: PostgresStore) -> str:
    """A table of the application's."""
    table = f"orders_{store.schema}"[:60]
    connection.execute(f"CREATE TABLE {table} (number int PRIMARY KEY)")
    return table
