"""The storage does what the model of all storages says, in any history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from model_machine import compare_with_model

from triggers_core.storages.base import Clock, Store
from triggers_redis import RedisStore, writing

OPTIONS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


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
