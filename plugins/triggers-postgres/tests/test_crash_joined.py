"""``BEGIN; insert order; fire; COMMIT; dispatch``, killed at each operation of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from joined_app import triggers
from wire import Killer, Wire

from triggers_core.application import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_postgres import PostgresStore

PROGRAM = Path(__file__).parent / "joined_crash.py"
MOST = 400  # operations of one such transaction; there are some forty

Pay = Callable[[str, int, str], int]


@contextmanager
def paying(*arguments: str, connection: psycopg.Connection[Any]) -> Iterator[Pay]:
    """Has processes pay orders: (kind, number, where) → exit code, when nothing of it is left."""
    program = subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert program.stdin is not None
    assert program.stdout is not None

    def pay(kind: str, number: int, where: str = "-") -> int:
        print(kind, number, where, file=program.stdin, flush=True)
        pid, status = program.stdout.readline().split()  # type: ignore[union-attr]
        of_it = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
        while connection.execute(of_it, (f"crash-{pid}",)).fetchone():
            pass  # the server has not noticed yet
        return int(status)

    with program:
        yield pay
        program.stdin.close()


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy", "django"])
def test_the_order_is_there_if_and_only_if_its_event_is(
    kind: str,
    app: Application,
    store: PostgresStore,
    postgres_url: str,
    connection: psycopg.Connection[Any],
    orders: str,
    tmp_path: Path,
) -> None:
    store.set_up()
    journal, killer, torn = tmp_path / "journal", Killer(), []
    journal.touch()

    def check(number: int) -> bool:
        """Whether the order is there; all of its session then is, or nothing."""
        select = f"SELECT 1 FROM {orders} WHERE number = {number}"
        there = connection.execute(select).fetchone() is not None
        manager = app.manager(f"order:{number}")
        due = [each.record.due_at for each in manager.storage.instances.values()]
        found = (triggers(manager), [each is not None for each in due])
        dispatched = f"order:{number}" in journal.read_text().split()
        if found != ((["paid"], [True]) if there else ([], [])):
            torn.append(f"{kind} {number}: order {there}, session {found}")
        if dispatched and not there:
            torn.append(f"{kind} {number}: dispatched, and not there")
        return there

    with (
        Wire(postgres_url) as wire,
        paying(
            *(postgres_url, wire.url, store.schema, orders, str(journal)), connection=connection
        ) as pay,
    ):
        wire.before = killer
        for number in range(1, MOST):
            killer.at, killer.reached = number, []
            status = pay(kind, number)
            there = check(number)
            if status == 0:
                break
            assert status == -signal.SIGKILL
        assert there, "it came to its end, and stored nothing"
        points, killer.at = number + 1, None
        assert f"order:{number}" in journal.read_text().split()
        for where in ("before", "after"):
            number += 1
            assert pay(kind, number, where) == -signal.SIGKILL
            assert check(number), f"it died {where} its dispatch, long after its commit"
            assert swept(store, number) == ["t_ship#0"]
    assert not torn
    print(f"{kind}: {points} crash points: {len(torn)} torn")
    assert points > 20


def swept(store: PostgresStore, number: int) -> list[str]:
    """The instances of an order that a sweep dispatches, an hour later."""
    now = store.now()
    later = PostgresStore(store.url, schema=store.schema, clock=lambda: now + 3_600, num_workers=1)
    settings = Settings.isolated(TRIGGER_PLUGINS=[])
    with Application("swept", settings, store=later, runner=ManualRunner) as app:
        return [name for name, _ in app.manager(f"order:{number}").recover().dispatch]
