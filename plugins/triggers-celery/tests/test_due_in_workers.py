"""A worker hears of what falls due soon, where the storage tells it: PostgreSQL does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from celery_fleet import Fleet, statuses, until

from triggers_postgres.testing import PostgresServer, find_server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PostgresServer]:
    try:
        find_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with PostgresServer(tmp_path / "postgres") as server:
        yield server


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_is_woken_for_what_falls_due_soon(
    pool: str, fleet: Fleet, database: PostgresServer
) -> None:
    """Its sweep would look again in an hour."""
    fleet.timing["sweep"] = 3_600.0
    fleet.configure(
        TRIGGER_STORAGE_TYPE="postgres",
        TRIGGER_STORAGE_OPTIONS={"url": database.url},
        TRIGGER_TIMING=fleet.timing,
    )
    manager = fleet.manager(
        "held", {"t_x": {"andEvery": "go", "waiting": 0.2, "run": "test.record"}}
    )

    def listens() -> bool:
        with psycopg.connect(database.url) as connection:
            rows = connection.execute("SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            return rows.fetchone() is not None

    with fleet.worker("-c", "2", "-P", pool) as worker:
        until(listens, "the worker to listen")
        for number in range(3):  # with the second one at the latest, nothing else wakes it
            manager.fire("go")
            until(lambda: statuses(manager)[f"t_x#{number}"] == "finished")  # noqa: B023
        assert worker.stop() == 0, worker.said()
    until(lambda: not listens())
