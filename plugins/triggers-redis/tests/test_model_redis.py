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
from triggers_redis import RedisStore, writing

OPTIONS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Processes:
    """The store as several processes have it: now one makes a change, now another."""

    def __init__(self, stores: Sequence[RedisStore], turns: random.Random) -> None:
        self._stores, self._turns = stores, turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turns.choice(self._stores), name)


@pytest.mark.parametrize("packed_size", [4_096, 0])
def test_two_processes_do_what_the_model_says(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch, packed_size: int
) -> None:
    """What one of them knows of a session is out of date as often as not."""
    monkeypatch.setattr(writing, "PACKED_SIZE", packed_size)

    @contextmanager
    def open_stores(clock: Clock) -> Iterator[Store]:
        one = make_redis_store(clock, shards=1)
        with one, make_redis_store(clock, namespace=one.namespace, shards=1) as two:
            yield cast(Store, Processes([one, one, two], random.Random(1)))

    compare_with_model(open_stores, OPTIONS)


@pytest.mark.parametrize("packed_size", [4_096, 800, 0])
def test_redis_does_what_the_model_says(
    make_redis_store: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch, packed_size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", packed_size)

    @contextmanager
    def open_store(clock: Clock) -> Iterator[Store]:
        with make_redis_store(clock, shards=1) as store:
            yield store

    compare_with_model(open_store, OPTIONS)


@pytest.mark.parametrize("worked", [False, True])
def test_sweeps_decide_nothing(make_redis_store: Callable[..., RedisStore], worked: bool) -> None:
    """Nor does it matter which of two processes looks."""

    @contextmanager
    def open_stores(clock: Clock) -> Iterator[Store]:
        one = make_redis_store(clock, shards=1)
        with one, make_redis_store(clock, namespace=one.namespace, shards=1) as two:
            yield cast(Store, Processes([one, one, two], random.Random(1)))

    compare_sweeps(open_stores, OPTIONS, worked=worked)
