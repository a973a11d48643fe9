"""The simulation, with sessions on a real server: fresh seeds, and each is the same run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from simulated import assert_lawful

from triggers_core.engine.names import new_id
from triggers_core.storages.base import Clock
from triggers_core.testing.simulation import Simulator
from triggers_redis import RedisStore

SEEDS = 25

pytestmark = pytest.mark.long


@pytest.fixture
def simulator(make_redis_store: Callable[..., RedisStore]) -> Iterator[Simulator]:
    numbers, run = count(), new_id()

    def open_store(clock: Clock) -> RedisStore:  # each of three processes, in turn
        return make_redis_store(clock, namespace=f"triggers-test-{run}-{next(numbers) // 3}")

    with Simulator(storage=open_store) as entered:
        yield entered


def test_no_law_is_broken(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert_lawful(simulator, SEEDS, "Redis", capsys)


def test_a_seed_is_the_same_run_again(simulator: Simulator) -> None:
    assert simulator.run(7, hashed=True) == simulator.run(7, hashed=True)
