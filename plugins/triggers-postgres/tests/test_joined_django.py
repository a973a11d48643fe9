"""Fires within Django's transactions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from triggers_postgres import PostgresStore

PROGRAM = Path(__file__).parent / "joined_django.py"


def test_django(store: PostgresStore, postgres_url: str, orders: str) -> None:
    pytest.importorskip("django")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), postgres_url, store.schema, orders],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "rolled_back",
        "savepoints",
        "outside_of_a_transaction",
        "managed_by_hand",
        "a_conflict_ends_the_block",
        "fired_past_the_open_transaction",
        "captured_by_a_test",
        "other_databases",
    ]
