"""What falls due soon, told by one process and heard by the sweep of another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from joined_app import PATIENCE, until
from sqlalchemy import orm

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore, listening
from triggers_postgres.testing import PostgresServer

HOUR = 3_600.0
HELD = {"t_remind": {"after": ["placed"], "waiting": 0.3, "run": "due_notices.Remind"}}
ran = threading.Event()


@trigger_task(name="due_notices.Remind")
def remind(context: TaskContext) -> None:
    ran.set()


FIRES = """
import sys
from triggers_core.application import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

settings = Settings.isolated(TRIGGER_TIMING={"sweep": 3600.0}, TRIGGER_PLUGINS=[])
store = PostgresStore(sys.argv[1], schema=sys.argv[2])
with Application("shop", settings, store=store, runner=ManualRunner) as app:
    app.manager("order:1").fire("placed")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One that may be restarted."""
    with PostgresServer(
        tmp_path_factory.mktemp("due"), options={"max_prepared_transactions": "4"}
    ) as made:
        yield made


@pytest.fixture
def store(
    server: PostgresServer, make_postgres_store: Callable[..., PostgresStore]
) -> PostgresStore:
    return make_postgres_store(url=server.url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    ran.clear()
    monkeypatch.setattr(listening, "_RECONNECT", 0.05)
    until_nobody_listens()  # of an earlier test


class Calls:
    """Counts how often it was called back."""

    def __init__(self) -> None:
        self.count = 0
        self._some = threading.Condition()

    def __call__(self) -> None:
        with self._some:
            self.count += 1
            self._some.notify_all()

    def reach(self, count: int) -> None:
        """Wait for so many calls; there must not be more by then."""
        with self._some:
            self._some.wait_for(lambda: self.count >= count, PATIENCE)
            assert self.count == count


@pytest.fixture
def calls(store: PostgresStore) -> Calls:
    """It is called back already since the connection is there."""
    made = Calls()
    store.watch_due(made)
    made.reach(1)
    return made


def tell(store: PostgresStore) -> None:
    """Something falls due soon, as another process would store it."""
    with PostgresStore(store.url, store.schema, num_workers=1) as other:
        session = SessionDriver(other, "order:2")
        session.configure(t_remind={"after": ["placed"], "waiting": 0.5})
        session.fire("placed")


def listeners(store: PostgresStore) -> list[int]:
    """The backends that listen for this store."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = %s",
            (f'LISTEN "{store.tables.sql.due_channel}"',),
        )
        return [pid for (pid,) in rows]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "triggers-postgres-due"]


def until_nobody_listens(store: PostgresStore | None = None) -> None:
    """The thread has a second to end in before nobody waits for it; its backend ends by itself."""
    until(lambda: threads() == [], "the end of the thread")
    if store is not None:
        until(lambda: listeners(store) == [], "the end of its connection")


# -- across processes ------------------------------------------------------------------------------


