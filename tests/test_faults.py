"""Faults as a library: what strikes, when, and that it is the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.runners import ManualRunner
from triggers_core.running.messages import Message
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.faults import (
    Delivery,
    FaultPlan,
    FaultyStore,
    FrozenWorker,
    InjectedError,
    SkewedClock,
)

TASKS = {"t_ship": {"after": ["paid"], "run": f"{__name__}.ship"}}
shipped: list[str] = []


@trigger_task(name=f"{__name__}.ship")
def ship(context: TaskContext) -> None:
    shipped.append(f"{context.instance.name}, attempt {context.attempt}")


def troubles(seed: int) -> tuple[dict[str, int], int]:
    """What a plan did to a hundred fires, and how many of them were stored."""
    plan = FaultPlan(seed, errors={"commit": 0.2}, lost_replies={"commit": 0.2})
    store = FaultyStore(MemoryStore(), plan)
    session, unheard = SessionDriver(store, "order:1"), 0
    for _ in range(100):
        try:
            session.fire("paid")
        except InjectedError:
            unheard += 1
    assert unheard == plan.struck.total()
    return dict(plan.struck), len(store.inner.events("order:1"))


def test_errors_do_nothing_and_lost_replies_take_effect() -> None:
    struck, stored = troubles(7)
    assert stored == 100 - struck["error before commit of Fire"]
    assert min(struck.values()) > 5
    assert len(struck) == 2


def test_the_same_seed_strikes_alike() -> None:
    assert troubles(7) == troubles(7)
    assert troubles(7) != troubles(8)


def test_rates_go_by_what_is_committed_by_method_and_by_star() -> None:
    plan = FaultPlan(1, errors={"commit of Claim": 1.0, "commit": 0.0, "*": 1.0})
    session = SessionDriver(FaultyStore(MemoryStore(), plan), "order:1")
    session.fire("paid")
    with pytest.raises(InjectedError, match="error before load"):
        _ = session.header
    with pytest.raises(InjectedError, match="error before commit of Claim"):
        session.claim("t_ship#0", attempt=1, generation="any")


def test_delays_let_time_pass() -> None:
    clock = VirtualClock(1_000.0)
    plan = FaultPlan(1, delays={"commit": 60}, sleep=clock.advance)
    SessionDriver(FaultyStore(MemoryStore(clock), plan), "order:1").fire("paid")
    assert 1_000.0 < clock.now <= 1_060.0
    with pytest.raises(ValueError, match="VirtualClock"):
        FaultPlan(1, delays={"commit": 60})


def test_a_transaction_may_be_stored_and_nobody_hears_of_it(fast_dir: Path) -> None:
    plan = FaultPlan(1, lost_replies={"the transaction": 1.0})
    with SqliteStore(fast_dir / "faults.db", "NORMAL") as inner:
        store = FaultyStore(inner, plan)
        with pytest.raises(InjectedError, match="lost reply"), store.transaction():
            SessionDriver(store, "order:1").fire("paid")
        assert len(inner.events("order:1")) == 1


@pytest.mark.parametrize(
    ("rates", "expected"),
    [({}, {1}), ({"lost": 1.0}, {0}), ({"repeated": 1.0}, {2}), ({"lost": 0.5}, {0, 1})],
)
def test_messages_are_lost_and_repeated(rates: dict[str, float], expected: set[int]) -> None:
    delivery = Delivery(random.Random(3), **rates)
    assert {len(delivery.copies()) for _ in range(50)} == expected


def test_messages_overtake_each_other() -> None:
    delivery = Delivery(random.Random(3), late=0.5, longest=10.0)
    arrivals = [number + delivery.copies()[0] for number in range(50)]
    assert arrivals != sorted(arrivals)
    assert max(a - n for n, a in enumerate(arrivals)) <= 10.0


def test_clocks_of_two_processes_differ_and_jump() -> None:
    true = VirtualClock(1_000.0)
    mine, theirs = SkewedClock(true), SkewedClock(true, offset=-2.5)
    mine.jump(3_600)
    true.advance(10)
    assert (mine(), theirs()) == (4_610.0, 1_007.5)
    mine.jump(-7_200)
    assert mine() == -2_590.0


@pytest.fixture
def shop() -> tuple[Application, VirtualClock]:
    shipped.clear()
    clock = VirtualClock()
    app = Application(
        "shop",
        Settings.isolated(TRIGGER_PLUGINS=[]),
        store=MemoryStore(clock),
        runner=ManualRunner,
    )
    app.manager("order:1").update_configuration(TASKS)
    app.manager("order:1").fire("paid")
    return app, clock


def frozen(app: Application) -> tuple[FrozenWorker, Callable[[], Status]]:
    manager, runner = app.manager("order:1"), app.runner()
    assert isinstance(runner, ManualRunner)
    worker = FrozenWorker(manager, runner.clear()[0])

    def status() -> Status:
        return (
            app.store.load("order:1", Query(instances=("t_ship#0",))).instances["t_ship#0"].status
        )

    return worker, status


def test_a_frozen_worker_that_others_replaced_changes_nothing(
    shop: tuple[Application, VirtualClock],
) -> None:
    app, clock = shop
    zombie, status = frozen(app)
    assert status() is Status.RUNNING
    clock.advance(61)
    app.manager("order:1").recover()
    assert zombie.thaw() is None
    assert (status(), shipped) == (Status.SCHEDULED, ["t_ship#0, attempt 1"])
    app.runner().join_all()
    assert (status(), shipped[1:]) == (Status.FINISHED, ["t_ship#0, attempt 2"])


def test_a_frozen_worker_that_nobody_missed_goes_on(shop: tuple[Application, VirtualClock]) -> None:
    app, clock = shop
    worker, status = frozen(app)
    clock.advance(61)
    ended = worker.thaw()
    assert ended is not None
    assert status() is Status.FINISHED
    assert FrozenWorker(app.manager("order:1"), message_of(app)).thaw() is None


def message_of(app: Application) -> Message:
    """A message that is out of date."""
    header = app.store.load("order:1", Query()).header
    assert header is not None
    return Message(app.name, "order:1", header.generation, "t_ship#0", 1)
