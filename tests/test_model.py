"""Every storage does what the model says, in any history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.model import compare_with_model
from triggers_core.testing.model.words import compare_sweeps

# TRIGGERS_MODEL_TIMES=10 looks ten times as long.
TIMES = int(os.environ.get("TRIGGERS_MODEL_TIMES", "1"))


def options(examples: int) -> settings:
    # Random, also where Hypothesis would repeat itself: each run looks at other histories, and a
    # failure prints what reproduces it.
    return settings(
        max_examples=examples * TIMES,
        stateful_step_count=50,
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def test_memory_does_what_the_model_says() -> None:
    compare_with_model(lambda clock: closing(MemoryStore(clock)), options(200))


def test_sqlite_does_what_the_model_says(fast_dir: Path) -> None:
    numbers = count()

    @contextmanager
    def empty_file(clock: Clock) -> Iterator[Store]:
        path = fast_dir / f"{next(numbers)}.db"
        with SqliteStore(path, "NORMAL", clock) as store:
            yield store
        for file in fast_dir.glob(f"{path.name}*"):
            file.unlink()

    compare_with_model(empty_file, options(120))


@pytest.mark.parametrize("worked", [False, True])
def test_sweeps_decide_nothing(worked: bool) -> None:
    compare_sweeps(lambda clock: closing(MemoryStore(clock)), options(60), worked=worked)
