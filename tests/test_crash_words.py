"""Every crash point of a scenario in which time decides, on both storages; sweeps that come late,
seldom or in another order; and engines that are broken on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from triggers_core.engine import additions, moments
from triggers_core.engine.machine import Draft
from triggers_core.engine.records import Instance
from triggers_core.storages import driving
from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver, VirtualClock, invariants
from triggers_core.testing.crash_scenario import (
    Fault,
    Outcome,
    every_crash_point,
    every_crash_point_twice,
    run_with,
    survey,
)
from triggers_core.testing.crash_words import (
    SweptBackwards,
    SweptSeldom,
    TimedProcess,
    every_decision,
)

MakeStore = Callable[[Clock], Store]
Reopen = Callable[[Store], Store]


def stays_up(store: Store) -> Store:
    """A store in memory stands for a server that outlives the processes."""
    return store


@pytest.fixture(autouse=True)
def few_due_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (driving, invariants):  # each has the name for itself
        monkeypatch.setattr(module, "MOST_DUE", 2)


def plain_run(life: type[TimedProcess] = TimedProcess) -> Outcome:
    return run_with(Fault(), MemoryStore, stays_up, life)


def status_of(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """Instance → status, why, and the seconds from the start at which that was decided."""
    return {
        name: (status, why, at if at in ("never", "later") else f"{float(at) - 1e9:g}")
        for kind, name, status, why, at, *_ in outcome.facts
        if kind == "instance"
    }


def test_the_scenario_has_everything_that_time_decides() -> None:
    outcome = plain_run()
    found = status_of(outcome)
    assert found["t_ship#0"] == ("abandoned", "late", "600")
    assert found["t_refund#0"] == ("finished", "None", "600")
    assert found["t_remind#0"] == ("finished", "None", "300")
    assert found["t_watch#0"] == ("abandoned", "calledOff", "900")
    saved = [found[f"t_save#{n}"] for n in range(3)]
    assert saved == [("finished", "None", at) for at in ("150", "310", "370")]
    assert [found[f"t_batch#{n}"][2] for n in range(2)] == ["40", "250"]
    assert [found[f"t_item#{n}"][2] for n in range(6)] == ["200", "201", "202", "203", "204", "640"]
    assert found["t_missing#0"] == ("finished", "None", "204")
    assert found["t_broken#0"][:2] == ("failed", "failed")
    assert found["t_repair#0"][:2] == ("finished", "None")
    assert found["t_audit#0"][:2] == ("abandoned", "late"), "by its past"
    assert found["t_report#0"][:2] == ("finished", "None")
    assert found["t_thank#0"] == ("finished", "None", "1510")


@pytest.mark.parametrize("life", [SweptSeldom, SweptBackwards])
def test_sweeps_decide_nothing(life: type[TimedProcess]) -> None:
    assert plain_run(life).facts == plain_run().facts


def test_more_is_due_than_one_commit_works_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the crash points do not tell what they should."""
    plans = []

    def count_them(self: moments.MoreDue) -> None:
        plans.append(self)

    monkeypatch.setattr(moments.MoreDue, "__init__", count_them)
    plain_run(SweptSeldom)
    assert len(plans) > 1


# -- crash points ----------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, fast_dir: Path) -> tuple[MakeStore, Reopen]:
    """How to make a store, and how the next process opens it after a crash."""
    if request.param == "memory":
        return MemoryStore, stays_up
    numbers = count()

    def make(clock: Clock) -> Store:
        for old in fast_dir.iterdir():
            old.unlink()
        return SqliteStore(fast_dir / f"{next(numbers)}.db", "NORMAL", clock)

    def reopen(store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.close()
        return SqliteStore(store.file.path, "NORMAL", store.clock)

    return make, reopen


@pytest.mark.parametrize("life", [TimedProcess, SweptSeldom])
def test_a_crash_changes_no_decision(
    storage: tuple[MakeStore, Reopen], life: type[TimedProcess]
) -> None:
    found = survey(every_decision, *storage, life)
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)
    assert found.points > 30


@pytest.mark.long
@pytest.mark.parametrize("life", [TimedProcess, SweptSeldom, SweptBackwards])
@pytest.mark.parametrize("faults", [every_crash_point, every_crash_point_twice])
def test_no_crash_changes_any_decision(
    storage: tuple[MakeStore, Reopen],
    life: type[TimedProcess],
    faults: Callable[[Outcome], Iterator[Fault]],
) -> None:
    found = survey(faults, *storage, life)
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)


# -- broken on purpose -----------------------------------------------------------------------------


def forget_the_next_moment(patch: pytest.MonkeyPatch) -> None:
    """Nobody but a sweep works anything off."""
    wake = Draft.wake

    def forgetful(self: Draft, instance: Instance, at: float, held: bool) -> None:
        before = self.header.next_moment
        wake(self, instance, at, held)
        self.header.next_moment = before

    patch.setattr(Draft, "wake", forgetful)


def tell_nobody(patch: pytest.MonkeyPatch) -> None:
    """What is late ends, and the trigger that says so is not in that commit."""

    def later(draft: Draft) -> Iterator[Any]:
        draft.fired.clear()
        yield from ()

    patch.setattr(moments, "fire_otherwise", later)


@pytest.mark.parametrize("break_it", [forget_the_next_moment, tell_nobody])
def test_a_broken_engine_does_not_get_through(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    expected = plain_run()
    break_it(monkeypatch)
    try:
        found = run_with(Fault(), MemoryStore, stays_up, SweptSeldom)
    except AssertionError:
        return  # what is kept does not agree with itself
    assert found.facts != expected.facts


def finished_after_a_deadline() -> list[tuple[str, float]]:
    clock = VirtualClock(1_000.0)
    session = SessionDriver(MemoryStore(clock))
    session.configure(
        t_run={"after": ["a"]},
        t_late={"after": ["a", "b"], "within": 60, "otherwise": "late"},
        t_next={"after": ["t_run"], "unless": ["late"]},
    )
    session.fire("a")
    claimed = session.claim("t_run#0")
    clock.advance(100)
    session.finish(claimed)
    return [(event.trigger, event.at) for event in session.events()]


def test_a_finish_comes_after_what_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [("a", 1_000.0), ("late", 1_060.0), ("t_run", 1_100.0)]
    assert finished_after_a_deadline() == expected

    def not_now(draft: Draft, overdue: Any = ()) -> Iterator[Any]:
        yield from ()

    monkeypatch.setattr(additions, "work_off", not_now)
    assert finished_after_a_deadline() != expected
