"""Callbacks after the commits of others: at the end of a process, after a fork, and in numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from joined_app import PATIENCE, Connect, Heard, settled, triggers

from triggers_core import TriggerManager
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import HookFailed
from triggers_core.testing.driver import SessionDriver, rules_with
from triggers_postgres import PostgresStore
from triggers_postgres.outcomes import Pending

ENDS = """
import sys
import psycopg
from triggers_core.application import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

url, schema = sys.argv[1:]

class Told:
    from triggers_core import hookimpl
    @hookimpl
    def post_fire(self, manager, event, scheduled):
        print(event.trigger, flush=True)

app = Application(
    "ends",
    Settings.isolated(TRIGGER_PLUGINS=[Told()]),
    store=PostgresStore(url, schema=schema),
    runner=ManualRunner,
)
with psycopg.connect(url) as connection:
    app.manager("order:1").using(connection).fire("paid")
"""


def test_a_process_that_ends_right_after_its_commit(
    store: PostgresStore, postgres_url: str, tmp_path: Path
) -> None:
    program = tmp_path / "ends.py"
    program.write_text(ENDS)
    done = subprocess.run(
        [sys.executable, str(program), postgres_url, store.schema],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert done.stdout == "paid\n", done.stderr


def test_a_forked_process_leaves_it_to_its_parent(
    manager: TriggerManager, heard: Heard, connect: Connect, store: PostgresStore
) -> None:
    connection = connect()
    manager.using(connection).fire("paid")
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(PATIENCE)  # rather than hang
        try:
            waited = store.outcomes.waiting
            store.follow_up()
            called: list[str] = []
            with psycopg.connect(store.url) as own:  # the parent's is not to be touched
                joined = manager.sibling("order:2").using(own)
                joined.fire("packed")
                joined.storage.store.when_committed(lambda: called.append("child"))
            store.follow_up()
            status = 0 if (waited, called) == (0, ["child"]) else 2
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    connection.commit()
    heard.wait_for("paid")
    assert (triggers(manager), triggers(manager.sibling("order:2"))) == (["paid"], ["packed"])


def test_many_transactions_in_many_threads(
    manager: TriggerManager, heard: Heard, connect: Connect
) -> None:
    """Half of them are rolled back; what follows comes once for each of the others."""

    def pay(number: int) -> None:
        connection = connect()
        for turn in range(10):
            manager.sibling(f"order:{number}").using(connection).fire(f"{number}.{turn}")
            if turn % 2:
                connection.rollback()
            else:
                connection.commit()

    threads = [threading.Thread(target=pay, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    settled(manager)
    expected = [f"{number}.{turn}" for number in range(6) for turn in range(0, 10, 2)]
    assert sorted(heard.triggers) == sorted(expected)
    for number in range(6):
        mine = [each for each in heard.triggers if each.startswith(f"{number}.")]
        assert mine == sorted(mine), "in the order of the commits"


SAVEPOINTS = """
CREATE TEMP TABLE IF NOT EXISTS noted (number int);
TRUNCATE noted;
DO $$ BEGIN
    FOR number IN 1..5000 LOOP
        BEGIN
            INSERT INTO noted VALUES (number);
        EXCEPTION WHEN division_by_zero THEN  -- a block with a handler is a savepoint
        END;
    END LOOP;
END $$
"""


def test_a_transaction_that_ends_while_the_server_looks_has_one_outcome(
    store: PostgresStore, connect: Connect
) -> None:
    """Else callbacks of its later savepoints would overtake those of its first."""
    store.set_up()
    seen: set[str | None] = set()
    other = connect(autocommit=True)
    for _ in range(10):
        connection = connect()
        connection.execute(SAVEPOINTS)
        (whole,) = connection.execute("SELECT pg_current_xact_id()::text::int8").fetchone() or ()
        read = connection.execute("SELECT xmin::text::int8 FROM noted ORDER BY number")
        ids = [(whole + (xmin - whole) % (1 << 32), whole) for (xmin,) in read.fetchall()]
        assert len({xid for xid, _ in ids}) == 5000
        other.execute("SELECT pg_current_xact_id()")  # ends, and is the newest
        committing = threading.Timer(0.02, connection.commit)
        committing.start()
        answer: set[str | None] = set()
        while answer != {"committed"}:
            answer = set(store.statuses(ids).values())
            assert len(answer) == 1, answer
            seen |= answer
        committing.join()
    assert seen == {"in progress", "committed"}


def test_ids_that_the_server_does_not_know(store: PostgresStore) -> None:
    """Lost along with a failover's last transactions: still to come, as far as it can tell."""
    called: list[str] = []
    store.set_up()
    store.outcomes.watch([Pending(2**62, 2**62, lambda: called.append("?"))])
    store.follow_up()
    assert (called, store.outcomes.waiting) == ([], 1)
    store.outcomes.watch([Pending(3, 3, lambda: called.append("too old"))])
    store.follow_up()
    assert (called, store.outcomes.waiting) == ([], 1)
    store.close()
    assert store.outcomes.waiting == 0


def test_the_thread_ends_with_the_store_and_begins_anew(
    manager: TriggerManager, heard: Heard, connect: Connect, store: PostgresStore
) -> None:
    earlier = threading.enumerate()  # those of stores that were closed just now are on their way

    def watching() -> list[threading.Thread]:
        mine = [each for each in threading.enumerate() if each not in earlier]
        return [each for each in mine if each.name.endswith("postgres-outcomes")]

    connection = connect()
    manager.using(connection).fire("paid")
    connection.commit()
    heard.wait_for("paid")
    [thread] = watching()
    store.close()
    thread.join(PATIENCE)
    assert watching() == []
    manager.using(connection).fire("packed")
    connection.commit()
    heard.wait_for("paid", "packed")


@pytest.mark.parametrize("where", ["joined", "outside"])
def test_a_hook_in_the_middle_of_a_joined_change(
    where: str, manager: TriggerManager, connect: Connect, store: PostgresStore
) -> None:
    """It would wait for the lock of its own transaction."""
    connection = connect()
    joined = store.joined(connection)
    other = SessionDriver(joined if where == "joined" else store, manager.uid)

    def fires(session: object, plan: object) -> None:
        other.fire("inner")

    hooked = SessionDriver(joined, manager.uid, rules_with("test", fires))
    with pytest.raises(HookFailed):
        hooked.fire("paid")
    SessionDriver(joined, manager.uid, Rules()).fire("packed")
    connection.commit()
    assert triggers(manager) == ["packed"]
