"""Sessions in Redis decide what the oracle of the language of conditions says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from words.reference import MISSING, PATH, Reference
from words.replay import Comparison, scenario_seeds

from triggers_core.testing.clock import VirtualClock
from triggers_redis import RedisStore

pytestmark = pytest.mark.skipif(not PATH.exists(), reason=MISSING)


def compare(make_redis_store: Callable[..., RedisStore], amount: int) -> None:
    clock = VirtualClock()
    with make_redis_store(clock, shards=1) as store:
        Comparison(store, clock, Reference()).check_all(scenario_seeds(amount))


def test_redis_decides_as_the_oracle(make_redis_store: Callable[..., RedisStore]) -> None:
    compare(make_redis_store, 200)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_redis_decides_as_the_oracle_whatever_comes(
    make_redis_store: Callable[..., RedisStore], part: int
) -> None:
    compare(make_redis_store, 500)
