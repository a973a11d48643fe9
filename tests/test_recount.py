"""What is kept for the language of conditions agrees with the events; and whoever forgets some of
it is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from triggers_core.engine import fire_rule, leaving, standing
from triggers_core.engine.machine import Draft
from triggers_core.engine.records import Header, Instance
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock, check_store

TASKS: dict[str, dict[str, Any]] = {
    "t_report": {
        "after": ["opened", {"atLeast": "opened.pages", "of": "page"}],
        "within": "1 hour",
        "otherwise": "given_up",
    },
    "t_save": {"after": ["page"], "keeping": "latest", "waiting": 300, "everyTime": True},
    "t_batch": {
        "after": [{"atLeast": 2, "of": {"trigger": "page", "where": {"n": {"atLeast": 2}}}}],
        "everyTime": True,
    },
    "t_ship": {
        "after": ["opened"],
        "keeping": "latest",
        "waiting": {"until": "opened.at"},
        "unless": [{"trigger": "closed", "as": "end"}],
    },
    "t_plain": {"after": ["opened"], "unless": ["closed"]},
}


def life(check: Callable[[MemoryStore], None] = check_store) -> SessionDriver:
    """A session with every word, checked after each step."""
    clock = VirtualClock(1_000.0)
    store = MemoryStore(clock)
    session = SessionDriver(store)
    session.configure(TASKS)
    check(store)
    steps = [("page", {"n": n}, 100) for n in range(5)]
    steps[2:2] = [("opened", {"pages": 9, "at": "1970-01-01T01:00:00Z"}, 50)]
    for trigger, kwargs, seconds in [*steps, ("closed", {}, 4_000), ("page", {"n": 7}, 10)]:
        session.fire(trigger, kwargs)
        check(store)
        session.run_all()
        clock.advance(seconds)
        session.recover()
        check(store)
    return session


def test_what_is_kept_agrees_with_the_events() -> None:
    session = life()
    assert session.instance("t_report#0").why == "late"
    assert session.fired().count("given_up") == 1
    assert {each.task for each in session.store.instances("order:1")} == TASKS.keys()
    assert session.instance("t_batch#1").floor


def forgets_the_next_moment(patch: pytest.MonkeyPatch) -> None:
    wake = Draft.wake

    def forgetful(self: Draft, instance: Instance, at: float, held: bool) -> None:
        before = self.header.next_moment
        wake(self, instance, at, held)
        self.header.next_moment = before

    patch.setattr(Draft, "wake", forgetful)


def counts_no_event(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fire_rule, "keep_records", lambda draft, event, leaves: None)


def ends_no_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaving, "_end_round", lambda draft, task, instance: None)


def notes_no_value(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fire_rule, "note_values", lambda draft, rule, instance, key, event: None)


def tells_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaving, "otherwise", lambda draft, task, instance, why: None)


def misses_deadlines(patch: pytest.MonkeyPatch) -> None:
    def later(rule: Any, instance: Instance, header: Header) -> float | None:
        end = standing.deadline_of(rule, instance, header)
        return None if end is None else end + 1

    patch.setattr(leaving, "deadline_of", later)


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (forgets_the_next_moment, "no next moment is known"),
        (counts_no_event, "the record of 'page' counts 0: 1"),
        (ends_no_round, "the round of t_batch"),
        (notes_no_value, r"t_report#0: counts \{\}"),
        (tells_nobody, "t_report#0 is late and told nobody"),
        (misses_deadlines, "t_report#0: due at"),
    ],
)
def test_what_is_forgotten_is_found(
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    problem: str,
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match=problem):
        life()


def test_a_moment_that_nobody_reads_for_a_while_is_not_kept() -> None:
    """Its leaf goes on without it; read again, it is that of the latest event."""
    clock = VirtualClock(1_000.0)
    session = SessionDriver(MemoryStore(clock))
    until = {"after": ["a", "b"], "keeping": "latest", "waiting": {"until": "a.at"}}
    session.configure(t_all={"after": ["a"], "keeping": "latest", "unless": ["c"]}, t_x=until)
    session.fire("a", {"at": "1970-01-01T00:20:00Z"})
    session.configure(t_x={"after": ["b"]})
    session.fire("a", {"at": "1970-01-01T01:00:00Z"})
    session.configure(t_x=until)
    session.fire("b")
    assert session.instance("t_x#0").not_before == 3_600.0
    check_store(session.store)
