"""Which changes the sweeps of other processes are to be told of."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.attempts import PassOn, Retry
from triggers_core.engine.due_times import due_soon
from triggers_core.engine.protocol import Plan
from triggers_core.limits import Timing
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver, VirtualClock

TIMING = Timing()
SWEEP = TIMING.sweep


class Telling(MemoryStore):
    """Notes for each change in how many seconds it would tell that something is due."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.told: list[float | None] = []

    def commit(self, uid: str, command: Any, rules: Any) -> Plan[Any]:
        plan: Plan[Any] = super().commit(uid, command, rules)
        due = due_soon(plan, rules.timing, self.now())
        self.told.append(None if due is None else due - self.now())
        return plan

    def last(self) -> float | None:
        """What it told since the last call, of one change."""
        [told] = self.told
        self.told.clear()
        return told


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> Telling:
    return Telling(clock)


@pytest.fixture
def session(store: Telling) -> SessionDriver:
    return SessionDriver(store)


def test_what_the_protocol_watches_over_is_found_in_time(
    session: SessionDriver, store: Telling
) -> None:
    session.configure(t_x={"after": ["go"]}, t_y={"after": ["t_x"]}, t_z={"after": ["a", "b"]})
    session.fire("a")
    session.fire("go")
    claimed = session.claim("t_x#0")
    session.heartbeat(claimed)
    session.finish(claimed)
    assert store.told == [None] * 6


@pytest.mark.parametrize("word", ["waiting", "within"])
@pytest.mark.parametrize("seconds", [0.5, SWEEP - 0.5, SWEEP, 86_400.0])
def test_holds_and_deadlines_that_are_sooner_than_the_next_look(
    session: SessionDriver, store: Telling, word: str, seconds: float
) -> None:
    after = ["go"] if word == "waiting" else ["go", "never"]
    session.configure(t_x={"after": after, word: seconds, "unless": [["stop", "halt"]]})
    store.told.clear()
    session.fire("go")
    expected = pytest.approx(seconds) if seconds < SWEEP else None
    assert store.last() == expected
    session.fire("stop")
    assert store.last() is None, "it changes, and is due when it was"


def test_the_soonest_of_many(session: SessionDriver, store: Telling) -> None:
    session.configure({f"t_{n}": {"after": ["go"], "waiting": float(n)} for n in (3, 1, 2, 86_400)})
    store.told.clear()
    session.fire("go")
    assert store.last() == pytest.approx(1.0)


def test_an_instance_that_is_left_to_other_workers(session: SessionDriver, store: Telling) -> None:
    session.configure(t_x={"andEvery": "go"})
    session.fire("go")
    claimed = session.claim("t_x#0")
    store.told.clear()
    session.commit(PassOn(instance="t_x#0", token=claimed.instance.token))
    assert store.last() == pytest.approx(TIMING.unknown_task_in(0))


@pytest.mark.parametrize(("cooldown", "told"), [(2.0, pytest.approx(2.0)), (60.0, None)])
def test_the_cooldown_of_a_retry(
    session: SessionDriver, store: Telling, cooldown: float, told: float | None
) -> None:
    session.configure(t_x={"andEvery": "go"})
    session.fire("go")
    claimed = session.claim("t_x#0")
    store.told.clear()
    session.fail(claimed, retry=Retry(cooldown=cooldown))
    assert store.last() == told
