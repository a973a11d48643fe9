"""What tells, within seconds, whether the engine still decides as it should: for mutmut.

Fixed scenarios against the oracle of the language and short histories against the model, in memory;
each a test of its own, so that a mutant is met by the fastest that reaches it. Beside them,
mutmut runs the quick files of `tests/` that are about the engine (`noxfile.py`, session `mutmut`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, Phase, settings
from words.reference import MISSING, PATH, Reference
from words.replay import Comparison
from words.scenarios import make_scenario

from triggers_core.storages.memory import MemoryStore
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.model import compare_with_model
from triggers_core.testing.model.words import compare_sweeps

SCENARIOS = 25
"""In one test."""


@pytest.fixture
def comparison() -> Iterator[Comparison]:
    clock = VirtualClock()
    with closing(MemoryStore(clock)) as store:
        yield Comparison(store, clock, Reference())


def options(examples: int) -> settings:
    # The same each time: a mutant that survives once does so again.
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # that it fails is enough
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.skipif(not PATH.exists(), reason=MISSING)
@pytest.mark.parametrize("part", range(12))
def test_scenarios(comparison: Comparison, part: int) -> None:
    for seed in range(part * SCENARIOS, (part + 1) * SCENARIOS):
        scenario = make_scenario(seed, comparison.reference.refuses)
        assert not comparison.difference(scenario)


def test_histories() -> None:
    compare_with_model(lambda clock: closing(MemoryStore(clock)), options(30))


@pytest.mark.parametrize("worked", [False, True])
def test_sweeps(worked: bool) -> None:
    compare_sweeps(lambda clock: closing(MemoryStore(clock)), options(10), worked=worked)
