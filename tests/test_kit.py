"""Workflows tested with the kit: what its users write, on every storage of ours."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from triggers_core import TaskContext, TriggerTask, trigger_task
from triggers_core.exceptions import (
    InstanceNotFound,
    InvalidArgument,
    InvalidEvent,
    TaskNotFound,
    UnknownKey,
    WrongState,
)
from triggers_core.tasks import registry
from triggers_core.testing import Triggers
from triggers_core.testing.kit.places import open_place

CONFIG = {
    "t_ship": {"after": ["paid", "stockReserved"], "unless": ["cancelled"], "run": "shop.Ship"}
}
REMIND = {"t_remind": {"after": ["placed"], "unless": ["paid"], "waiting": "2 days", "run": "x.Y"}}
LATE = {"t_ship": {"after": ["placed", "paid"], "within": "1 day", "otherwise": "late", "run": "x"}}
CHAIN = {
    "t_pay": {"after": ["placed"], "run": "shop.Pay"},
    "t_ship": {"after": ["t_pay"], "run": "shop.Ship"},
}

on_both = pytest.mark.parametrize("triggers", ["memory", "sqlite"], indirect=True)


class Doubled(TriggerTask):
    """A real body."""

    name = "test_kit.Doubled"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        context.fire("counted")
        return {"twice": 2 * context.trigger_kwargs["given"]["number"]}


REAL = {"t_double": {"after": ["given"], "run": Doubled.name}}


@on_both
def test_a_combination(triggers: Triggers) -> None:
    s = triggers.session(CONFIG)
    s.fire("paid", {"amount": 120})
    assert s.ran("t_ship") == 0
    s.fire("stockReserved")
    assert s.ran("t_ship") == 1
    assert s.instance("t_ship").kwargs["paid"] == {"amount": 120}
    s.advance("3 days")
    assert s.ran("t_ship") == 1


@on_both
def test_time(triggers: Triggers) -> None:
    s = triggers.session(REMIND)
    s.fire("placed")
    s.advance("47 hours")
    assert s.ran("t_remind") == 0
    s.advance(timedelta(hours=1))
    assert s.ran("t_remind") == 1


@on_both
def test_what_falls_due_does_so_at_its_own_moment_and_in_order(triggers: Triggers) -> None:
    s = triggers.session({**REMIND, **LATE, "t_told": {"after": ["late"], "run": "x.Tell"}})
    began = triggers.clock.now
    s.fire("placed")
    s.advance("30 days")
    assert s.fired("late") == s.ran("t_told") == 1
    moments = [s.instance(task).moment for task in ("t_ship", "t_told", "t_remind")]
    assert s.instance("t_told").started_at == began + 86_400, "its body ran then"
    assert moments == [began + 86_400, began + 86_400, began + 2 * 86_400]
    assert triggers.clock.now == began + 30 * 86_400


@on_both
def test_a_worker_that_dies(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    s.dies("t_pay")
    s.fire("placed")
    assert s.status("t_pay") == "running"
    assert s.ran("t_pay") == 0
    s.advance("1 minute")
    assert s.ran("t_pay") == s.ran("t_ship") == 1
    assert s.instance("t_pay").attempt == 2


def test_other_workers_go_on_when_one_dies(triggers: Triggers) -> None:
    s = triggers.session(
        {"t_a": {"after": ["go"], "run": "a"}, "t_b": {"after": ["go"], "run": "b"}}
    )
    s.dies("t_a")
    s.fire("go")
    assert s.status("t_a") == "running"
    assert s.ran("t_b") == 1


# -- a newcomer's three tests ----------------------------------------------------------------------


def test_retry(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    s.retries("t_pay", times=2, cooldown=30)
    s.fire("placed")
    s.advance("1 minute")
    assert (s.ran("t_pay"), s.ran("t_ship")) == (3, 1)


def test_failure_and_replay(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    s.fails("t_pay", ConnectionError("no network"), times=1)
    s.fire("placed")
    assert s.status("t_pay") == "failed"
    assert s.replay("t_pay").status == "finished"
    assert s.ran("t_ship") == 1


# -- bodies ----------------------------------------------------------------------------------------


def test_a_real_body_runs_as_ever(triggers: Triggers) -> None:
    s = triggers.session(REAL)
    s.fire("given", {"number": 21})
    assert s.result("t_double") == {"twice": 42}
    assert s.fired("counted") == 1


def test_a_real_body_does_what_the_test_says_and_then_its_own_work(triggers: Triggers) -> None:
    s, other = triggers.session(REAL), triggers.session(REAL)
    s.returns("t_double", {"twice": 0}, times=1)
    for session in (s, other):
        session.fire("given", {"number": 21})
    assert s.result("t_double") == {"twice": 0}
    assert s.fired("counted") == 0
    assert other.result("t_double") == {"twice": 42}
    assert registry.declared[Doubled.name] is Doubled


def test_what_is_said_comes_in_order_and_then_for_good(triggers: Triggers) -> None:
    s = triggers.session({"t_x": {"andEvery": "go", "run": "x.X"}})
    s.fails("t_x", times=1)
    s.skips("t_x", {"why": "closed"}, times=1)
    s.returns("t_x", {"n": 1}, times=1)
    s.returns("t_x", lambda context: {"n": context.instance.number})
    for _ in range(5):
        s.fire("go")
    found = [s.instance(f"t_x#{number}") for number in range(5)]
    assert [each.status.value for each in found] == ["failed", "skipped", *["finished"] * 3]
    assert [each.result for each in found] == [None, None, {"n": 1}, {"n": 3}, {"n": 4}]
    assert found[1].metadata["why"] == "closed"
    assert found[0].metadata["error"]["message"] == "failed by the test"


def test_a_stand_in_is_not_known_to_others(triggers: Triggers) -> None:
    s = triggers.session(CONFIG)
    s.returns("t_ship", {"parcel": 7})
    s.fire("paid")
    s.fire("stockReserved")
    assert s.result("t_ship") == {"parcel": 7}
    assert "shop.Ship" not in registry.declared
    assert "shop.Ship" in triggers.report()


def test_nothing_is_said_of_a_task_that_there_is_not(triggers: Triggers) -> None:
    s = triggers.session(CONFIG)
    with pytest.raises(TaskNotFound, match="t_ship"):
        s.ran("t_shpi")
    with pytest.raises(TaskNotFound, match="t_ship"):
        s.status("t_shpi#0")
    with pytest.raises(TaskNotFound, match="t_ship"):
        s.returns("t_shpi", {})
    with pytest.raises(TaskNotFound, match="no configuration"):
        triggers.session().ran("t_ship")
    with pytest.raises(InstanceNotFound):
        s.result("t_ship")
    assert s.status("t_ship") == "missing"


# -- by hand ---------------------------------------------------------------------------------------


def test_what_an_operator_does(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    s.fails("t_pay")
    s.fire("placed")
    s.replay("t_pay", {"placed": {"by": "hand"}})
    assert s.instance("t_pay#1").kwargs == {"placed": {"by": "hand"}}
    s.skip("t_pay", cascade=True, result={"paid": "in cash"})
    assert s.instance("t_ship").kwargs == {"t_pay": {"paid": "in cash"}}
    assert s.unresolved_tasks() == s.unresolved_instances() == []
    s.configure({"t_more": {"after": ["t_ship"], "run": "x"}}, past=True)
    assert s.ran("t_more") == 1


def test_what_is_dispatched_waits_in_a_pause(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    with triggers.pause():
        s.fire("placed")
        assert s.status("t_pay") == "scheduled"
        s.fail("t_pay", "nobody came")
        assert s.status("t_pay") == "failed"
        s.replay("t_pay")
        assert s.status("t_pay#1") == "scheduled"
    assert s.ran("t_ship") == 1


def test_a_crash_at_an_operation(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    with triggers.crash() as points:
        s.fire("placed", event_id="1")
    assert points.reached[0] == "before commit of Fire"
    assert s.ran("t_ship") == 1
    s = triggers.session(CHAIN)
    with triggers.crash(at=2) as points:
        s.fire("placed", event_id="1")
    assert points.dead
    assert s.fire("placed", event_id="1").status == "duplicate"
    assert s.status("t_pay") == "scheduled"
    s.advance("2 minutes")
    assert s.ran("t_ship") == 1


# -- coroutines ------------------------------------------------------------------------------------


@trigger_task(name="test_kit.asynchronous")
async def asynchronous(context: TaskContext) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"awaited": True}


def test_coroutines(triggers: Triggers) -> None:
    s = triggers.session({"t_a": {"andEvery": "go", "run": "test_kit.asynchronous"}})
    s.fire("go")

    async def main() -> None:
        result = await s.afire("go")
        assert list(result.scheduled) == ["t_a#1"]
        assert s.ran("t_a") == 2

    asyncio.run(main())
    assert s.result("t_a#0") == s.result("t_a#1") == {"awaited": True}


# -- recorded events -------------------------------------------------------------------------------

EVENTS = [
    {"session": "1", "trigger": "placed", "ts": "2026-01-01T00:00:00Z"},
    {"session": "2", "trigger": "placed", "ts": "2026-01-01T06:00:00Z"},
    {"session": "1", "trigger": "paid", "ts": "2026-01-01T12:00:00Z", "kwargs": {"amount": 3}},
    {"session": "1", "trigger": "paid", "ts": "2026-01-01T12:00:00Z", "id": "paid 1"},
    {"session": "1", "trigger": "paid", "ts": "2026-01-01T12:00:01Z", "id": "paid 1"},
    {"session": "2", "trigger": "paid", "ts": "2026-01-03T00:00:00Z"},
]


def test_a_recorded_log(triggers: Triggers, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, EVENTS)) + "\n\n")
    log = triggers.replay_log(file, LATE)
    assert log.ran("t_ship") == 1
    assert sorted(log) == ["1", "2"]
    assert log["1"].fired("paid") == 2
    assert log["1"].instance("t_ship").kwargs["paid"] == {"amount": 3}
    assert log["2"].fired("late") == 1
    moment = log["2"].instance("t_ship").moment
    assert moment == 1_767_225_600 + 30 * 3600


def test_a_log_that_cannot_be_read(triggers: Triggers, tmp_path: Path) -> None:
    with pytest.raises(InvalidEvent, match="event 1 of the log"):
        triggers.replay_log([EVENTS[0], {"session": "1"}], LATE)
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(EVENTS[0]) + "\n{")
    with pytest.raises(InvalidEvent, match=r"events\.jsonl, line 2"):
        triggers.replay_log(file, LATE)


# -- and else --------------------------------------------------------------------------------------


def test_impossible_arguments(triggers: Triggers) -> None:
    with pytest.raises(InvalidArgument, match="3 fortnights"):
        triggers.advance("3 fortnights")
    with pytest.raises(UnknownKey, match="memory"):
        open_place("memroy", triggers.clock)


def test_what_never_ends_is_told(triggers: Triggers, monkeypatch: pytest.MonkeyPatch) -> None:
    s = triggers.session(REMIND)
    s.fire("placed")
    monkeypatch.setattr(triggers.place.store, "due", lambda limit=100: [])
    with pytest.raises(WrongState, match="cannot be worked off"):
        s.advance("3 days")
