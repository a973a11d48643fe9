"""Every crash point of the core's scenarios: nothing lost, nothing committed twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from triggers_core.storages.base import Store
from triggers_core.testing.crash_scenario import (
    Fault,
    Outcome,
    every_crash_point,
    every_crash_point_twice,
    every_crash_point_with_a_broker,
    every_message,
    survey,
)
from triggers_core.testing.crash_words import SweptSeldom, TimedProcess, every_decision
from triggers_postgres import PostgresStore

Remake = Callable[..., PostgresStore]


def reopen(store: Store) -> Store:
    """As the next process does."""
    assert isinstance(store, PostgresStore)
    store.close()
    return PostgresStore(store.url, store.schema, clock=store.tables.clock, num_workers=1)


@pytest.mark.parametrize(
    "faults",
    [
        every_crash_point,
        pytest.param(every_message, marks=pytest.mark.slow),
        pytest.param(every_crash_point_with_a_broker, marks=pytest.mark.slow),
        pytest.param(every_crash_point_twice, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost_or_committed_twice(
    remake: Remake, faults: Callable[[Outcome], list[Fault]]
) -> None:
    found = survey(faults, remake, reopen)
    print(f"\n{found.points} crash points: {found.lost} lost, {found.doubled} doubled")
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)
    assert found.points > 20


@pytest.mark.slow
@pytest.mark.parametrize("life", [TimedProcess, SweptSeldom])
def test_nor_with_times(remake: Remake, life: type[TimedProcess]) -> None:
    found = survey(every_decision, remake, reopen, life)
    print(f"\n{found.points} crash points: {found.lost} lost, {found.doubled} doubled")
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)