def test_a_sweep_hears_of_what_another_process_holds(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look again in an hour."""
    asleep = threading.Event()

    settings = Settings.isolated(TRIGGER_TIMING={"sweep": HOUR}, TRIGGER_PLUGINS=[])
    with Application("shop", settings, store=store) as app:
        app.manager("order:1").update_configuration(HELD)
        app.runner().wake()
        runner: Any = app.runner()
        sweep = runner.sweep

        def swept() -> float:
            pause: float = sweep()
            if store.due_watch.listening and pause > 60:
                asleep.set()
            return pause

        monkeypatch.setattr(runner, "sweep", swept)
        runner.wake()
        assert asleep.wait(PATIENCE)
        program = tmp_path / "fires.py"
        program.write_text(FIRES)
        subprocess.run(
            [sys.executable, str(program), store.url, store.schema], check=True, timeout=60
        )
        assert ran.wait(PATIENCE)
    until_nobody_listens()


def test_each_wakes_only_its_own(
    store: PostgresStore, calls: Calls, make_postgres_store: Callable[..., PostgresStore]
) -> None:
    tell(make_postgres_store(url=store.url))
    tell(store)
    calls.reach(2)


# -- when it fails ---------------------------------------------------------------------------------


def test_a_listener_whose_backend_is_ended(store: PostgresStore, calls: Calls) -> None:
    [pid] = listeners(store)
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    calls.reach(2)  # there is another one: something may have been missed
    tell(store)
    calls.reach(3)


def test_a_server_that_is_restarted(
    server: PostgresServer, store: PostgresStore, calls: Calls
) -> None:
    server.restart()
    calls.reach(2)
    tell(store)
    calls.reach(3)


def test_no_connection_for_it(server: PostgresServer, store: PostgresStore) -> None:
    """The sweep comes by its interval, and nothing else fails."""
    store.set_up()
    user = f"u_{store.schema}"[:60]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN SUPERUSER")
        connection.execute(f"ALTER ROLE {user} NOSUPERUSER CONNECTION LIMIT 1")
        connection.execute(f"GRANT ALL ON SCHEMA {store.schema} TO {user}")
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
            connection.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA {store.schema} TO {user}")
    poor = PostgresStore(
        psycopg.conninfo.make_conninfo(server.url, user=user),
        store.schema,
        num_workers=1,
        min_size=1,
        max_size=1,
    )
    poor.now()  # has the one connection
    settings = Settings.isolated(TRIGGER_TIMING={"sweep": 0.1}, TRIGGER_PLUGINS=[])
    with Application("shop", settings, store=poor) as app:
        app.manager("order:1").update_configuration(HELD)
        app.runner().wake()
        SessionDriver(store, "order:1").fire("placed")
        assert ran.wait(PATIENCE)
        assert threads() == ["triggers-postgres-due"]
        assert not poor.due_watch.listening


def test_told_not_to_listen(make_postgres_store: Callable[..., PostgresStore]) -> None:
    store = make_postgres_store(listen=False)
    store.watch_due(Calls())
    assert threads() == []


# -- its end ---------------------------------------------------------------------------------------


def test_thread_and_connection_end_with_the_store_and_begin_anew(
    store: PostgresStore, calls: Calls
) -> None:
    store.watch_due(calls)
    assert (threads(), len(listeners(store))) == (["triggers-postgres-due"], 1)
    store.close()
    until_nobody_listens(store)
    store.watch_due(calls)
    calls.reach(2)
    other = Calls()
    store.watch_due(other)
    store.unwatch_due(other)
    store.unwatch_due(other)
    assert len(listeners(store)) == 1
    store.unwatch_due(calls)
    until_nobody_listens(store)


def test_nothing_of_it_is_left_in_the_child_of_a_fork(store: PostgresStore, calls: Calls) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(PATIENCE)  # rather than hang
        try:
            left = (store.due_watch.listening, threads())
            own = Calls()
            store.watch_due(own)
            own.reach(1)
            store.close()
            until_nobody_listens()
            status = 0 if left == (False, []) else 2
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    tell(store)
    calls.reach(2)


# -- what is told ----------------------------------------------------------------------------------


@pytest.fixture
def told(store: PostgresStore) -> Iterator[Callable[[], int]]:
    """How many notifications have been sent since the last call."""
    heard: list[str] = []
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.add_notify_handler(lambda notify: heard.append(notify.payload))
        connection.execute(f'LISTEN "{store.tables.sql.due_channel}"')

        def told() -> int:
            # They come in the order of the commits: this one is the last.
            connection.execute(f"NOTIFY \"{store.tables.sql.due_channel}\", 'over'")
            while "over" not in heard:
                connection.execute("SELECT 1")
            before = heard.index("over")
            heard.clear()
            return before

        yield told


def test_what_is_worth_telling(store: PostgresStore, told: Callable[[], int]) -> None:
    session = SessionDriver(store)
    session.configure(
        t_now={"andEvery": "go"},
        t_later={"after": ["placed"], "waiting": "2 days", "within": "3 days"},
        t_each={"andEvery": "page", "waiting": 1.0},
        t_soon={"andEvery": "note", "waiting": 0.5},
    )
    session.fire("go")
    claimed = session.claim("t_now#0")
    session.heartbeat(claimed)
    session.finish(claimed)
    session.fire("placed")
    assert told() == 0, "sweeps find all of that in time"
    session.fire("page")
    assert told() == 1
    for _ in range(5):
        session.fire("page")
    assert told() == 0, "whoever looks at the first of them sees the others"
    session.fire("note")
    assert told() == 1, "it is due before those"


def test_only_a_commit_tells(
    store: PostgresStore, told: Callable[[], int], connect: Callable[..., Any]
) -> None:
    """Within a transaction of the application; nor is what is rolled back taken for told."""
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    with Application("shop", settings, store=store, runner=ManualRunner) as app:
        manager = app.manager("order:1")
        manager.update_configuration(
            {"t_each": {"andEvery": "page", "waiting": 1.0, "run": "due_notices.Remind"}}
        )
        with psycopg.connect(store.url) as connection:
            manager.using(connection).fire("page")
            assert told() == 0
            connection.rollback()
            manager.using(connection).fire("page")
            connection.commit()
            assert told() == 1


@pytest.mark.parametrize("kind", ["psycopg", "Connection", "Session", "Session on a Connection"])
def test_a_transaction_that_is_prepared_tells_nothing(
    kind: str, store: PostgresStore, told: Callable[[], int]
) -> None:
    """PostgreSQL would refuse to prepare it."""
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(store.url)
    )
    with Application("shop", settings, store=store, runner=ManualRunner) as app:
        manager = app.manager("order:1")
        manager.update_configuration(HELD)
        if kind == "psycopg":
            with psycopg.connect(store.url) as connection:
                connection.tpc_begin(connection.xid(1, store.schema, "1"))
                manager.using(connection).fire("placed")
                connection.tpc_prepare()
                connection.tpc_commit()
        elif kind == "Session":
            with orm.Session(engine, twophase=True) as session:
                manager.using(session).fire("placed")
                session.commit()
        else:
            with engine.connect() as joined, joined.begin_twophase() as transaction:
                bound = joined if kind == "Connection" else orm.Session(joined)
                manager.using(bound).fire("placed")
                transaction.prepare()
        engine.dispose()
        assert (told(), len(manager.storage.events)) == (0, 1)
