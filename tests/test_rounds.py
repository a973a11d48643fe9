"""The background sweep's way around many stores: fair, in bounded turns, whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import pytest

from triggers_core import Application, hookimpl
from triggers_core.exceptions import StorageError
from triggers_core.running.outages import Outages
from triggers_core.running.rounds import Pace, Rounds
from triggers_core.settings import Settings
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import VirtualClock


class Counted(MemoryStore):
    """Counts how often it is looked at; `away`: it answers nothing."""

    looks = 0
    away = False

    def next_due(self) -> float | None:
        self.looks += 1
        if self.away:
            raise StorageError("gone for lunch")
        return super().next_due()


class Named:
    def __init__(self, *stores: MemoryStore) -> None:
        self.stores = stores

    @hookimpl
    def stores_to_sweep(self) -> tuple[MemoryStore, ...]:
        return self.stores


@pytest.fixture
def stores() -> list[Counted]:
    return [Counted() for _ in range(3)]


@pytest.fixture
def app(stores: list[Counted]) -> Iterator[Application]:
    app = app_on(stores)
    yield app
    app.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def rounds_of(app: Application, clock: VirtualClock, pace: Pace | None = None) -> Rounds:
    return Rounds(app, Outages(logging.getLogger("triggers_core.test")), pace, clock=clock)


def looks(stores: Sequence[Counted]) -> list[int]:
    """How often each was looked at since the last call."""
    found = [store.looks for store in stores]
    for store in stores:
        store.looks = 0
    return found


def test_every_store_is_looked_at_once_an_interval(
    app: Application, stores: list[Counted], clock: VirtualClock
) -> None:
    rounds = rounds_of(app, clock)
    rounds.turn()
    looks(stores)  # a store that was never seen is looked at twice: its clock may have been set
    clock.advance(4.0)
    assert rounds.turn() == pytest.approx(1.0)
    assert looks(stores) == [0, 0, 0]
    clock.advance(1.0)
    assert rounds.turn() == pytest.approx(5.0)
    assert looks(stores) == [1, 1, 1]
    rounds.look_everywhere()
    rounds.turn()
    assert looks(stores) == [1, 1, 1]


def test_a_turn_that_takes_long_leaves_further_stores_to_the_next(
    app: Application, stores: list[Counted], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = rounds_of(app, clock, Pace(turn=0.5, pause=0.1))
    rounds.turn(unbounded=True)
    looks(stores)
    clock.advance(5.0)
    next_due = Counted.next_due

    def slowly(store: Counted) -> float | None:
        clock.advance(0.6)
        return next_due(store)

    monkeypatch.setattr(Counted, "next_due", slowly)
    turns = []
    for _ in stores:
        assert rounds.turn() == pytest.approx(0.1 if len(turns) < 2 else 3.2, abs=1e-3)
        turns.append(looks(stores))
    assert turns == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    rounds.look_everywhere()
    rounds.turn(unbounded=True)
    assert looks(stores) == [1, 1, 1]


@pytest.mark.parametrize(("failing", "expected"), [(0.0, 19), (60.0, 5)])
def test_a_store_that_fails_keeps_nobody_from_theirs(
    app: Application,
    stores: list[Counted],
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    failing: float,
    expected: int,
) -> None:
    rounds = rounds_of(app, clock, Pace(failing=failing))
    rounds.turn()
    looks(stores)
    stores[0].away = True
    for _ in range(19):
        clock.advance(5.0)
        rounds.turn()
    assert looks(stores) == [expected, 19, 19], "at once, then after 5, 10, 20, 40 seconds"
    stores[0].away = False
    clock.advance(60.0)
    rounds.turn()
    assert looks(stores) == [1, 1, 1]
    assert "works again" in caplog.text


# -- what other processes tell ---------------------------------------------------------------------


class Hearing(Counted):
    """Hears of what other processes store, as those in a database can."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: dict[Callable[[], None], None] = {}
        self.deaf = False

    def watch_due(self, callback: Callable[[], None]) -> None:
        if self.deaf:
            raise StorageError("no connection is left")
        self.callbacks[callback] = None

    def unwatch_due(self, callback: Callable[[], None]) -> None:
        self.callbacks.pop(callback, None)


@pytest.fixture
def hearing() -> list[Hearing]:
    return [Hearing() for _ in range(3)]


def test_a_store_that_hears_of_something_due_is_looked_at_next(
    hearing: list[Hearing], clock: VirtualClock
) -> None:
    app, woken = app_on(hearing), []
    rounds = rounds_of(app, clock)
    rounds.turn()
    assert [len(each.callbacks) for each in hearing] == [0, 0, 0], "nobody could be woken"
    rounds.wake = lambda: woken.append(1)
    clock.advance(5.0)
    rounds.turn()
    clock.advance(5.0)
    rounds.turn()
    assert [len(each.callbacks) for each in hearing] == [1, 1, 1]
    looks(hearing)
    assert rounds.turn() == pytest.approx(5.0)
    [hear] = hearing[1].callbacks
    hear()
    assert woken == [1]
    assert rounds.turn() == pytest.approx(5.0)
    assert looks(hearing) == [0, 1, 0]
    rounds.turn()
    assert looks(hearing) == [0, 0, 0]
    rounds.release()
    assert [len(each.callbacks) for each in hearing] == [0, 0, 0]
    app.close()


def test_a_store_that_cannot_hear_is_looked_at_all_the_same(
    hearing: list[Hearing], clock: VirtualClock
) -> None:
    app = app_on(hearing)
    rounds = rounds_of(app, clock)
    rounds.wake = lambda: None
    hearing[0].deaf = True
    rounds.turn()
    assert all(looks(hearing))
    assert [len(each.callbacks) for each in hearing] == [0, 1, 1]
    app.close()


def test_only_so_many_stores_are_heard_and_none_that_has_gone(clock: VirtualClock) -> None:
    hearing = [Hearing() for _ in range(30)]
    named = Named(*hearing)
    app = app_on(hearing, named)
    rounds = rounds_of(app, clock)
    rounds.wake = lambda: None
    rounds.turn(unbounded=True)
    heard = [each for each in hearing if each.callbacks]
    assert len(heard) == 20
    named.stores = tuple(each for each in hearing if each not in heard[:5])
    app.settings_changed()
    for _ in range(2):
        clock.advance(10.0)
        rounds.turn(unbounded=True)
    assert not any(each.callbacks for each in heard[:5])
    assert sum(bool(each.callbacks) for each in hearing) == 20
    app.close()


def app_on(stores: Sequence[MemoryStore], named: Named | None = None) -> Application:
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory",
        TRIGGER_PLUGINS=[named or Named(*stores)],
        TRIGGER_TIMING={"sweep": 5.0},
    )
    return Application("test", settings)
