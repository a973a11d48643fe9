"""A kill at every operation around the finalizing commit: always exactly one finalization."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

import triggers_finalize.plugin
from triggers_core import Application, TaskContext, trigger_task
from triggers_core.running.sweep import recover
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import Crash, CrashingStore, CrashPoints, VirtualClock
from triggers_core.testing.faults.delivery import Broker, InlineRunner
from triggers_core.testing.faults.store import Journal


@trigger_task(name="crash_finalize.body")
def body(context: TaskContext) -> None:
    return None


CONFIGURATION = {
    "t_a": {"after": ["a"], "run": "crash_finalize.body"},
    "t_b": {"after": ["b", "t_a"], "run": "crash_finalize.body"},
    "t_report": {"after": ["sessionFinalized"], "run": "crash_finalize.body"},
}


def live(store: Store, clock: VirtualClock, crash_at: int | None = None) -> int:
    """One life of a process; returns how many crash points it came to."""
    points = CrashPoints(crash_at)
    settings = Settings.isolated(TRIGGER_PLUGINS=[triggers_finalize.plugin])
    app = Application("crash", settings, store=CrashingStore(store, points))
    runner = InlineRunner(app, points, Broker(), Journal())
    app.use_runner(runner)
    try:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        for trigger in ("a", "b"):
            manager.fire(trigger, event_id=trigger)
            runner.work()
        while store.next_due() is not None:
            clock.advance(100)
            recover(app.store, app.manager)
            runner.work()
    except Crash:
        assert crash_at is not None
    return len(points.reached)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_crash_point(kind: str, tmp_path: Path) -> None:
    for crash_at in count(1):
        clock = VirtualClock()
        path = tmp_path / f"{crash_at}.db"
        store: Store = MemoryStore(clock)
        if kind == "sqlite":
            store = SqliteStore(path, synchronous="NORMAL", clock=clock)
        reached = live(store, clock, crash_at)
        if isinstance(store, SqliteStore):
            store.close()
            store = SqliteStore(path, synchronous="NORMAL", clock=clock)
        live(store, clock)
        triggers = [event.trigger for event in store.events("s")]
        assert triggers.count("sessionFinalized") == 1, f"crash point {crash_at}: {triggers}"
        assert triggers.count("t_report") == 1
        store.close()
        if reached < crash_at:
            break
    assert crash_at > 20
    print(f"{crash_at - 1} crash points on {kind}: exactly one finalization each")
