"""Sessions that cannot be read."""

from __future__ import annotations

from typing import Any

import psycopg

from triggers_core.testing import SessionDriver
from triggers_postgres import PostgresStore


def test_a_damaged_session_takes_no_place_of_a_page(
    store: PostgresStore, connection: psycopg.Connection[Any]
) -> None:
    for uid in ("a", "b", "c"):
        SessionDriver(store, uid).configure(t_x={"after": ["more"]})
    damaged = f"UPDATE \"{store.schema}\".sessions SET header = '{{' WHERE uid = 'b'"
    connection.execute(damaged)  # type: ignore[arg-type]
    assert [each.uid for each in store.waiting_for((), limit=2)] == ["a", "c"]
    assert [each.uid for each in store.waiting_for(())] == ["a", "c"]
    assert store.waiting_for((), limit=0) == []
