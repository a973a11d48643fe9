"""Metrics: counted by commit, measured by the storage's clock, with few labels."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions

from triggers_core import TaskContext, hookimpl
from triggers_core.engine.attempts import Claim
from triggers_core.runners.manual import ManualRunner
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock
from triggers_otel.fleet import missing_triggers
from triggers_otel.metrics import Instruments
from triggers_otel.tallies import OTHER, Bounded, Tally


def nothing(context: TaskContext) -> None:
    pass


def test_events_by_who_fired_them(make: Any, telemetry: Any) -> None:
    def body(context: TaskContext) -> None:
        context.fire("inner")

    class Adds:
        @hookimpl
        def before_commit(self, session: Any, plan: Any) -> None:
            if session.has_fired("inner") and not session.has_fired("added"):
                plan.fire("added")

    manager = make(plugins=(Adds(),), body=body).manager("s")
    manager.update_configuration({"t": {"andEvery": "go", "run": "body"}})
    for _ in range(3):
        manager.fire("go")
    manager.fire("go", event_id="e")
    manager.fire("go", event_id="e")  # a duplicate is no event
    assert manager.join(120)
    assert telemetry.values("triggers.events") == {
        ("go", "application"): 4,
        ("inner", "instance"): 4,
        ("t", "instance"): 4,
        ("added", "plugin"): 1,
    }


def test_attempts_by_outcome(make: Any, telemetry: Any) -> None:
    def body(context: TaskContext) -> None:
        how = context.trigger_kwargs["go"].get("how")
        if how == "fail":
            raise ValueError
        if how == "skip":
            raise context.skip()
        if how == "retry" and not context.retries:
            raise context.retry()

    manager = make("sqlite", body=body).manager("s")
    manager.update_configuration({"t": {"andEvery": "go", "run": "body"}})
    for how in ("", "", "fail", "skip", "retry"):
        manager.fire("go", {"how": how})
    assert manager.join(120)
    expected = {("finished", "t"): 3, ("failed", "t"): 1, ("skipped", "t"): 1, ("retried", "t"): 1}
    assert telemetry.values("triggers.attempts") == expected
    measured = {k: p.count for k, p in telemetry.points("triggers.attempt.duration").items()}
    assert measured == expected
    assert telemetry.points("triggers.start.delay")[("t",)].count == 5, "replays waited for nothing"


@pytest.fixture
def clocked(make: Any, telemetry: Any) -> Any:
    """An application on a store whose clock is the test's; attempts when told to."""
    clock = VirtualClock(1_000_000.0)
    parts = {"store": MemoryStore(clock), "runner": ManualRunner}
    settings = {"TRIGGER_TIMING": {"attempts": 2}}
    return make(parts=parts, settings=settings, body=nothing), clock


def test_how_long_each_trigger_was_waited_for(clocked: Any, telemetry: Any) -> None:
    app, clock = clocked
    manager = app.manager("s")
    manager.update_configuration({"t": {"after": ["a", "b", "c"], "run": "body"}})
    for trigger, pause in (("a", 0), ("b", 60), ("c", 86_400)):
        clock.advance(pause)
        manager.fire(trigger)
    clock.advance(7)
    assert manager.join(120)
    sums = {k: p.sum for k, p in telemetry.points("triggers.trigger.wait").items()}
    assert sums == {("a", "t"): 0.0, ("b", "t"): 60.0, ("c", "t"): 86_460.0}
    assert telemetry.points("triggers.start.delay")[("t",)].sum == 7.0


def test_a_lease_that_runs_out_is_counted(clocked: Any, telemetry: Any) -> None:
    app, clock = clocked
    manager = app.manager("s")
    manager.update_configuration({"t": {"after": ["a"], "run": "body"}})
    manager.fire("a")
    for attempt in (1, 2):
        generation = manager.storage.header.generation
        manager.commit(Claim(instance="t#0", attempt=attempt, generation=generation))
        clock.advance(61)
        manager.recover()
    assert manager.storage["t#0"].status == "failed"
    assert telemetry.values("triggers.leases.lost") == {("t",): 2}
    assert telemetry.values("triggers.attempts") == {("lost", "t"): 2}


def test_sessions_that_wait_by_what_is_missing(make: Any, telemetry: Any) -> None:
    app = make(options={"waiting_every": 1e-9}, body=nothing)
    for number in range(5):
        manager = app.manager(f"order:{number}")
        manager.update_configuration(
            {
                "t": {"after": ["paid", "packed"], "run": "body"},
                "u": {"after": ["paid", {"anyOf": ["x", "y"]}], "run": "body"},
                "v": {"andEvery": "packed", "run": "body"},
            }
        )
        manager.fire("paid")
        if number % 2:
            manager.fire("packed")
        assert manager.join(120)
    counted = {("packed",): 3, ("x",): 5, ("y",): 5}
    assert telemetry.values("triggers.sessions.waiting") == counted
    largest = {"packed": 3, "x": 3, "y": 3}
    assert missing_triggers(app.store, 1) == largest, "one group is read, no more"
    for number in range(5):
        app.manager(f"order:{number}").fire("x")
    app.manager("order:1").join(120)
    assert telemetry.values("triggers.sessions.waiting") == {("packed",): 3}


