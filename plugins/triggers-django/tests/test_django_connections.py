"""Connections of our threads: replaced when the server ended them, closed when a thread ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django_databases import Databases, MakeDjangoStore

import triggers_django.host
from triggers_core import TaskContext, TriggerTask, trigger_task
from triggers_core.application import Application
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_django import DjangoStore
from triggers_django.connections import BodyConnections
from triggers_django.host import DjangoHost

SERVERS = ("postgresql", "mariadb")


@trigger_task(name="connections.Ask")
def ask(context: TaskContext) -> dict[str, Any]:
    """Use the database; which connection answered."""
    alias = context.trigger_kwargs["go"]["alias"]
    with connections[alias].cursor() as cursor:
        cursor.execute(NUMBER[connections[alias].vendor])
        return {"number": cursor.fetchone()[0]}


class Hangs(TriggerTask):
    name = "connections.Hangs"
    time_limit = 0.2

    def _run(self, context: TaskContext) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not context.lease_lost:
            time.sleep(0.01)


NUMBER = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database()"
    " AND id <> connection_id()",
}
END = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}


class Server:
    """A database whose connections are kept for ever, as far as Django is concerned."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.vendor = connections[alias].vendor

    def others(self) -> set[int]:
        """The connections of other threads."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(OTHERS[self.vendor])
            return {row[0] for row in cursor.fetchall()}

    def end_others(self) -> None:
        """What a restart does to them, too."""
        until = time.monotonic() + 60
        while others := self.others():  # a heartbeat may be about to open one
            assert time.monotonic() < until, others
            for each in others:
                with connections[self.alias].cursor() as cursor, suppress(OperationalError):
                    cursor.execute(END[self.vendor], [each])  # it may have gone by itself
            time.sleep(0.01)

    def wait_until_none(self) -> None:
        until = time.monotonic() + 60
        while others := self.others():
            assert time.monotonic() < until, f"{others} are open"
            time.sleep(0.01)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    databases: Databases = request.getfixturevalue(request.param)
    alias = databases.alias(0)
    connections[alias].settings_dict["CONN_MAX_AGE"] = None
    connections[alias].close()
    yield Server(alias)
    connections[alias].settings_dict["CONN_MAX_AGE"] = 0


@pytest.fixture
def make_app(django_host: DjangoHost) -> Iterator[Callable[[Store], Application]]:
    made: list[Application] = []

    def make(store: Store) -> Application:
        settings = Settings.isolated(
            TRIGGER_CONFIGURATION={
                "t_ask": {"andEvery": "go", "run": "connections.Ask"},
                "t_hang": {"after": ["hang"], "run": "connections.Hangs"},
            },
            TRIGGER_TIMING={"heartbeat": 0.01, "sweep": 0.01},
        )
        app = Application("connections", settings, store=store, plugins=Plugins(["django"]))
        app.use_runner(ThreadingTaskRunner(app, max_workers=1))
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def go(app: Application, alias: str) -> Any:
    manager = app.manager("order:1")
    scheduled = manager.fire("go", {"alias": alias}).scheduled
    assert manager.join(60)
    return manager.storage[scheduled[0]]


def test_a_connection_that_was_idle_for_long_is_looked_at_first(
    server: Server, make_app: Callable[[Store], Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(MemoryStore())
    first = go(app, server.alias).result["number"]
    assert go(app, server.alias).result["number"] == first  # it is kept
    server.end_others()
    monkeypatch.setattr(triggers_django.host, "_IDLE", -1.0)
    second = go(app, server.alias)
    assert second.status == "finished"
    assert second.result["number"] != first


def test_one_that_breaks_is_replaced_before_the_next_body(
    server: Server, make_app: Callable[[Store], Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers_django.host, "_IDLE", 3_600.0)
    app = make_app(MemoryStore())
    go(app, server.alias)
    server.end_others()
    assert go(app, server.alias).status == "failed"
    assert go(app, server.alias).status == "finished"


def test_sessions_in_the_database_survive_that_too(
    server: Server, make_app: Callable[[Store], Application]
) -> None:
    app = make_app(DjangoStore(server.alias))
    for _ in range(3):
        assert go(app, server.alias).status == "finished"
        server.end_others()


def test_no_connection_outlives_its_thread(
    server: Server, make_app: Callable[[Store], Application]
) -> None:
    app = make_app(DjangoStore(server.alias))
    with app:  # sweeps
        go(app, server.alias)
        manager = app.manager("order:2")
        manager.fire("hang")  # beats, and its time limit fails it in yet another thread
        until = time.monotonic() + 60
        while manager.storage["t_hang#0"].status != "failed":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert server.others()
    server.wait_until_none()
    until = time.monotonic() + 60  # it closes them at its end, and not after that
    while [each for each in threading.enumerate() if each.name == "triggers-worker-0"]:
        assert time.monotonic() < until
        time.sleep(0.01)


# -- in a transaction ------------------------------------------------------------------------------


@pytest.fixture
def alias(sqlite: Databases, make_django_store: Callable[[Databases], MakeDjangoStore]) -> str:
    return make_django_store(sqlite)().alias


def test_a_connection_in_a_transaction_is_left_alone(alias: str, django_host: DjangoHost) -> None:
    connection = connections[alias]
    with transaction.atomic(using=alias):
        connection.close_at = time.monotonic() - 1  # too old
        django_host.between_jobs()
        usable(alias)
        django_host.thread_ends()
        usable(alias)
        with BodyConnections():
            usable(alias)
        usable(alias)
    django_host.between_jobs()
    assert connection.connection is None


def usable(alias: str) -> None:
    """Django keeps one that is closed in a transaction, and refuses everything more."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")


def test_an_error_of_the_database_spoils_no_transaction(alias: str) -> None:
    connection = connections[alias]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE parcels (id integer PRIMARY KEY)")
        with (
            pytest.raises(IntegrityError),
            BodyConnections(),
            transaction.atomic(using=alias, savepoint=False),  # as `Model.save` has it
        ):
            cursor.execute("INSERT INTO parcels VALUES (1), (1)")
        with BodyConnections():
            cursor.execute("INSERT INTO parcels VALUES (2)")
        cursor.execute("SELECT id FROM parcels")
        assert cursor.fetchall() == [(2,)]
        cursor.execute("DROP TABLE parcels")
