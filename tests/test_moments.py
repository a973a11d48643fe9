"""Deadlines, holds and otherwise-triggers: each promise by itself, without an oracle."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.attempts import Retry
from triggers_core.engine.commands import Fire, ResolveLogs
from triggers_core.engine.recovery import Recover
from triggers_core.storages import driving
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock, check_store
from triggers_core.testing.driver import SessionDriver

DAY = 86_400.0
SHIP: dict[str, Any] = {"after": ["placed", "packed"], "within": "14 days", "otherwise": "shipLate"}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000.0)


@pytest.fixture
def session(clock: VirtualClock) -> SessionDriver:
    return SessionDriver(MemoryStore(clock))


def moment(session: SessionDriver, name: str) -> tuple[str, str | None, float | None]:
    instance = session.instance(name)
    return instance.status.value, instance.why, instance.moment


def test_a_fire_after_a_deadline_comes_too_late(
    session: SessionDriver, clock: VirtualClock
) -> None:
    session.configure(t_ship=SHIP)
    session.fire("placed")
    clock.advance(14 * DAY + 1)
    fired = session.fire("packed")  # no sweep has run
    assert fired.due == ["t_ship#0"]
    assert fired.scheduled == []
    assert session.fired() == ["placed", "shipLate", "packed"]
    assert moment(session, "t_ship#0")[:2] == ("abandoned", "late")


def test_a_deadline_is_no_hold(session: SessionDriver) -> None:
    session.configure(t_ship=SHIP, t_ask={"after": ["placed"], "waiting": "2 days"})
    session.fire("placed")
    late, held = session.instance("t_ship#0"), session.instance("t_ask#0")
    began = 1_000_000.0
    assert (late.due_at, late.not_before) == (began + 14 * DAY, None)
    assert (held.due_at, held.not_before) == (began + 2 * DAY, began + 2 * DAY)


def test_a_fire_decides_the_same_after_a_sweep(session: SessionDriver, clock: VirtualClock) -> None:
    session.configure(t_ship=SHIP)
    session.fire("placed")
    clock.advance(14 * DAY)
    assert session.commit(Recover()).due == ["t_ship#0"]
    clock.advance(1)
    assert session.fire("packed").due == []
    assert session.fired() == ["placed", "shipLate", "packed"]


@pytest.mark.parametrize(
    ("seconds", "status"), [(-0.000_001, "scheduled"), (0, "abandoned")], ids=["before", "at"]
)
def test_an_event_at_the_very_moment_comes_too_late(
    session: SessionDriver, clock: VirtualClock, seconds: float, status: str
) -> None:
    session.configure(t_ship=SHIP)
    session.fire("placed")
    clock.advance(14 * DAY + seconds)
    session.fire("packed")
    assert session.status("t_ship#0") == status


@pytest.mark.parametrize(
    ("seconds", "status"), [(-0.000_001, "abandoned"), (0, "scheduled")], ids=["before", "at"]
)
def test_what_calls_off_comes_too_late_at_the_very_end_of_a_hold(
    session: SessionDriver, clock: VirtualClock, seconds: float, status: str
) -> None:
    session.configure(t_ask={"after": ["placed"], "unless": ["answered"], "waiting": "2 days"})
    session.fire("placed")
    clock.advance(2 * DAY + seconds)
    session.fire("answered")
    assert session.status("t_ask#0") == status


def test_a_cascade_after_a_deadline_comes_too_late(
    session: SessionDriver, clock: VirtualClock
) -> None:
    session.configure(
        t_pack={"after": ["placed"]},
        t_ship={"after": ["placed", "t_pack"], "within": "1 hour", "otherwise": "shipLate"},
    )
    session.fire("placed")
    packing = session.claim("t_pack#0")
    clock.advance(3_600)
    session.finish(packing)
    assert session.fired() == ["placed", "shipLate", "t_pack"]
    assert session.statuses() == {"t_pack#0": "finished", "t_ship#0": "abandoned"}


@pytest.mark.parametrize("end", ["fail", "skip", "replay", "by hand", "logs", "configure"])
def test_whatever_changes_a_session_works_off_what_is_due_first(
    session: SessionDriver, clock: VirtualClock, end: str
) -> None:
    session.configure(t_ship=SHIP, t_pack={"andEvery": "placed", "otherwise": "notPacked"})
    session.fire("placed")
    claimed = session.claim("t_pack#0")
    if end in ("skip", "replay", "logs"):
        session.fail(claimed, log_level=40)
    clock.advance(14 * DAY)
    if end == "fail":
        session.fail(claimed)
    elif end == "skip":
        session.skip("t_pack#0", cascade=True)
    elif end == "replay":
        session.replay("t_pack#0")
    elif end == "by hand":
        session.fail_by_hand("t_pack#0")
    elif end == "logs":
        session.commit(ResolveLogs(instance="t_pack#0"))
    else:
        session.configure(t_new={"after": ["shipLate"]})
    late = ("abandoned", "late", 1_000_000.0 + 14 * DAY)
    assert moment(session, "t_ship#0") == late
    fired = session.fired()
    assert fired[1] == ("notPacked" if end in ("skip", "replay", "logs") else "shipLate")
    assert "shipLate" in fired


def test_a_clock_that_is_set_back(session: SessionDriver, clock: VirtualClock) -> None:
    session.configure(t_ship=SHIP)
    session.fire("placed")
    clock.advance(14 * DAY)
    session.fire("other")
    clock.now -= 30 * DAY
    session.fire("packed")
    assert session.status("t_ship#0") == "abandoned"
    times = [event.at for event in session.events()]
    assert times == sorted(times)
    assert session.header.next_moment is None


def test_what_fell_due_has_its_own_moment(session: SessionDriver, clock: VirtualClock) -> None:
    session.configure(
        t_ship=SHIP,
        t_ask={"after": ["shipLate"], "unless": ["answered"], "waiting": "2 days"},
    )
    session.fire("placed")
    clock.advance(100 * DAY)
    assert session.fire("answered").due == ["t_ship#0", "t_ask#0"]
    began = 1_000_000.0
    assert [event.at - began for event in session.events()] == [0, 14 * DAY, 100 * DAY]
    assert moment(session, "t_ship#0") == ("abandoned", "late", began + 14 * DAY)
    assert moment(session, "t_ask#0") == ("scheduled", None, began + 16 * DAY)


def test_once_after_a_trigger_that_was_due(session: SessionDriver, clock: VirtualClock) -> None:
    session.configure(t_ship=SHIP)
    session.fire("placed")
    clock.advance(14 * DAY)
    fired = session.fire("shipLate", once=True)
    assert (fired.status, fired.due) == ("already fired", ["t_ship#0"])
    assert session.fired() == ["placed", "shipLate"]


def test_an_otherwise_trigger_fires_once(session: SessionDriver) -> None:
    session.configure(t_ship={"after": ["placed"], "otherwise": "notShipped"})
    session.fire("placed")
    session.fail_now("t_ship#0")
    assert session.fired() == ["placed", "notShipped"]
    replay = session.replay("t_ship#0").replay
    assert replay.told
    session.fail_now(replay.name)
    session.skip(replay.name)
    assert session.fired() == ["placed", "notShipped"]


def test_an_automatic_retry_is_no_end_to_tell_of(session: SessionDriver) -> None:
    session.configure(t_ship={"after": ["placed"], "otherwise": "notShipped"})
    session.fire("placed")
    retried = session.fail(session.claim("t_ship#0"), retry=Retry()).replay
    assert retried is not None
    assert session.fired() == ["placed"]
    session.fail_now(retried.name)
    assert session.fired() == ["placed", "notShipped"]


def test_what_an_otherwise_trigger_says(session: SessionDriver, clock: VirtualClock) -> None:
    session.configure(t_ship=SHIP, t_ask={"after": ["shipLate"]})
    session.fire("placed")
    clock.advance(14 * DAY)
    session.commit(Recover())
    assert session.kwargs("t_ask#0") == {
        "shipLate": {
            "task": "t_ship",
            "instance": "t_ship#0",
            "why": "late",
            "has": ["placed"],
            "missing": ["packed"],
        }
    }
    event = session.events()[-1]
    assert (event.cause, event.chain) == ("t_ship#0", 1)


@pytest.mark.parametrize("fired", [[], ["placed"], ["placed", "packed"]])
def test_a_task_that_becomes_everytime(session: SessionDriver, fired: list[str]) -> None:
    """It knows whether its first instance is the one that waits: the others are no open work."""
    session.configure(t_ship={"after": ["placed", "packed"]})
    for trigger in fired:
        session.fire(trigger)
    session.configure(t_ship={"after": ["placed", "packed"], "everyTime": True})
    check_store(session.store)
    session.fire("placed")
    session.fire("packed")
    check_store(session.store)
    number = 1 if len(fired) == 2 else 0
    assert session.status(f"t_ship#{number}") == "scheduled"


def test_a_counted_leaf_moves_a_hold_when_it_is_complete(
    session: SessionDriver, clock: VirtualClock
) -> None:
    """And what comes after its last event that counts does not."""
    pages = {"atLeast": 2, "of": "page"}
    session.configure(t_read={"after": [{"anyOf": ["opened", pages]}], "waiting": "1 hour"})
    session.fire("opened")
    for _ in range(3):
        clock.advance(600)
        session.fire("page")
    clock.advance(1.5 * 3_600)
    assert session.commit(Recover()).due == ["t_read#0"]
    assert moment(session, "t_read#0") == ("scheduled", None, 1_000_000.0 + 1_200 + 3_600)


def test_more_is_due_than_one_commit_works_off(
    session: SessionDriver, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes first, in commits of its own; a moment is never split."""
    monkeypatch.setattr(driving, "MOST_DUE", 1)
    session.configure(t_x={"andEvery": "go", "waiting": "1 minute"})
    for seconds in (0, 0, 1):
        clock.advance(seconds)
        session.fire("go")
    clock.advance(60)
    first = session.carry_out(Fire(trigger="other", payload=b"{}", event_id="e"))
    assert first.plan.again
    assert first.scheduled == ["t_x#0", "t_x#1"]
    then = session.carry_out(Fire(trigger="other", payload=b"{}", event_id="e"))
    assert not then.plan.again
    assert then.scheduled == ["t_x#2"]
    assert session.fired()[-1] == "other"


def test_a_new_task_counts_from_the_event_that_came_before_it(
    session: SessionDriver, clock: VirtualClock
) -> None:
    session.configure(t_other={"after": ["never"]})
    session.fire("placed")
    session.configure(t_ship={"andEvery": "placed", "after": ["packed"], "within": "1 hour"})
    clock.advance(1_800)
    session.fire("address")
    session.configure(
        t_send={"andEvery": "placed", "after": ["address", "packed"], "within": "1 hour"}
    )
    session.fire("address")
    instance = session.instance("t_send#0")
    assert instance.taken == {"placed": [0], "address": [2]}
    assert instance.due_at == 1_000_000.0 + 3_600
