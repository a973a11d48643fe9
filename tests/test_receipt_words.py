"""A log of real events, with every word of the language: all instances and events, by an oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from applications import application
from words.receipt import EVERY, FEW, FOLDER, MISSING, QUARTERS, log_of, play

from triggers_core.backtest import backtest
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.clock import VirtualClock

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=MISSING)

LONG = pytest.mark.long
CASES = [
    pytest.param("memory", slice(100), id="memory"),
    pytest.param("sqlite", FEW, id="sqlite"),
    pytest.param("memory", EVERY, id="memory, all", marks=LONG),
    *(
        pytest.param("sqlite", part, id=f"sqlite, all, part {number}", marks=LONG)
        for number, part in enumerate(QUARTERS, 1)
    ),
]


@pytest.mark.parametrize(("storage", "sessions"), CASES)
def test_managers_and_sweeps(
    storage: str, sessions: slice, fast_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_store(clock: VirtualClock) -> Store:
        if storage == "memory":
            return MemoryStore(clock)
        return SqliteStore(fast_dir / "words.db", "NORMAL", clock)

    play(log_of(sessions, monkeypatch), open_store)


@pytest.mark.parametrize(("storage", "sessions"), CASES)
def test_a_backtest_with_bodies(
    storage: str, sessions: slice, fast_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(sessions, monkeypatch)
    with application(storage, fast_dir) as app:
        until = log.expected["until"]
        result = backtest(log.config, log.lines, app.store, app=app, run=True, until=until)
        log.check(result.store)
