"""The server: killed and back, backends that are ended, read-only, out of reach; forks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from joined_app import Connect, until

from triggers_core.exceptions import StorageError
from triggers_core.storages import storage_backends
from triggers_core.testing import SessionDriver, check_store
from triggers_core.testing.server_process import ServerProcess, free_ports
from triggers_postgres import PostgresStorage, PostgresStore
from triggers_postgres import store as module
from triggers_postgres.testing import PostgresServer, takes_connections

Make = Callable[..., PostgresStore]


def end_backends(connection: psycopg.Connection[Any], name: str) -> int:
    """Have the server end the connections of an application's name."""
    select = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = %s AND pid <> pg_backend_pid()"
    )
    (count,) = connection.execute(select, (name,)).fetchone() or (0,)
    return int(count)


def named(name: str) -> dict[str, Any]:
    return {"kwargs": {"application_name": name}}


# -- it goes, and comes back -----------------------------------------------------------------------


def test_a_server_that_is_killed_loses_nothing_that_it_acknowledged(
    durable_server: PostgresServer, make_postgres_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fires go on while it is killed and started again, and their callers notice nothing."""
    monkeypatch.setattr(module, "_PATIENCE", 60.0)  # a busy machine takes its time to start one
    store = make_postgres_store(url=durable_server.url)
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    acknowledged: list[str] = []
    kills, stop, fired = 2, threading.Event(), threading.Semaphore(0)
    problems: list[BaseException] = []

    def wait_for_fires() -> None:
        for _ in range(20):
            assert fired.acquire(timeout=60), problems

    def fire(name: str) -> None:
        number = 0
        while not stop.is_set():
            event_id = f"{name}/{number}"
            try:
                status = session.fire("go", event_id=event_id).status
            except BaseException as error:
                problems.append(error)
                return
            assert status == "recorded", "what was stored and not answered is recognised"
            acknowledged.append(event_id)
            number += 1
            fired.release()

    workers = [threading.Thread(target=fire, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    try:
        for _ in range(kills):
            wait_for_fires()
            durable_server.restart()
        wait_for_fires()
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert problems == []
    recorded = [event.id for event in session.events()]
    assert sorted(recorded) == sorted(acknowledged), "none lost, none twice"
    assert session.header.created("t_x") == len(recorded)
    check_store(store)
    print(f"\n{len(acknowledged)} fires, {kills} kills of the server: 0 lost, 0 double")


def test_connections_that_are_ended_are_replaced(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store(**named("ended"))
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    for number in range(5):
        assert end_backends(connection, "ended") >= 1
        assert session.fire("go", event_id=str(number)).status == "recorded"
    assert session.header.created("t_x") == 5


def test_one_that_was_waited_on_for_long_is_replaced_too(
    make_postgres_store: Make,
    connection: psycopg.Connection[Any],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server was there all the time: it had a lock to wait for."""
    store = make_postgres_store(**named("waited"))
    session, status = SessionDriver(store), list[str]()
    session.fire("go")
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    waits = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE application_name = 'waited' AND wait_event_type = 'Lock'"
    )
    firing = threading.Thread(target=lambda: status.append(session.fire("page").status))
    locking = connect()
    locking.execute(f'SELECT 1 FROM "{store.schema}".sessions FOR UPDATE')
    firing.start()
    until(lambda: connection.execute(waits).fetchone() is not None, "the fire to wait")
    time.sleep(0.3)
    end_backends(connection, "waited")
    locking.rollback()
    firing.join()
    assert status == ["recorded"]


def test_a_server_that_stays_away_is_an_error_that_names_it(
    make_postgres_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PATIENCE", 0.1)
    url = f"postgresql://ann:s3cret@127.0.0.1:{free_ports()[0]}/shop"
    store = make_postgres_store(url=url, timeout=0.2)
    expected = r"the PostgreSQL database shop on 127\.0\.0\.1:\d+, schema .* cannot be reached"
    with pytest.raises(StorageError, match=expected) as caught:
        SessionDriver(store).fire("go")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None, "an outage fills no log with tracebacks"
    assert caught.value.__suppress_context__


# -- it can only be read ---------------------------------------------------------------------------


def test_a_server_that_can_only_be_read(make_postgres_store: Make) -> None:
    store = make_postgres_store()
    session = SessionDriver(store)
    session.configure(t_x={"after": ["go"]})
    session.fire("go")
    options = {"options": "-c default_transaction_read_only=on"}
    replica = make_postgres_store(schema=store.schema, kwargs=options)
    reader = SessionDriver(replica)
    assert reader.fired() == ["go"]
    assert reader.statuses() == {"t_x#0": "scheduled"}
    assert [each.uid for each in replica.sessions()] == [session.uid]
    for change in (
        lambda: reader.fire("go"),
        lambda: replica.delete(reader.uid),
        lambda: replica.acquire_lease("sweep", "me", 5.0),
    ):
        with pytest.raises(StorageError, match=r"can only be read .*Connect to the primary"):
            change()
    assert session.fired() == ["go"]


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_another_isolation_level_by_default(make_postgres_store: Make, level: str) -> None:
    """What follows the lock has to see what was committed before it."""
    escaped = level.replace(" ", r"\ ")
    store = make_postgres_store(kwargs={"options": f"-c default_transaction_isolation={escaped}"})
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})

    def work() -> None:
        for _ in range(10):
            session.fire("go")

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert session.header.created("t_x") == 30
    check_store(store)


