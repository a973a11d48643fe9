"""Sessions in PostgreSQL decide what the oracle of the language of conditions says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from words.reference import MISSING, PATH, Reference
from words.replay import Comparison, scenario_seeds

from triggers_core.testing.clock import VirtualClock
from triggers_postgres import PostgresStore

pytestmark = pytest.mark.skipif(not PATH.exists(), reason=MISSING)


def compare(make_postgres_store: Callable[..., PostgresStore], amount: int) -> None:
    clock = VirtualClock()
    with make_postgres_store(clock) as store:
        Comparison(store, clock, Reference()).check_all(scenario_seeds(amount))


def test_postgres_decides_as_the_oracle(make_postgres_store: Callable[..., PostgresStore]) -> None:
    compare(make_postgres_store, 100)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_postgres_decides_as_the_oracle_whatever_comes(
    make_postgres_store: Callable[..., PostgresStore], part: int
) -> None:
    compare(make_postgres_store, 500)
