"""Logs against independent oracles, and every crash point of the core's scenario."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from triggers_core import Application
from triggers_core.backtest import backtest
from triggers_core.settings import Settings
from triggers_core.storages.base import Clock, Store
from triggers_core.testing import check_store, invariants
from triggers_core.testing.crash_scenario import (
    every_crash_point,
    every_crash_point_twice,
    every_crash_point_with_a_broker,
    every_message,
    survey,
)
from triggers_core.testing.crash_words import SweptSeldom, TimedProcess, every_decision
from triggers_core.testing.replays import (
    Log,
    RecordedLog,
    SampleLog,
    check_totals,
    instances_of,
)
from triggers_redis import RedisStore, view, writing

RECORDED = Path(__file__, "../../../../../shared/data").resolve()
"""Logs of real events, beside the repository."""


@pytest.mark.parametrize(("name", "size"), [("orders", 4_096), ("every", 1_500), ("crossed", 0)])
def test_every_instance_of_the_sample_is_the_oracles(
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    size: int,
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    replay(SampleLog(name), make_redis_store())


@pytest.mark.parametrize(
    ("name", "size"), [("receipt_sample", 0), ("receipt_sample", 1_500), ("receipt", 4_096)]
)
def test_every_instance_is_the_oracles(
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    size: int,
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    replay(RecordedLog(RECORDED / name), make_redis_store())


def replay(log: Log, store: RedisStore) -> None:
    app = Application("oracle", Settings.isolated(TRIGGER_PLUGINS=[]))
    result = backtest(log.config, log.events(), store, app=app, stuck_at_most=10_000)
    check_totals(result, log)
    assert instances_of(store) == log.instances()


@pytest.mark.parametrize("size", [4_096, 1_000], ids=["packed", "growing"])
@pytest.mark.parametrize(
    "faults",
    [every_crash_point, every_crash_point_with_a_broker, every_crash_point_twice, every_message],
)
def test_crashes_lose_and_double_nothing(
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    faults: Callable[..., object],
    size: int,
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)

    def make_store(clock: Clock) -> Store:
        return make_redis_store(clock, shards=1)

    def reopen(store: Store) -> Store:
        assert isinstance(store, RedisStore)
        store.close()
        return make_redis_store(store.virtual, namespace=store.namespace, shards=1)

    found = survey(faults, make_store, reopen)  # type: ignore[arg-type]
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)
    assert found.points > 20
    print(f"\n{found.points} crash points: 0 lost, 0 double, {found.extra_runs} extra executions")


@pytest.mark.parametrize("life", [TimedProcess, SweptSeldom])
def test_crashes_change_no_decision(
    make_redis_store: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
    life: type[TimedProcess],
) -> None:
    for module in (view, invariants):
        monkeypatch.setattr(module, "MOST_DUE", 2)

    def make_store(clock: Clock) -> Store:
        return make_redis_store(clock, shards=1)

    def reopen(store: Store) -> Store:
        assert isinstance(store, RedisStore)
        store.close()
        return make_redis_store(store.virtual, namespace=store.namespace, shards=1)

    found = survey(every_decision, make_store, reopen, life)
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)


def test_the_store_agrees_with_itself_after_a_log(
    make_redis_store: Callable[..., RedisStore],
) -> None:
    from triggers_core.testing import VirtualClock

    log = RecordedLog(RECORDED / "receipt_sample")
    store = make_redis_store(VirtualClock())
    app = Application("oracle", Settings.isolated(TRIGGER_PLUGINS=[]))
    backtest(log.config, log.events()[:300], store, app=app)
    check_store(store)