# -- locks of others -------------------------------------------------------------------------------


def test_a_sweep_does_not_wait_for_whoever_has_locked_a_session(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    times = [1_700_000_000.0]
    store = make_postgres_store(lambda: times[-1])
    for uid in ("order:1", "order:2"):
        session = SessionDriver(store, uid)
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
    times.append(1_700_003_600.0)
    with connection.transaction():
        lock = f'SELECT 1 FROM "{store.schema}".sessions WHERE uid = %s FOR UPDATE'
        connection.execute(lock, ("order:1",))
        assert [each.uid for each in store.due()] == ["order:2"]
    assert [each.uid for each in store.due()] == ["order:1", "order:2"]


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_connections_of_its_own(make_postgres_store: Make) -> None:
    store = make_postgres_store()
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})
    session.fire("go")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(30):
                session.fire("go")
            store.close()
            code = 0
        finally:
            os._exit(code)
    for _ in range(30):
        session.fire("go")
    assert os.waitpid(child, 0)[1] == 0
    session.fire("go")
    assert session.fired() == ["go"] * 62
    assert session.header.created("t_x") == 62


# -- options ---------------------------------------------------------------------------------------


def test_the_same_options_share_a_store(postgres_url: str) -> None:
    one = storage_backends.get("postgres", "order:1", url=postgres_url, max_size=3)
    two = storage_backends.get("postgres", "order:2", conninfo=postgres_url, max_size=3)
    other = storage_backends.get("postgres", "order:1", url=postgres_url, schema="other")
    assert one.store is two.store
    assert one.store is not other.store


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": 5}, "url: expected a text"),
        ({"url": "mysql:s3cret"}, r"neither a URL \(postgresql://"),
        ({"url": "postgresql://ann:s3cret/@host/db?x"}, "written %40"),
        ({"sslmode": "require"}, "unknown option sslmode.*belong into the URL"),
        ({"min_size": -1}, "min_size cannot be negative"),
        ({"max_size": "many"}, "postgres: "),
        ({"num_workers": 0}, "num_workers"),
        ({"url": "", "conninfo": ""}, "two names of one option"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        PostgresStorage("order:1", **options)
    assert "s3cret" not in str(caught.value)


def test_a_place_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    places = {
        "postgresql://ann:s3cret@db:5433/shop": "database shop on db:5433, schema triggers",
        "postgresql+psycopg://ann:s3cret@db/shop": "database shop on db, schema triggers",
        "host=db password=s3cret user=ann": "database ann on db, schema triggers",
        "service=shop": "database of the service shop, schema triggers",
        "": "database, schema triggers",
    }
    for url, place in places.items():
        store = PostgresStore(url)
        assert store.place == f"the PostgreSQL {place}"
        assert "s3cret" not in repr(store)


def test_a_text_on_the_command_line() -> None:
    read = PostgresStorage.options_from_text
    assert read("postgresql://db/shop") == {"url": "postgresql://db/shop"}
    assert read("postgres:service=shop") == {"url": "service=shop"}


# -- a pooler --------------------------------------------------------------------------------------


class Pgbouncer(ServerProcess):
    """A pooler in transaction mode in front of a server."""

    def __init__(self, program: str, behind: str, settings: Path) -> None:
        super().__init__()
        self._program, self._settings = program, settings
        self._info = psycopg.conninfo.conninfo_to_dict(behind)

    @property
    def url(self) -> str:
        return f"postgresql://{self._info['user']}@127.0.0.1:{self.port}/{self._info['dbname']}"

    def spawn(self) -> subprocess.Popen[bytes]:
        behind = " ".join(f"{name}={self._info[name]}" for name in ("host", "port", "user"))
        self._settings.write_text(
            f"[databases]\n* = {behind}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\n"
            "pool_mode = transaction\nunix_socket_dir =\n"
        )
        # It refuses to run as root, but reads its settings before it becomes somebody else.
        other = ["-u", "nobody"] if os.geteuid() == 0 else []
        return subprocess.Popen([self._program, "-q", *other, str(self._settings)])

    def is_up(self) -> bool:
        return takes_connections(self.url)


@pytest.fixture
def pgbouncer(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("there is no pgbouncer on PATH")
    with Pgbouncer(program, postgres_url, tmp_path / "pgbouncer.ini") as pooler:
        yield pooler.url


def test_through_a_pooler_in_transaction_mode(pgbouncer: str, make_postgres_store: Make) -> None:
    store = make_postgres_store(url=pgbouncer)
    session = SessionDriver(store)
    session.configure(t_x={"andEvery": "go"})

    def work() -> None:
        for _ in range(20):
            session.fire("go")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert session.header.created("t_x") == 80
    check_store(store)


def test_a_joined_transaction_through_a_pooler(pgbouncer: str, make_postgres_store: Make) -> None:
    store, called = make_postgres_store(url=pgbouncer), list[str]()
    SessionDriver(store).configure(t_x={"andEvery": "go"})
    for ended in ("rolled back", "committed"):
        with psycopg.connect(pgbouncer) as connection:
            joined = store.joined(connection)
            SessionDriver(joined).fire("go")
            joined.when_committed(partial(called.append, ended))
            if ended == "rolled back":
                connection.rollback()
    store.follow_up()
    assert (called, SessionDriver(store).header.created("t_x")) == (["committed"], 1)
