"""What SQLite has to read for a change, in statements and in steps of its virtual machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from triggers_core.engine.machine import Draft
from triggers_core.engine.names import generated_id
from triggers_core.engine.protocol import MOST_DUE, Query, Snapshot
from triggers_core.engine.records import Event, Extent
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.storages.sqlite.reading import Found
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_core.testing.storage.moments import ByHand, due, new_instance


class Read(NamedTuple):
    snapshot: Snapshot
    statements: int
    steps: int


@pytest.fixture
def session(fast_dir: Path) -> Iterator[SessionDriver]:
    with SqliteStore(fast_dir / "reads.db", clock=VirtualClock()) as store:
        session = SessionDriver(store)
        session.configure(t_x={"after": ["a", "b"]})
        yield session


def read(session: SessionDriver, query: Query) -> Read:
    """Load a part of a session, and count."""
    store, statements, steps = session.store, list[str](), 0
    assert isinstance(store, SqliteStore)

    def step() -> None:
        nonlocal steps
        steps += 1

    def work(connection: sqlite3.Connection) -> Snapshot:
        connection.set_trace_callback(statements.append)
        connection.set_progress_handler(step, 10)
        try:
            return store._load(connection, session.uid, query, Found())
        finally:
            connection.set_trace_callback(None)
            connection.set_progress_handler(None, 0)

    snapshot = store.file.read(work)
    return Read(snapshot, len(statements), steps * 10)


def test_a_batch_of_what_is_due_costs_the_same_however_much_waits(session: SessionDriver) -> None:
    now = session.store.now()
    due(session, *(now + n for n in range(1_500)))
    few = read(session, Query(moments=now + 1_499))
    due(session, *(now + n for n in range(1_500, 9_000)))
    many = read(session, Query(moments=now + 8_999))
    for each in (few, many):
        assert len(each.snapshot.instances) == MOST_DUE
        assert each.snapshot.next_moment == now + MOST_DUE
    assert many.statements == few.statements == 2
    assert many.steps == pytest.approx(few.steps, rel=0.1)


def test_nothing_due_costs_nothing(session: SessionDriver) -> None:
    now = session.store.now()
    due(session, *(now + 100 + n for n in range(1_000)))
    found = read(session, Query(moments=now))
    assert found.snapshot.next_moment == now + 100
    assert (found.statements, found.steps < 500) == (2, True)


def test_a_fan_in_of_ten_thousand_is_one_read(session: SessionDriver) -> None:
    def create(draft: Draft) -> None:
        for n in range(10_000):
            payload = msgspec.Raw(b'{"n":%d}' % n)
            event = Event(id=generated_id(n), trigger="page", number=n, payload=payload)
            draft.events.append(event)
        draft.header.events = 10_000
        draft.header.latest["page"] = 9_999
        instance = new_instance(draft, "t_x")
        instance.taken = {"last": [9_999]}
        instance.extents = {"page": Extent(amount=9_998, first=1, last=9_998, trigger="page")}
        draft.schedule(instance)

    session.commit(ByHand(create))
    found = read(session, Query(instances=("t_x#0",), payloads=True))
    assert list(found.snapshot.numbered) == list(range(1, 10_000))
    assert found.statements == 3, "the header, the instance, its events"
    claimed = session.claim("t_x#0")
    pages = [{"n": n} for n in range(1, 9_999)]
    assert claimed.kwargs() == {"last": {"n": 9_999}, "page": pages}
