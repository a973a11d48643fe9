"""The simulation: no law is broken, the same seed is the same run, and broken code is noticed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from triggers_core import TaskContext, trigger_task
from triggers_core.exceptions import InvalidArgument, InvalidConfiguration
from triggers_core.storages.base import Clock
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.session import SessionStorage
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.faults import Crash
from triggers_core.testing.simulation import (
    Rates,
    SimulationFailed,
    Simulator,
    simulate,
)
from triggers_core.testing.simulation.runs import default_scenario
from triggers_core.testing.simulation.sabotage import SABOTAGES
from triggers_core.testing.simulation.scenario import FIRST, SECOND
from triggers_core.testing.simulation.scheduler import Scheduler
from triggers_core.testing.simulation.world import World

HOT = Rates(
    errors=0.05,
    lost_replies=0.1,
    lost=0.1,
    repeated=0.3,
    late=0.4,
    crashes=2,
    freezes=2,
    jumps=1,
)
"""More trouble than anybody has: what is broken shows within few seeds."""
SEEDS_TO_FIND = 250


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as entered:
        yield entered


@pytest.fixture(scope="module")
def hot() -> Iterator[Simulator]:
    scenario = msgspec.structs.replace(default_scenario(), rates=HOT)
    with Simulator(scenario) as entered:
        yield entered


# -- every word ------------------------------------------------------------------------------------


def test_no_law_is_broken(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    committed = World.committed

    def count(self: World, process: Any, uid: str, command: Any, plan: Any) -> None:
        seen[type(command).__name__] += 1
        seen.update(event.trigger for event in plan.events)
        seen.update(str(change.instance.why) for change in plan.changes)
        committed(self, process, uid, command, plan)

    monkeypatch.setattr(World, "committed", count)
    problems = [problem for seed in range(60) for problem in simulator.run(seed).problems]
    assert problems == []
    commands = {"Fire", "Configure", "Claim", "Heartbeat", "Finish", "Fail", "SkipRunning"}
    operators = {"Recover", "Replay", "Skip", "FailByHand"}
    exceptions = {"shipLate", "shipOff", "shipFailed", "late", "calledOff", "failed", "skipped"}
    expected = {*FIRST, *SECOND, *commands, *operators, *exceptions, "sessionFinalized"}
    assert expected - seen.keys() == set(), "the scenario does not show everything any more"


def test_no_law_is_broken_under_much_trouble(hot: Simulator) -> None:
    assert [each for seed in range(25) for each in hot.run(seed).problems] == []


def test_no_law_is_broken_on_sqlite() -> None:
    with Simulator(storage="sqlite") as simulator:
        assert [each for seed in range(5) for each in simulator.run(seed).problems] == []


def test_a_store_of_ones_own() -> None:
    stores: list[MemoryStore] = []

    def open_store(clock: Clock) -> MemoryStore:
        if len(stores) % 3 == 0:  # the first of three processes
            stores.append(MemoryStore(clock))
        else:
            stores.append(stores[-1])
        return stores[-1]

    with Simulator(storage=open_store) as simulator:
        assert [each for seed in range(3) for each in simulator.run(seed).problems] == []
    assert [len(store.sessions()) for store in stores[::3]] == [4, 4, 4]


@pytest.mark.long
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_fresh_seeds_for_a_minute(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = seed = random.SystemRandom().randrange(1, 1 << 40)
    seconds = {"memory": 45, "sqlite": 15}[storage]
    until, sessions, problems = time.monotonic() + seconds, 0, list[str]()
    with Simulator(storage=storage) as simulator:
        while time.monotonic() < until:
            outcome = simulator.run(seed)
            problems += (f"seed {seed}: {each}" for each in outcome.problems)
            sessions, seed = sessions + outcome.sessions, seed + 1
    with capsys.disabled():
        print(
            f"\nsimulation on {storage}: first seed {first}, {seed - first:,} seeds,"
            f" {sessions:,} sessions in {seconds} s: {(seed - first) / seconds:,.1f} seeds/s,"
            f" {len(problems)} violations"
        )
    assert problems == []


# -- the same again --------------------------------------------------------------------------------


def test_a_seed_is_the_same_run_whatever_ran_before(simulator: Simulator) -> None:
    first, other = (simulator.run(seed, hashed=True) for seed in (11, 12))
    again = simulator.run(11, hashed=True)
    assert again == first
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_a_seed_is_the_same_run_in_another_process(storage: str) -> None:
    def run(hash_seed: str) -> str:
        module = "triggers_core.testing.simulation"
        return subprocess.run(
            [sys.executable, "-m", module, "--seed", "5", "--verbose", "--storage", storage],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = run("1")
    assert first.count("\n") > 100
    assert run("2") == first


def test_many_seeds_over_two_processes() -> None:
    module = "triggers_core.testing.simulation"
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            module,
            *["--seeds", "12", "--from", "3", "--jobs", "2", "--every", "999"],
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.startswith("first seed 3, storage memory\n12 seeds, 48 sessions, ")
    assert ", 0 violations in " in printed
    assert printed.endswith("next seed 15\n")


# -- broken on purpose -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SABOTAGES)
def test_broken_code_is_noticed(name: str, hot: Simulator) -> None:
    with SABOTAGES[name]():
        for seed in range(1, SEEDS_TO_FIND):
            if hot.run(seed).problems:
                break
        else:
            pytest.fail(f"{SEEDS_TO_FIND} seeds have not noticed {name}")
    assert hot.run(seed).problems == [], "it is noticed without being broken"


# -- one's own configuration -----------------------------------------------------------------------

SHOP = {
    "t_charge": {"after": ["ordered", "confirmed"], "run": f"{__name__}.charge"},
    "t_ship": {"after": ["t_charge", "packed"], "run": "a task that is nowhere defined"},
}
EVENTS = ["ordered", "confirmed", ("packed", {"boxes": 2})]
charges: dict[str, list[str]] = {}


@trigger_task(name=f"{__name__}.charge")
def charge(context: TaskContext) -> dict[str, int]:
    charges.setdefault(context.manager.uid, []).append(context.idempotency_key)
    return {"amount": 5}


def test_a_configuration_of_ones_own() -> None:
    ended: Counter[str] = Counter()

    def look(session: SessionStorage) -> None:
        ended[session["t_ship#0"].status] += 1
        assert session["t_charge#0"].status == "finished"

    calm = Rates(errors=0, lost_replies=0, crashes=0, freezes=0, jumps=0, bodies=0, operators=0)
    done = simulate(SHOP, EVENTS, seeds=20, sessions=2, check=look, rates=calm)
    assert (done.seeds, done.sessions, ended.total()) == (20, 40, 40)
    assert ended["finished"] > 30


def test_a_body_that_may_run_twice_is_found_and_found_again() -> None:
    def charged_once(session: SessionStorage) -> None:
        made = charges.pop(session.uid, [])
        assert len(made) <= 1, f"{len(made)} charges"

    with pytest.raises(SimulationFailed, match=r"seed \d+: .*: 2 charges") as failed:
        simulate(SHOP, EVENTS, seeds=500, first=1, check=charged_once)
    seed = int(str(failed.value).split("seed ")[1].split(":")[0])
    lines: list[str] = []
    with pytest.raises(SimulationFailed, match=rf"seed {seed}: .*: 2 charges"):
        simulate(SHOP, EVENTS, seeds=1, first=seed, check=charged_once, trace=lines.append)
    assert sum("Claim" in line for line in lines) > 2


def test_wrong_arguments_are_told_before_anything_runs() -> None:
    with pytest.raises(InvalidConfiguration, match="t_ship"):
        simulate({"t_ship": {"after": [], "run": "x"}}, ["paid"])
    with pytest.raises(InvalidArgument, match="an event"):
        simulate(SHOP, [])
    with pytest.raises(InvalidArgument, match="expected 'memory'"):
        simulate(SHOP, EVENTS, storage="redis")


# -- the scheduler ---------------------------------------------------------------------------------


class Place:
    name, life, frozen_until = "p", 0, 0.0


def test_jobs_take_turns_and_time_passes_when_all_sleep() -> None:
    clock, said = VirtualClock(0.0), list[str]()
    scheduler = Scheduler(random.Random(4), clock, restless=1.0)

    def talk(name: str, seconds: float) -> None:
        for number in range(3):
            said.append(f"{name}{number} at {clock.now:g}")
            scheduler.pause()
        scheduler.sleep(seconds)
        said.append(f"{name} ends at {clock.now:g}")

    scheduler.spawn("a", lambda: talk("a", 5))
    scheduler.spawn("b", lambda: talk("b", 2))
    scheduler.run()
    assert said[-2:] == ["b ends at 2", "a ends at 5"]
    assert said[:6] != sorted(said[:6])
    assert {each.split(" at ")[1] for each in said[:6]} == {"0"}


def test_a_job_dies_with_its_process_wherever_it_is() -> None:
    clock, place, ended = VirtualClock(0.0), Place(), list[str]()
    scheduler = Scheduler(random.Random(4), clock)

    def sleep(name: str, seconds: float) -> None:
        try:
            scheduler.sleep(seconds)
            ended.append(f"{name} is done")
        except Crash:
            ended.append(f"{name} is dead")
            raise

    def kill() -> None:
        place.life += 1

    scheduler.spawn("early", lambda: sleep("early", 1), place)
    scheduler.spawn("late", lambda: sleep("late", 3), place)
    scheduler.spawn("elsewhere", lambda: sleep("elsewhere", 4))
    scheduler.spawn("fate", kill, after=2)
    scheduler.spawn("never", lambda: ended.append("begun"), place, after=5)
    scheduler.run()
    assert ended == ["early is done", "late is dead", "elsewhere is done"]


def test_an_error_of_a_job_is_raised() -> None:
    scheduler = Scheduler(random.Random(4), VirtualClock(0.0))

    def err() -> None:
        raise ZeroDivisionError

    scheduler.spawn("job", err)
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