def test_what_was_read_is_shown_for_a_while(make: Any, telemetry: Any) -> None:
    app = make(body=nothing)
    app.manager("s").update_configuration({"t": {"after": ["a", "b"], "run": "body"}})
    app.manager("s").fire("a")
    assert telemetry.values("triggers.sessions.waiting") == {("b",): 1}
    app.manager("s").update_configuration({"u": {"after": ["a", "c"], "run": "body"}})
    app.manager("s").fire("a")
    assert telemetry.values("triggers.sessions.waiting") == {("b",): 1}
    assert missing_triggers(app.store, 100) == {"b": 1, "c": 1}


def test_what_comes_by_itself_and_what_merely_waits_for_more_is_not_missing(make: Any) -> None:
    app = make(body=nothing)
    app.manager("s").update_configuration(
        {
            "held": {"after": ["a"], "waiting": 60, "run": "body"},
            "again": {"after": ["a", "b"], "everyTime": True, "run": "body"},
            "stuck": {"after": ["a", "c"], "run": "body"},
        }
    )
    for trigger in ("a", "b", "a"):
        app.manager("s").fire(trigger)
    assert app.manager("s").join(120)
    waiting = app.manager("s").get_unresolved_instances()
    assert {each.name for each in waiting} == {"held#0", "again#1", "stuck#0"}
    assert missing_triggers(app.store, 100) == {"c": 1}


def test_none_are_read_if_that_is_asked_for(make: Any, telemetry: Any) -> None:
    app = make(options={"waiting_groups": 0}, body=nothing)
    app.manager("s").update_configuration({"t": {"after": ["a", "b"], "run": "body"}})
    app.manager("s").fire("a")
    assert telemetry.values("triggers.sessions.waiting") == {}


def test_the_lag_of_the_sweep(clocked: Any, telemetry: Any) -> None:
    app, clock = clocked
    manager = app.manager("s")
    manager.update_configuration({"t": {"after": ["a"], "run": "body"}})
    manager.fire("a")
    assert telemetry.values("triggers.sweep.lag") == {("memory",): 0.0}
    clock.advance(60 + 25)
    assert telemetry.values("triggers.sweep.lag") == {("memory",): 25.0}
    app.recover()
    assert telemetry.values("triggers.sweep.lag") == {("memory",): 0.0}


def test_a_store_that_cannot_be_asked_harms_no_other_metric(
    make: Any, telemetry: Any, monkeypatch: Any, caplog: Any
) -> None:
    app = make(body=nothing)
    app.manager("s").fire("a")

    def away(*_: Any, **__: Any) -> None:
        raise OSError("away: password=hunter2")

    monkeypatch.setattr(type(app.store), "sessions", away)
    monkeypatch.setattr(type(app.store), "next_due", away)
    assert telemetry.values("triggers.events") == {("a", "application"): 1}
    assert telemetry.values("triggers.sweep.lag") == {("memory",): 0.0}
    assert "metrics: the memory of this process cannot be asked: away: password=***" in caplog.text


def test_no_metrics(make: Any, telemetry: Any) -> None:
    make(options={"metrics": False}).manager("s").fire("a")
    assert telemetry.values("triggers.events") == {}
    assert telemetry.values("triggers.sweep.lag") == {}
    assert telemetry.span("fire a") is not None


def test_no_label_holds_what_a_session_says(make: Any, telemetry: Any) -> None:
    manager = make(body=nothing).manager("secret-uid-17")
    manager.update_configuration({"t": {"after": ["a"], "run": "body"}})
    manager.fire("a", {"amount": "secret-kwargs"}, event_id="secret-event-id")
    assert manager.join(120)
    data = telemetry.reader.get_metrics_data().to_json()
    assert "triggers.start.delay" in data
    assert "secret" not in data


# -- labels ---------------------------------------------------------------------------------------


def observed(tally: Tally) -> dict[tuple[Any, ...], float]:
    found = tally.observe(CallbackOptions())
    return {tuple((each.attributes or {}).values()): each.value for each in found}


def test_labels_are_bounded() -> None:
    tally = Tally(("trigger", "source"), most=2)
    for trigger in "abcdab":
        tally.add((trigger, "x"))
    assert observed(tally) == {("a", "x"): 2, ("b", "x"): 2, (OTHER, OTHER): 2}
    bounded = Bounded(most=1)
    assert [bounded((each,)) for each in "aba"] == [("a",), (OTHER,), ("a",)]


def test_invented_names_are_bounded(make: Any, telemetry: Any, monkeypatch: Any) -> None:
    instruments: Instruments = telemetry.plugin._instruments
    monkeypatch.setattr(instruments.events, "_most", 3)
    manager = make().manager("s")
    for number in range(10):
        manager.fire(f"page:{number}")
    values = telemetry.values("triggers.events")
    assert len(values) == 4
    assert values[OTHER, OTHER] == 7


def test_threads_count_together() -> None:
    tally = Tally(("n",))

    def count() -> None:
        for _ in range(2_000):
            tally.add(("a",))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert observed(tally) == {("a",): 8_000}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_begins_at_nothing() -> None:
    tally = Tally(("n",))
    for _ in range(5):
        tally.add(("a",))
    child = os.fork()
    if not child:
        os._exit(len(observed(tally)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert observed(tally) == {("a",): 5}
