"""Many threads at one session: their commits are serial, and none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Thread
from typing import Any, TypeVar

import pytest

from triggers_core.engine.commands import Fire, FireOutcome
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Plan, Query, Rules, Snapshot
from triggers_core.exceptions import TriggersError
from triggers_core.limits import Timing
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises

T = TypeVar("T")

_THREADS = 4
_A_MOMENT = 0.25
"""Seconds that a change leaves to another one, which may have to wait for its end."""


class _SlowFire:
    """A fire in the middle of which something happens, the first time that it is decided."""

    def __init__(self, trigger: str, meanwhile: Callable[[], None]) -> None:
        self._fire = Fire(trigger=trigger, payload=b"{}", event_id=new_id())
        self._meanwhile: Callable[[], None] | None = meanwhile

    def decide(self, uid: str, rules: Rules) -> Generator[Query, Snapshot, Plan[FireOutcome]]:
        steps = self._fire.decide(uid, rules)
        query = next(steps)
        try:
            while True:
                snapshot = yield query
                meanwhile, self._meanwhile = self._meanwhile, None
                if meanwhile is not None:
                    meanwhile()
                query = steps.send(snapshot)
        except StopIteration as done:
            plan: Plan[FireOutcome] = done.value
            return plan


class Concurrency(StoragePromises):
    """Races that a real fleet runs every day."""

    def test_no_fire_is_lost_and_a_barrier_is_scheduled_once(self, session: SessionDriver) -> None:
        triggers = [f"part {number}" for number in range(100)]
        session.configure(t_barrier={"after": triggers}, t_each={"andEvery": "part 7"})

        def fire(number: int) -> list[str]:
            mine = triggers[number::_THREADS]
            return [name for trigger in mine for name in session.fire(trigger).scheduled]

        scheduled = [name for names in _at_once(fire) for name in names]
        assert sorted(scheduled) == ["t_barrier#0", "t_each#0"]
        assert Counter(session.fired()) == Counter(triggers)
        assert session.header.version == 101

    @pytest.mark.parametrize("kind", ["new", "known"])
    def test_a_change_overwrites_nothing_that_came_while_it_was_decided(
        self, session: SessionDriver, kind: str
    ) -> None:
        if kind == "known":
            session.configure(t_x={"after": ["one", "other"]})
        other = Thread(target=session.fire, args=("other",))

        def meanwhile() -> None:
            other.start()
            other.join(_A_MOMENT)

        session.commit(_SlowFire("one", meanwhile))
        other.join()
        assert sorted(session.fired()) == ["one", "other"]
        if kind == "known":
            assert session.statuses() == {"t_x#0": "scheduled"}

    def test_one_event_id_is_recorded_once(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})

        def fire(number: int) -> list[str]:
            return [session.fire("go", event_id=f"e{n}").status for n in range(20)]

        statuses = Counter(status for each in _at_once(fire) for status in each)
        assert statuses == {"recorded": 20, "duplicate": 20 * (_THREADS - 1)}
        assert len(session.statuses()) == 20

    def test_once_is_decided_inside_the_commit(self, session: SessionDriver) -> None:
        for number in range(10):
            fire = partial(session.fire, f"go {number}", once=True)
            statuses = [recorded.status for recorded in _at_once(_ignoring(fire))]
            assert sorted(statuses) == ["already fired"] * (_THREADS - 1) + ["recorded"]

    def test_one_claim_wins(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})
        for number in range(10):
            session.fire("go")
            generation = session.header.generation
            claim = partial(session.claim, f"t_x#{number}", attempt=1, generation=generation)
            won = _at_once(_tried(claim))
            assert sum(each is not None for each in won) == 1

    def test_one_replay_wins(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.fail_now("t_x#0")
        won = _at_once(_tried(partial(session.replay, "t_x#0")))
        assert sum(each is not None for each in won) == 1
        assert session.statuses() == {"t_x#0": "replayed", "t_x#1": "scheduled"}

    def test_a_finish_or_a_sweep_wins(self, session: SessionDriver, clock: VirtualClock) -> None:
        session.configure(t_x={"andEvery": "go"})
        for number in range(10):
            session.fire("go")
            claimed = session.claim(f"t_x#{number}")
            clock.advance(Timing().lease)
            finish = _tried(partial(session.finish, claimed))
            sweep = _tried(partial(session.recover, claimed.instance.name))
            _at_once(partial(_alternating, finish, sweep))
            status = session.status(f"t_x#{number}")
            cascades = [e for e in session.events() if e.cause == f"t_x#{number}"]
            assert (status, len(cascades)) in (("finished", 1), ("scheduled", 0))

    def test_sessions_do_not_wait_for_each_other_s_outcome(self, store: Store) -> None:
        def work(number: int) -> int:
            session = SessionDriver(store, f"order:{number}")
            session.configure(t_a={"andEvery": "go"}, t_b={"andEvery": "t_a"})
            for _ in range(10):
                session.fire("go")
                session.run_all()
            return session.header.version

        assert _at_once(work) == [51] * _THREADS

    def test_a_reader_sees_whole_commits(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})
        session.fire("go")

        def work(number: int) -> bool:
            if number == 0:
                for _ in range(50):
                    session.fire("go")
                return True
            whole = True
            for _ in range(50):
                snapshot = session.store.load(session.uid, Query(all_events=True))
                assert snapshot.header is not None
                whole &= (
                    snapshot.header.events == len(snapshot.events) == snapshot.header.created("t_x")
                )
            return whole

        assert all(_at_once(work))


def _at_once(work: Callable[[int], T]) -> list[T]:
    """Run `work` in several threads that start together."""
    start = Barrier(_THREADS)

    def one(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, range(_THREADS)))


def _ignoring(work: Callable[[], T]) -> Callable[[int], T]:
    """`work`, the same in every thread."""
    return lambda number: work()


def _tried(work: Callable[[], T]) -> Callable[[int], T | None]:
    """`work`, the same in every thread; None for a refusal."""

    def attempt(number: int) -> T | None:
        try:
            return work()
        except TriggersError:
            return None

    return attempt


def _alternating(even: Callable[[int], Any], odd: Callable[[int], Any], number: int) -> Any:
    """One thing in every other thread."""
    return (odd if number % 2 else even)(number)
