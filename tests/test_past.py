"""What `update_configuration` answers about the past, and that a dry run leaves nothing behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from triggers_core import Application, TriggerManager, payloads
from triggers_core.engine.commands import Configure
from triggers_core.engine.records import Status
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock
from triggers_core.testing.driver import SessionDriver

DAY = 86_400.0
NEW: dict[str, Any] = {
    "t_late": {"after": ["placed", "packed"], "within": "14 days", "otherwise": "never"},
    "t_over": {"after": ["placed"], "unless": ["cancelled"], "waiting": "2 days"},
    "t_paid": {"after": ["placed"], "unless": ["paid"], "waiting": "2 days"},
    "t_held": {"after": ["placed"], "waiting": "30 days"},
    "t_open": {"after": ["placed", "packed"]},
    "t_told": {"after": ["never"]},
}


@pytest.fixture
def manager() -> TriggerManager:
    """An order of 20 days ago, which has been paid on the third day."""
    clock = VirtualClock()
    store = MemoryStore(clock)
    app = Application("past", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=Runner)
    manager = app.manager("order:42")
    manager.update_configuration({"t_first": {"after": ["first"], "run": "past.Run"}})
    manager.fire("placed")
    clock.advance(3 * DAY)
    manager.fire("paid")
    clock.advance(17 * DAY)
    return manager


class Runner(ManualRunner):
    executes_here = False  # so that the tasks need no bodies


def configuration() -> dict[str, Any]:
    return {name: {**task, "run": "past.Run"} for name, task in NEW.items()}


def test_the_answer_lists_what_the_past_leads_to(manager: TriggerManager) -> None:
    answer = manager.update_configuration(configuration(), past=True)
    assert sorted(answer.began) == [f"{name}#0" for name in sorted(NEW)]
    assert answer.late == ["t_late#0"]
    assert answer.called_off == ["t_paid#0"]
    assert answer.held == ["t_held#0"]
    assert answer.scheduled == ["t_over#0", "t_told#0"]
    assert answer.due == [], "nothing was due before"
    late = manager.storage["t_late#0"]
    assert (late.status, late.why) == (Status.ABANDONED, "late")
    assert late.moment == manager.storage.events[0].at + 14 * DAY


def test_a_dry_run_answers_the_same_and_stores_nothing(manager: TriggerManager) -> None:
    before = (len(manager.storage.events), manager.storage.metadata.config_version)
    dry = manager.update_configuration(configuration(), past=True, dry_run=True)
    assert (len(manager.storage.events), manager.storage.metadata.config_version) == before
    assert not manager.storage.instances
    assert dry == manager.update_configuration(configuration(), past=True)


def test_an_empty_configuration_is_none(manager: TriggerManager) -> None:
    other = manager.sibling("order:43")
    other.fire("placed")
    assert not other.update_configuration({}).changed
    other.update_configuration({"t_first": {"after": ["placed"], "run": "past.Run"}})
    assert other.storage["t_first#0"].status is Status.SCHEDULED


def test_a_failure_is_told_with_the_events_that_its_instance_kept() -> None:
    """Its task was replaced by one that keeps them otherwise."""
    clock = VirtualClock(1_000.0)
    session = SessionDriver(MemoryStore(clock))
    session.configure(t_x={"after": ["a"], "keeping": "all"})
    session.fire("a")
    claimed = session.claim("t_x#0")
    session.configure(t_x={"after": ["a"], "otherwise": {"failed": "oops"}})
    session.fail(claimed)
    [told] = [each for each in session.events() if each.trigger == "oops"]
    assert payloads.decode(bytes(told.payload))["has"] == ["a"]
    assert payloads.decode(bytes(told.payload))["missing"] == []


def test_a_task_that_is_only_looked_at_again_keeps_its_events_where_they_are() -> None:
    """Its record holds more now, for a new task's sake: what it has taken itself stays."""
    fine = {"atLeast": 2, "of": {"trigger": "b", "where": {"v": {"not": "x"}}}}
    session = SessionDriver(MemoryStore(VirtualClock()))
    session.configure(t_first={"after": ["first"]})
    session.fire("a")
    rest = {"atLeast": 2, "of": [{"trigger": "a", "as": "again"}, "c"]}
    session.configure(
        t_x={
            "andEvery": {"anyOf": ["a", "c"]},
            "after": [{"trigger": "d"}, {"anyOf": [fine, rest]}],
        }
    )
    session.fire("c")
    before = session.instance("t_x#0").taken
    assert before == {"again": [0], "c": [1]}, "its andEvery has room for one event"
    session.commit(Configure(configuration=session.parse({"t_y": {"after": [fine]}}), past=True))
    assert session.instance("t_x#0").taken == before


def test_a_task_replaced_while_held_counts_at_most_from_what_comes_first() -> None:
    """Its instance has come to hold once, and lacks everything that the new task waits for."""
    clock = VirtualClock(1_000.0)
    session = SessionDriver(MemoryStore(clock))
    session.configure(t_x={"after": ["a"], "waiting": "1 day"})
    session.fire("a")
    session.configure(
        t_x={
            "after": ["b", "d"],
            "keeping": {"d": "latest"},
            "waiting": {"time": 60, "atMost": 20},
        }
    )
    for trigger in ("d", "b"):
        clock.advance(10)
        session.fire(trigger)
    assert session.instance("t_x#0").due_at == 1_030.0


def test_a_failure_is_told_with_the_moment_that_a_kept_event_names() -> None:
    """Its task was replaced by one that waits until then, and keeps its events otherwise."""
    session = SessionDriver(MemoryStore(VirtualClock(1_000.0)))
    session.configure(t_x={"after": ["a"], "keeping": "all"})
    session.fire("a", {"at": datetime(1970, 1, 1, tzinfo=UTC)})
    claimed = session.claim("t_x#0")
    session.configure(
        t_x={"after": ["a"], "waiting": {"until": "a.at"}, "otherwise": {"failed": "oops"}}
    )
    session.fail(claimed)
    [told] = [each for each in session.events() if each.trigger == "oops"]
    assert payloads.decode(bytes(told.payload))["missing"] == []
