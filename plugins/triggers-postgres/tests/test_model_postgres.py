"""The storage does what the model of all storages says, in any history."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from triggers_core.storages.base import Clock, Store
from triggers_core.testing.model import compare_with_model
from triggers_core.testing.model.words import compare_sweeps
from triggers_postgres import PostgresStore

OPTIONS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Processes:
    """The store as several processes have it: now one makes a change, now another."""

    def __init__(self, stores: Sequence[PostgresStore], turns: random.Random) -> None:
        self._stores, self._turns = stores, turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turns.choice(self._stores), name)


@pytest.fixture
def open_stores(remake: Callable[..., PostgresStore]) -> Callable[[Clock], Any]:
    @contextmanager
    def open_stores(clock: Clock) -> Iterator[Store]:
        with (
            remake(clock) as one,
            PostgresStore(one.url, one.schema, clock=clock, num_workers=1) as two,
        ):
            yield cast(Store, Processes([one, one, two], random.Random(1)))

    return open_stores


def test_two_processes_do_what_the_model_says(open_stores: Callable[[Clock], Any]) -> None:
    compare_with_model(open_stores, OPTIONS)


@pytest.mark.parametrize("worked", [False, True])
def test_sweeps_decide_nothing(open_stores: Callable[[Clock], Any], worked: bool) -> None:
    """Nor does it matter which of two processes looks."""
    compare_sweeps(open_stores, OPTIONS, worked=worked)
