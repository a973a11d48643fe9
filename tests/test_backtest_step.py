"""A backtest takes an event and all that it makes ready in one commit, and many of those in one
transaction: what comes out is what came out one commit at a time, also when it is torn apart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application
from recorded_logs import recorded_log

import triggers_core.backtest
from triggers_core import Application, hookimpl
from triggers_core.backtest import BacktestResult, backtest, recorded_events
from triggers_core.engine import backtest_step
from triggers_core.engine.additions import CommitPlan, CommitSession
from triggers_core.engine.backtest_step import Unusual
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.exceptions import InvalidEvent
from triggers_core.storages import packed
from triggers_core.storages.base import Store
from triggers_core.storages.sqlite import SqliteStore, writing
from triggers_core.testing import VirtualClock, check_store
from triggers_core.testing.replays import instances_of

CHAIN = {
    "t_a": {"after": ["go"], "run": "x"},
    "t_b": {"after": ["t_a"], "run": "x"},
    "t_c": {"after": ["t_b"], "unless": ["stop"], "run": "x"},
    "t_d": {"after": ["t_c", "late"], "run": "x"},
    "t_e": {"andEvery": "t_d", "after": ["go"], "run": "x"},
    "t_every": {"andEvery": "go", "run": "x"},
}
TRIGGERS = ("late", "go", "go", "other", "late", "stop", "go")


def events(sessions: int = 3) -> list[dict[str, Any]]:
    return [
        {"session": f"s{number}", "trigger": trigger, "kwargs": {"n": number}}
        for trigger in TRIGGERS
        for number in range(sessions)
    ]


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, fast_dir: Path) -> Iterator[Application]:
    with application(request.param, fast_dir) as app:
        yield app


def everything(store: Store) -> list[Any]:
    """All that is stored, but for what is random or a time."""
    found: list[Any] = []
    for summary in store.sessions():
        header = store.load(summary.uid, Query()).header
        assert header is not None
        random = header.generation
        header.generation, header.created_at, header.updated_at = "", 0.0, 0.0
        header.waiting_since = None if header.waiting_since is None else 0.0
        recorded = store.events(summary.uid)
        for event in recorded:
            event.at = 0.0
        instances = store.instances(summary.uid)
        for each in instances:
            each.key = each.key.removeprefix(random)
            for name in ("due_at", "lease_until", "started_at", "ended_at"):
                setattr(each, name, None if getattr(each, name) is None else 0.0)
            each.created_at = 0.0
        found.append((summary.uid, summary.counts, header, recorded, instances))
    return found


def one_commit_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def __init__(self, fire: Any) -> None: ...

        def decide(self, uid: str, rules: Any) -> Any:
            raise Unusual("one at a time")

    monkeypatch.setattr(triggers_core.backtest, "Step", Never)


def replayed(config: dict[str, Any], log: Any, app: Application, store: Store) -> BacktestResult:
    result = backtest(config, log, store, app=app)
    check_store(store)
    return result


@pytest.mark.parametrize("at_most", [200, 2, 1])
def test_what_is_stored_is_the_same(
    app: Application, at_most: int, monkeypatch: pytest.MonkeyPatch, fast_dir: Path
) -> None:
    monkeypatch.setattr(backtest_step, "_MAX_INSTANCES", at_most)
    fast = everything(replayed(CHAIN, events(), app, app.store).store)
    one_commit_at_a_time(monkeypatch)
    with SqliteStore(fast_dir / "slow.db") as store:
        assert fast == everything(replayed(CHAIN, events(), app, store).store)
    assert fast


class Fragile:
    """Adds a trigger when a task ends, and fails for another one."""

    seen: list[Any]

    def __init__(self) -> None:
        self.seen = []

    @hookimpl
    def before_commit(self, session: CommitSession, plan: CommitPlan) -> None:
        ended = [c for c in plan.changes if c.instance.status is Status.FINISHED]
        self.seen += [(c.instance.name, c.before) for c in ended]
        if any(change.instance.task == "t_b" for change in ended):
            raise ValueError("out of order")
        if any(c.instance.task == "t_a" for c in ended) and not session.has_fired("late"):
            plan.fire("late", {"by": "plugin"})


def test_plugins_see_each_end_and_may_add_to_it_or_fail(
    app: Application, monkeypatch: pytest.MonkeyPatch, fast_dir: Path
) -> None:
    plugin = Fragile()
    app.plugins.register(plugin, "fragile")
    log = [{"session": "s", "trigger": "go"}]
    fast = everything(replayed(CHAIN, log, app, app.store).store)
    one_commit_at_a_time(monkeypatch)
    with SqliteStore(fast_dir / "slow.db") as store:
        assert fast == everything(replayed(CHAIN, log, app, store).store)
        instance = app.storage("s")["t_b#0"]
        assert instance.metadata["plugins_left_out"]["fragile"].endswith("out of order")
        assert [event.trigger for event in store.events("s")].count("late") == 1
    assert ("t_a#0", Status.RUNNING) in plugin.seen


def test_a_task_without_room_for_another_instance_fails_as_ever(app: Application) -> None:
    config = {"t_a": {"andEvery": "go", "run": "x"}, "t_b": {"andEvery": "t_a", "run": "x"}}
    app.settings.configure(TRIGGER_LIMITS={"instances": 2})
    log = [{"session": "s", "trigger": "go"} for _ in range(3)]
    with pytest.raises(InvalidEvent, match="event 2 of the log: t_a: it has 2 instances"):
        backtest(config, log, app.store, app=app)
    assert app.store.sessions()[0].counts["t_b"][3] == 2
    check_store(app.store)


# -- torn apart ------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", range(1, 126, 7))
def test_torn_away_while_it_writes(
    fast_dir: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that half of a commit stands in is not kept; the same call completes it."""
    with SqliteStore(fast_dir / "torn.db", clock=VirtualClock()) as store:
        statements = 0
        save = writing.save

        def torn(connection: Any, *arguments: Any) -> None:
            class Torn:
                def execute(self, *statement: Any) -> Any:
                    nonlocal statements
                    statements += 1
                    if statements == moment:
                        raise KeyboardInterrupt
                    return connection.execute(*statement)

            save(Torn(), *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(writing, "save", torn)
        monkeypatch.setattr(triggers_core.backtest, "_TOGETHER", 5)
        with pytest.raises(KeyboardInterrupt):
            backtest(CHAIN, events(), store)
        check_store(store)
        monkeypatch.undo()
        completed = backtest(CHAIN, events(), store)
        assert 0 <= completed.duplicates < len(events())
        check_store(store)
        with SqliteStore(fast_dir / "whole.db", clock=VirtualClock()) as whole:
            assert everything(store) == everything(backtest(CHAIN, events(), whole).store)


def test_what_was_whole_is_kept_when_the_log_cannot_be_read_on(app: Application) -> None:
    def log() -> Iterator[dict[str, Any]]:
        yield from events()[:5]
        raise OSError("the network drive is gone")

    with pytest.raises(OSError, match="network drive"):
        backtest(CHAIN, log(), app.store, app=app)
    check_store(app.store)
    assert backtest(CHAIN, events(), app.store, app=app).duplicates == 5


def test_no_event_is_lost_on_a_line_that_is_none(app: Application) -> None:
    with pytest.raises(InvalidEvent, match="event 1 of the log"):
        backtest(CHAIN, [*events()[:1], None, *events()[1:]], app.store, app=app)  # type: ignore[list-item]


# -- packed ----------------------------------------------------------------------------------------


def test_sessions_that_are_packed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_MAX_OPEN", 2)
    monkeypatch.setattr(packed, "_MAX_UNCOMPRESSED", 3)
    monkeypatch.setattr(packed, "_PAGE", 3)
    log = recorded_log("receipt_sample")
    result = backtest(log.config, log.events(), stuck_at_most=7)
    assert isinstance(result.store, packed.PackedStore)
    assert instances_of(result.store) == log.instances()
    check_store(result.store)
    everybody = [each.uid for each in result.store.sessions()]
    assert everybody == sorted(everybody)
    assert [each.uid for each in result.store.sessions(limit=3, after=everybody[4])] == (
        everybody[5:8]
    )
    waiting = result.store.sessions(waiting=True)
    assert result.stuck == waiting[:7]
    assert result.store.delete(everybody[5])
    assert [each.uid for each in result.store.sessions(limit=2, after=everybody[4])] == (
        everybody[6:8]
    )


def test_sessions_as_a_log(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the application fired comes again, page by page; the rest comes by itself."""
    monkeypatch.setattr("triggers_core.backtest.log._PAGE", 2)
    backtest(CHAIN, events(), app.store, app=app)
    app.manager("s0").fire("other", {"at": date(2026, 12, 1)}, event_id="stripe:evt_1")
    again = list(recorded_events(app))
    assert [each.trigger for each in again if each.session == "s1"] == list(TRIGGERS)
    assert (again[7].id, again[7].kwargs) == ("stripe:evt_1", {"at": date(2026, 12, 1)})
    result = backtest(CHAIN, again)
    assert result.tasks == backtest(CHAIN, events()).tasks
    assert (result.sessions, result.events, result.duplicates) == (3, 22, 0)


def test_generated_ids_are_left_to_the_session_that_made_them(app: Application) -> None:
    app.manager("s0").fire("go")
    [event] = recorded_events(app)
    assert event.id is None
