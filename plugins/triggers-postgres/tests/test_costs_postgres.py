"""What a fire asks of the server: round trips, and no row that it does not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore, carrying
from triggers_postgres.steps import Last

Make = Callable[..., PostgresStore]


def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many statements each batch has that is sent from now on."""
    sent: list[int] = []
    write = carrying.write

    def noting(connection: Any, steps: Any, begin: bool = False) -> Any:
        def noted() -> Any:
            batch = next(steps)
            while True:
                sent.append(-len(batch) if isinstance(batch, Last) else len(batch))
                try:
                    batch = steps.send((yield batch))
                except StopIteration as done:
                    return done.value

        return write(connection, noted(), begin)

    monkeypatch.setattr(carrying, "write", noting)
    return sent


def test_two_round_trips_a_change(make_postgres_store: Make, monkeypatch: Any) -> None:
    """The first locks and reads; the second writes all, in one statement, and commits."""
    session = SessionDriver(make_postgres_store())
    session.configure(t_x={"after": ["a", "b"]}, t_y={"andEvery": "t_x"})
    session.fire("noise")  # this process has seen the configuration now
    sent = batches(monkeypatch)
    session.fire("noise")
    session.fire("a", event_id="mine")
    session.fire("b")
    assert sent == [1, -1] * 3
    sent.clear()
    claimed = session.claim("t_x#0")
    assert sent == [1, 1, -1], "which events it took is known when it is read"
    sent.clear()
    session.heartbeat(claimed)
    assert session.finish(claimed).scheduled == ["t_y#0"]
    assert sent == [1, -1] * 2
    sent.clear()
    assert session.fire("a", event_id="mine").status == "duplicate"
    assert sent == [1]


def touched(connection: psycopg.Connection[Any], schema: str) -> dict[str, int]:
    """Table → rows that were read or written, as the server counts them."""
    select = (
        "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) + n_tup_ins"
        " + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables WHERE schemaname = %s"
    )
    return dict(connection.execute(select, (schema,)).fetchall())


@pytest.mark.parametrize("analysed", [False, True])
def test_what_waits_for_something_else_is_not_read(
    make_postgres_store: Make, connection: psycopg.Connection[Any], analysed: bool
) -> None:
    """However many there are, and whatever the planner knows of them."""
    store = make_postgres_store()
    session = SessionDriver(store)
    session.configure(t_page={"after": ["subject"], "andEvery": "page"}, t_x={"after": ["a", "b"]})
    for _ in range(300):
        session.fire("page")
    if analysed:
        for table in ("sessions", "events", "instances", "waits"):
            connection.execute(f'ANALYZE "{store.schema}".{table}')
    read = store.tables.sql.lock_and_read
    for _ in range(10):  # so that the plans are those that are kept
        connection.execute(read, (session.uid, ["noise"], None, None, None))
    for trigger, most in (("noise", 0), ("a", 0), ("b", 1), ("page", 0)):
        with connection.transaction():
            before = touched(connection, store.schema)  # with what is not reported yet
            rows = connection.execute(read, (session.uid, [trigger], None, None, None)).fetchall()
            found = touched(connection, store.schema)
        read_now = {name: count - before[name] for name, count in found.items()}
        assert (len(rows) - 2, read_now["instances"]) == (most, most), trigger
        assert read_now["waits"] == most, trigger
        assert read_now["events"] == 0
        session.fire(trigger)
    with connection.transaction():
        rows = connection.execute(read, (session.uid, ["subject"], None, None, None)).fetchall()
    assert len(rows) == 2 + 301


def test_no_sequential_scan_of_what_is_due(
    make_postgres_store: Make, connection: psycopg.Connection[Any]
) -> None:
    store = make_postgres_store()
    store.set_up()
    connection.execute("SET enable_seqscan = off")
    for text, values in (
        (store.tables.sql.due, (None, 0.0, 10)),
        (store.tables.sql.due_ahead, (None, 10.0, 10)),
        (store.tables.sql.next_due, (None,)),
    ):
        plan = "\n".join(row for (row,) in connection.execute(f"EXPLAIN {text}", values))
        assert "instances_due" in plan
        assert "Sort" not in plan, plan
