"""While a commit decides on a SQLite file, nobody else writes to it, whatever program they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from triggers_core.engine.commands import Fire
from triggers_core.engine.protocol import Rules
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.driver import SessionDriver


class Watched:
    """A fire that another program tries to write beside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def decide(self, uid: str, rules: Rules) -> Any:
        plan = yield from Fire(trigger="a", payload=b"{}", event_id="e").decide(uid, rules)
        locked = pytest.raises(sqlite3.OperationalError, match="locked")
        with closing(sqlite3.connect(self.path, timeout=0)) as beside, locked:
            beside.execute("BEGIN IMMEDIATE")
        return plan


def test_nobody_writes_while_a_commit_decides(fast_dir: Path) -> None:
    path = fast_dir / "triggers.db"
    with SqliteStore(path) as store:
        session = SessionDriver(store)
        session.fire("first")
        session.commit(Watched(path))
        assert session.fired() == ["first", "a"]


def test_nor_while_a_transaction_lasts(fast_dir: Path) -> None:
    path = fast_dir / "triggers.db"
    with SqliteStore(path) as store:
        session = SessionDriver(store)
        session.fire("first")
        with store.transaction():
            session.commit(Watched(path))
        assert session.fired() == ["first", "a"]
