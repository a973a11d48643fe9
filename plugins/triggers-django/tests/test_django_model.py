"""The store does what the models and the oracle of all storages say, in any history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from words.receipt import FOLDER, log_of, play
from words.reference import PATH, Reference
from words.replay import Comparison, scenario_seeds

from triggers_core.storages.base import Clock, Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.interruptions import survey
from triggers_core.testing.invariants import check_store
from triggers_core.testing.model import compare_with_model
from triggers_core.testing.model.words import compare_sweeps

OPTIONS = settings(
    max_examples=4,
    stateful_step_count=20,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def make_store(sqlite: Any, make_django_store: Callable[..., Any]) -> Callable[..., Any]:
    make: Callable[..., Any] = make_django_store(sqlite)
    return make


@pytest.fixture
def open_store(make_store: Callable[..., Any]) -> Callable[[Clock], Any]:
    @contextmanager
    def opened(clock: Clock) -> Iterator[Store]:
        with make_store(clock) as store:
            yield store

    return opened


def test_the_store_does_what_the_model_says(open_store: Callable[[Clock], Any]) -> None:
    compare_with_model(open_store, OPTIONS)


@pytest.mark.parametrize("worked", [False, True])
def test_sweeps_decide_nothing(open_store: Callable[[Clock], Any], worked: bool) -> None:
    compare_sweeps(open_store, OPTIONS, worked=worked)


@pytest.mark.skipif(not PATH.exists(), reason="the oracle of the language is not there")
@pytest.mark.parametrize(
    "amount", [40, pytest.param(400, marks=pytest.mark.long)], ids=["some", "many"]
)
def test_the_store_decides_as_the_oracle(make_store: Callable[..., Any], amount: int) -> None:
    clock = VirtualClock()
    with make_store(clock) as store:
        Comparison(store, clock, Reference()).check_all(scenario_seeds(amount))


@pytest.mark.skipif(not FOLDER.exists(), reason="the log of receipts is not there")
@pytest.mark.parametrize(
    "sessions",
    [
        pytest.param(slice(6), id="6 sessions"),
        *(
            pytest.param(slice(first, first + 10), id=f"10 from {first}", marks=pytest.mark.long)
            for first in (10, 20, 30)
        ),
    ],
)
def test_a_log_of_real_events(
    make_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, sessions: slice
) -> None:
    play(log_of(sessions, monkeypatch), make_store)


@pytest.mark.traces
@pytest.mark.parametrize("step", [997, pytest.param(61, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_exceptions_between_any_two_bytecodes(make_store: Callable[..., Any], step: int) -> None:
    store = make_store(lambda: 1_700_000_000.0)
    report = survey(store, step=step)
    assert not report.problems, report
    check_store(store)
