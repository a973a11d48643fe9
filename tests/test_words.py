"""The engine does what the oracle of the language of conditions says, in any scenario.

`TRIGGERS_WORDS_SEED=17` plays just the scenario of that seed, `fresh` others in each run;
`TRIGGERS_WORDS_TIMES=10` ten times as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from words.decisive import decisive
from words.reference import MISSING, PATH, Reference
from words.refusals import REFUSED, TAKEN
from words.replay import Comparison, refuses, scenario_seeds
from words.scenarios import make_scenario, refused_tasks

from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.clock import VirtualClock

pytestmark = pytest.mark.skipif(not PATH.exists(), reason=MISSING)

QUICK = range(4)
SLOW = range(6)


@pytest.fixture
def reference() -> Reference:
    return Reference()


# -- the engine ------------------------------------------------------------------------------------


def compare_in_memory(reference: Reference, amount: int) -> None:
    clock = VirtualClock()
    with closing(MemoryStore(clock)) as store:
        Comparison(store, clock, reference).check_all(scenario_seeds(amount))


@pytest.mark.parametrize("part", QUICK)
def test_memory_decides_as_the_oracle(reference: Reference, part: int) -> None:
    compare_in_memory(reference, 500)


@pytest.mark.long
@pytest.mark.parametrize("part", SLOW)
def test_memory_decides_as_the_oracle_whatever_comes(reference: Reference, part: int) -> None:
    compare_in_memory(reference, 1_000)


def test_memory_decides_as_the_oracle_on_fresh_scenarios(
    reference: Reference, record_property: Callable[[str, object], None]
) -> None:
    seeds, clock = scenario_seeds(1_000, fresh=True), VirtualClock()
    with closing(MemoryStore(clock)) as store:
        Comparison(store, clock, reference).check_all(seeds)
    text = f"scenarios against the oracle: first fresh seed {seeds.start}, {len(seeds):,} seeds"
    record_property("summary", text)


def compare_on_sqlite(reference: Reference, folder: Path, amount: int) -> None:
    clock = VirtualClock()
    with SqliteStore(folder / "words.db", "NORMAL", clock) as store:
        Comparison(store, clock, reference).check_all(scenario_seeds(amount))


def test_sqlite_decides_as_the_oracle(reference: Reference, fast_dir: Path) -> None:
    compare_on_sqlite(reference, fast_dir, 200)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_sqlite_decides_as_the_oracle_whatever_comes(
    reference: Reference, fast_dir: Path, part: int
) -> None:
    compare_on_sqlite(reference, fast_dir, 500)


# -- configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_oracle_refuses_is_refused(reference: Reference, task: dict[str, Any]) -> None:
    assert reference.refuses("t_0", task)
    assert refuses("t_0", task)


@pytest.mark.parametrize("task", TAKEN.values(), ids=TAKEN.keys())
def test_what_the_oracle_takes_is_taken(reference: Reference, task: dict[str, Any]) -> None:
    assert not reference.refuses("t_0", task)
    assert refuses("t_0", task) == ""


def test_random_tasks_are_refused_as_the_oracle_does(reference: Reference) -> None:
    for seed in scenario_seeds(300):
        for name, task in refused_tasks(seed, reference.refuses):
            assert refuses(name, task), f"TRIGGERS_WORDS_SEED={seed}: {task}"


# -- what the scenarios are good for ---------------------------------------------------------------

OFTEN = (
    "late",
    "calledOff",
    "failed",
    "skipped",
    "called off while held",
    "called off by a counted leaf",
    "late within.of",
    "late at the very moment of a fire",
    "late by an event: created after its deadline",
    "count of an event: 0",
    "count of an event: n",
    "count of an event: unusable bool",
    "keeping all: several",
    "keeping latest: not the first",
    "everyTime: another round, run",
    "andEvery: another, run",
    "run at the end of a hold: a duration",
    "run at the end of a hold: until",
    "hold ends by atMost",
    "hold ends at the very moment of a fire",
    "hold with events at several times",
    "until: unusable",
    "until: past, no wait",
    "until: of a latest leaf",
    "run though leaves do not hold (anyOf, atLeast)",
    "otherwise late",
    "otherwise failed",
    "otherwise skipped",
    "otherwise calledOff",
    "otherwise: another task waits for it",
    "replay",
    "configured after events: first",
    "configured after events: past",
    "configured after events: no past",
    "tasks replaced",
    "tasks added: past",
)
"""What has to decide in one scenario of a hundred, at least."""


def test_every_word_decides_often(
    reference: Reference, record_property: Callable[[str, object], None]
) -> None:
    found: Counter[str] = Counter()
    for seed in range(1_000):
        scenario = make_scenario(seed, reference.refuses)
        found.update(decisive(reference.module, reference.play(scenario), scenario))
    rare = {each: found[each] for each in OFTEN if found[each] < 10}
    assert not rare
    least = min(OFTEN, key=lambda each: found[each])
    record_property(
        "summary",
        f"of {len(OFTEN)} decisions in 1,000 scenarios the rarest: {least}, {found[least]}",
    )
