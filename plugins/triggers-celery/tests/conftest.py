"""Brokers and fleets for the tests; what fleets are made of is in `celery_fleet`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from triggers_redis.testing import RedisServer, find_server

# Under --import-mode=importlib a test reaches the modules beside it only through the path.
sys.path.insert(0, str(Path(__file__).parent))

from celery_fleet import Fleet
from rabbitmq_server import RabbitMQ, find_rabbitmq


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of this test run, for tests that do not stop it."""
    _require_redis()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test alone, to be stopped and started at will."""
    _require_redis()
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()  # it may be suspended, and would not end otherwise


def _require_redis() -> None:
    try:
        find_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def broker_databases(request: pytest.FixtureRequest) -> Iterator[str]:
    """Addresses of Redis databases, each empty: of REDIS_URL's server if given, else of ours."""
    base = os.environ.get("REDIS_URL") or request.getfixturevalue("redis_server").url
    root = base.rpartition("/")[0] if base.count("/") > 2 else base

    def addresses() -> Iterator[str]:
        for number in range(1, 1_000):
            url = f"{root}/{number % 16}"
            with redis.Redis.from_url(url) as client:
                client.flushdb()
            yield url

    return addresses()


@pytest.fixture
def fleet(tmp_path: Path, broker_databases: Iterator[str]) -> Iterator[Fleet]:
    """A fleet without workers, of this test alone."""
    fleet = Fleet(tmp_path, next(broker_databases))
    yield fleet
    fleet.close()


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """AMQP_URL, else a server of this test run, else these tests are skipped."""
    if url := os.environ.get("AMQP_URL"):
        yield url
        return
    if find_rabbitmq() is None:
        pytest.skip("needs AMQP_URL, or rabbitmq-server and epmd on PATH")
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server.url


SLOW_BROKER = pytest.param("rabbitmq", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["sqlite", "redis", SLOW_BROKER])
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    broker_databases: Iterator[str],
) -> Iterator[Fleet]:
    """A fleet with one prefork worker that the tests of a module share; sessions keep apart.

    Sessions in SQLite and messages through Redis; everything in Redis; sessions in SQLite and
    messages through RabbitMQ.
    """
    if request.param == "rabbitmq":
        broker = request.getfixturevalue("rabbitmq_url")
    else:
        broker = next(broker_databases)
    fleet = Fleet(
        tmp_path_factory.mktemp("fleet"),
        broker,
        attempts=2,
        unknown_task_for=1.0,
    )
    fleet.celery_app.control.purge()
    if request.param == "redis":
        options = {"url": next(broker_databases), "namespace": "fleet"}
        fleet.configure(TRIGGER_STORAGE_TYPE="redis", TRIGGER_STORAGE_OPTIONS=options)
    with fleet.worker("-c", "2", "-Q", "celery,parcels,letters"):
        yield fleet
    fleet.close()


@pytest.fixture
def broker(fleet: Fleet) -> Iterator[Any]:
    """A client of the fleet's broker."""
    with redis.Redis.from_url(fleet.broker) as client:
        yield client
