"""The sweep: it goes on whatever fails, says so once, and does not believe wrong clocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from applications import STORAGES

from triggers_core import Application, hookimpl
from triggers_core.engine.attempts import Claim, Fail, Heartbeat, Retry
from triggers_core.exceptions import StorageError
from triggers_core.runners import ManualRunner
from triggers_core.running.heartbeats import Heartbeats, Lease
from triggers_core.running.outages import Outages
from triggers_core.running.sweep import next_look, sweep
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import VirtualClock, bodies
from triggers_core.testing.manager_helpers import configure, fire_silently, message_about, statuses

HOUR, YEAR = 3_600.0, 366 * 86_400.0
LONGEST_REGULAR_WAIT = HOUR


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_800_000_000.0)


@pytest.fixture(params=STORAGES)
def store(request: pytest.FixtureRequest, fast_dir: Path, clock: VirtualClock) -> Iterator[Store]:
    store: Store
    if request.param == "memory":
        store = MemoryStore(clock)
    else:
        store = SqliteStore(fast_dir / "t.db", "NORMAL", clock)
    yield store
    store.close()


@pytest.fixture
def app(store: Store) -> Application:
    return _application(store)


def _application(store: Store, **settings: object) -> Application:
    kind = "memory" if isinstance(store, MemoryStore) else "sqlite"
    app = Application(
        "test",
        Settings.isolated(**{"TRIGGER_STORAGE_TYPE": kind, "TRIGGER_PLUGINS": [], **settings}),
        store=store,
        runner=ManualRunner,
    )
    return app


def taken(app: Application) -> list[str]:
    runner = app.runner()
    assert isinstance(runner, ManualRunner)
    return [f"{each.uid} {each.instance} {each.attempt}" for each in runner.clear()]


def work_off(app: Application, clock: VirtualClock, seconds: float) -> None:
    """What a background sweep does in that time."""
    until = clock.now + seconds
    while clock.now < until:
        for _ in range(100):
            wait = next_look(app.store)
            if wait is None or wait > 0:
                break
            if not sweep(app.store, app.manager, timing=app.rules.timing).more:
                break
        clock.now += min(30.0, until - clock.now)


# -- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [HOUR, YEAR])
@pytest.mark.parametrize("restarted", [False, True])
class TestAClockThatWasAhead:
    """What it wrote lies far in the future when it is right again."""

    def settle(
        self, app: Application, clock: VirtualClock, step: float, restarted: bool
    ) -> Application:
        if not restarted:
            next_look(app.store)  # a sweep that has seen the wrong clock
        clock.now -= step
        return app

    def test_a_dead_worker(
        self, app: Application, clock: VirtualClock, step: float, restarted: bool
    ) -> None:
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        clock.now += step
        message = fire_silently(app, manager, "t_a#0")
        manager.commit(Claim(instance="t_a#0", attempt=1, generation=message.generation))
        app = self.settle(app, clock, step, restarted)
        work_off(app, clock, 3 * 60.0)
        assert set(taken(app)) == {"order:1 t_a#0 2"}

    def test_a_living_worker_keeps_what_it_has(
        self, app: Application, clock: VirtualClock, step: float, restarted: bool
    ) -> None:
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        clock.now += step
        message = fire_silently(app, manager, "t_a#0")
        claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
        manager.commit(claim)
        app = self.settle(app, clock, step, restarted)
        for _ in range(20):
            work_off(app, clock, 15.0)
            manager.commit(Heartbeat(instance="t_a#0", token=claim.token))
        assert taken(app) == []
        assert statuses(manager) == {"t_a#0": "running"}

    def test_a_lost_message(
        self, app: Application, clock: VirtualClock, step: float, restarted: bool
    ) -> None:
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        clock.now += step
        fire_silently(app, manager, "t_a#0")
        app = self.settle(app, clock, step, restarted)
        work_off(app, clock, 90.0)
        assert taken(app)[0] == "order:1 t_a#0 1"

    def test_a_cooldown_lasts_as_long_as_it_was_asked_for(
        self, app: Application, clock: VirtualClock, step: float, restarted: bool
    ) -> None:
        manager = app.manager("order:1")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        message = fire_silently(app, manager, "t_a#0")
        claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
        manager.commit(claim)
        clock.now += step
        manager.commit(Fail(instance="t_a#0", token=claim.token, retry=Retry(cooldown=7_200.0)))
        app = self.settle(app, clock, step, restarted)
        work_off(app, clock, 7_100.0)
        assert taken(app) == []
        work_off(app, clock, 200.0)
        assert set(taken(app)) == {"order:1 t_a#1 1"}


def test_right_times_far_ahead_stay(app: Application, clock: VirtualClock) -> None:
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    message = fire_silently(app, manager, "t_a#0")
    claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
    manager.commit(claim)
    manager.commit(Fail(instance="t_a#0", token=claim.token, retry=Retry(cooldown=YEAR)))
    due = manager.storage.store.instances("order:1")[1].due_at
    work_off(app, clock, HOUR)
    assert manager.storage.store.instances("order:1")[1].due_at == due
    assert taken(app) == []


def test_misdated_ones_behind_many_right_ones_are_found(
    app: Application, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggers_core.running.sweep._PAGE", 3)
    for number in range(10):
        manager = app.manager(f"held:{number}")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        message = fire_silently(app, manager, "t_a#0")
        claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
        manager.commit(claim)
        manager.commit(Fail(instance="t_a#0", token=claim.token, retry=Retry(cooldown=YEAR)))
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    clock.now += HOUR
    fire_silently(app, manager, "t_a#0")
    clock.now -= HOUR
    work_off(app, clock, 90.0)
    assert taken(app)[0] == "order:1 t_a#0 1"


@pytest.mark.parametrize("step", [HOUR, YEAR])
def test_the_lease_of_a_sweep_whose_clock_was_ahead_is_free(
    store: Store, clock: VirtualClock, step: float
) -> None:
    clock.now += step
    assert store.acquire_lease("sweep", "dead", 15.0)
    clock.now -= step
    assert store.acquire_lease("sweep", "alive", 15.0)
    assert not store.acquire_lease("sweep", "third", 15.0)


# -- what cannot be recovered ---------------------------------------------------------------------


class Refuses(Exception):
    pass


def test_stubborn_sessions_are_named_once_and_hide_nothing(
    app: Application, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        manager = app.manager(f"{number:02}")
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        fire_silently(app, manager, "t_a#0")
    clock.now += 61
    commit = app.store.commit

    def partly_broken(uid, command, rules):  # type: ignore[no-untyped-def]
        if uid < "20":
            raise Refuses(f"{uid} is damaged")
        return commit(uid, command, rules)

    app.store.commit = partly_broken  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "triggers_core"):
        for _ in range(10):
            sweep(app.store, app.manager, 5, app.rules.timing)
    assert sorted(taken(app)) == [f"{number} t_a#0 1" for number in range(20, 30)]
    lines = [record.message for record in caplog.records]
    assert len(lines) == 4, "a line for each turn that met new ones, five of them"
    assert all("could not recover 5 sessions" in line for line in lines)


def test_a_storage_that_is_away_is_not_taken_for_stubborn_sessions(
    app: Application, clock: VirtualClock
) -> None:
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    fire_silently(app, manager, "t_a#0")
    clock.now += 61

    def away(*_: object) -> None:
        raise StorageError("connection refused")

    for name in ("commit", "next_due"):
        setattr(app.store, name, away)
    with pytest.raises(StorageError, match="refused"):
        sweep(app.store, app.manager, timing=app.rules.timing)
    for name in ("commit", "next_due"):
        delattr(app.store, name)
    sweep(app.store, app.manager, timing=app.rules.timing)
    assert taken(app) == ["order:1 t_a#0 1"]


def test_a_plugin_that_always_fails_does_not_keep_a_lost_attempt_from_going_on(
    store: Store, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    class Breaks:
        @hookimpl
        def before_commit(self, session: object, plan: object) -> None:
            if broken:
                raise ValueError("broken")

    app = _application(store, TRIGGER_PLUGINS=[Breaks()])
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
    message = fire_silently(app, manager, "t_a#0")
    for attempt in range(1, 6):
        claim = Claim(instance="t_a#0", attempt=attempt, generation=message.generation)
        claim.token += "@here:42"
        broken = False
        manager.commit(claim)
        broken = True
        clock.now += 61
        with caplog.at_level(logging.WARNING, "triggers_core"):
            sweep(app.store, app.manager, timing=app.rules.timing)
    instance = manager.storage["t_a#0"]
    assert instance.status == "failed"
    assert instance.metadata["error"]["type"] == "WorkerLost"
    assert "Breaks" in str(instance.metadata["plugins_left_out"])
    lost = [record.message for record in caplog.records if "was lost" in record.message]
    assert len(lost) == 5
    assert "attempt 1 (here:42) was lost" in lost[0]
    assert lost[0].endswith("attempt 2 follows")


# -- outages, heartbeats ---------------------------------------------------------------------------


def test_an_outage_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outages = Outages(logging.getLogger("triggers_core.test"), lambda: now)
    for _ in range(3_600):
        now += 1
        outages.failed("redis", "the sweep", StorageError("refused"))
    outages.works("redis", "the sweep")
    outages.works("redis", "the sweep")
    lines = [record.message for record in caplog.records]
    assert lines[0] == "the sweep failed; it will be tried again: StorageError: refused"
    assert lines[1].startswith("the sweep still fails after 20 s (21 times)")
    assert lines[-1] == "the sweep works again after 3599 s"
    assert len(lines) <= 10


def test_what_comes_and_goes_is_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outages = Outages(logging.getLogger("triggers_core.test"), lambda: now)
    for _ in range(3_600):
        now += 1
        outages.failed("a", "the sweep", ValueError("odd"))
        outages.works("a", "the sweep")
    assert len(caplog.records) < 400


def test_outages_are_bounded_and_survive_hostile_errors() -> None:
    class Hostile(BaseException):
        def __str__(self) -> str:
            raise SystemExit

    outages = Outages(logging.getLogger("triggers_core.test"))
    for number in range(2_000):
        outages.failed(number, "it", Hostile())
    assert len(outages._outages) <= 1_000


def test_a_heartbeat_that_fails_does_not_keep_the_others_from_theirs(
    app: Application, clock: VirtualClock
) -> None:
    import threading

    heartbeats = Heartbeats(1e10)
    commit, renewed = app.store.commit, []

    def odd(uid, command, rules):  # type: ignore[no-untyped-def]
        if uid == "a":
            raise MemoryError
        renewed.append(uid)
        return commit(uid, command, rules)

    leases = []
    for uid in ("a", "b"):
        manager = app.manager(uid)
        configure(manager, t_a=(bodies.Echo, {"after": ["go"]}))
        message = fire_silently(app, manager, "t_a#0")
        claim = Claim(instance="t_a#0", attempt=1, generation=message.generation)
        manager.commit(claim)
        leases.append(Lease(app.store, uid, "t_a#0", claim.token, app.rules, threading.Event()))
    app.store.commit = odd  # type: ignore[method-assign]
    with heartbeats.holding(leases[0]), heartbeats.holding(leases[1]):
        thread = heartbeats._thread
        assert thread is not None
        heartbeats.beat()
        heartbeats.beat()
        assert renewed == ["b", "b"]
        assert thread.is_alive(), "not even an interval of 1e10 s ends it"
    heartbeats.stop()
    assert message_about(manager, "t_a#0").attempt == 1
