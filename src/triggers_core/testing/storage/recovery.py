"""The sweep: what is overdue is found and set going again; and the leases over a whole store."""

from __future__ import annotations

import pytest

from triggers_core.engine.attempts import Retry
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import StaleMessage
from triggers_core.limits import Timing
from triggers_core.storages.base import Due, Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class Recovery(StoragePromises):
    """Lost messages, lost workers, cooldowns, the due index, leases."""

    @pytest.fixture
    def ready(self, session: SessionDriver) -> SessionDriver:
        """A session with one scheduled instance, `t_x#0`."""
        session.configure(t_x={"after": ["go"]}, t_next={"after": ["t_x"]})
        session.fire("go")
        return session

    # -- lost messages ----------------------------------------------------------------------------

    def test_what_nobody_claims_is_dispatched_again(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        """The same attempt, after 60 s, then twice as long each time, and an hour at most."""
        for redispatches, wait in enumerate([60, 120, 240, 480, 960, 1920, 3600, 3600]):
            assert ready.store.next_due() == pytest.approx(wait)
            clock.advance(wait - 1)
            assert ready.store.due() == []
            clock.advance(1)
            assert ready.store.due() == [Due(ready.uid, "t_x#0")]
            recovered = ready.recover()
            assert recovered.dispatch == [("t_x#0", 1)]
            assert recovered.generation == ready.header.generation
            assert ready.instance("t_x#0").redispatches == redispatches + 1
        assert ready.run("t_x#0").scheduled == ["t_next#0"]

    def test_a_first_message_that_arrives_late_is_good(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        generation = ready.header.generation
        clock.advance(60)
        ready.recover()
        claimed = ready.claim("t_x#0", attempt=1, generation=generation)
        with pytest.raises(StaleMessage):
            ready.claim("t_x#0", attempt=1, generation=generation)
        ready.finish(claimed)

    # -- lost workers -----------------------------------------------------------------------------

    def test_a_lease_that_runs_out_makes_another_attempt(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        first = ready.claim("t_x#0")
        clock.advance(Timing().lease - 1)
        assert ready.store.due() == []
        clock.advance(1)
        assert ready.recover().dispatch == [("t_x#0", 2)]
        with pytest.raises(StaleMessage):
            ready.claim("t_x#0", attempt=1)
        second = ready.claim("t_x#0", attempt=2)
        assert second.instance.key == first.instance.key
        assert second.instance.token != first.instance.token
        assert ready.finish(second).scheduled == ["t_next#0"]

    def test_another_attempt_is_dispatched_as_patiently_as_the_first(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        for wait in (60, 120):
            clock.advance(wait)
            ready.recover()
        ready.claim("t_x#0")
        clock.advance(Timing().lease)
        ready.recover()
        assert ready.instance("t_x#0").redispatches == 0
        for wait in (60, 120):
            assert ready.store.next_due() == pytest.approx(wait)
            clock.advance(wait)
            ready.recover()

    def test_a_heartbeat_keeps_the_sweep_away(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        claimed = ready.claim("t_x#0")
        for _ in range(10):
            clock.advance(Timing().lease - 1)
            ready.heartbeat(claimed)
            assert ready.recover().dispatch == []
        assert ready.instance("t_x#0").attempt == 1
        ready.finish(claimed)

    def test_a_heartbeat_between_the_look_and_the_sweep_wins(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        claimed = ready.claim("t_x#0")
        clock.advance(Timing().lease)
        assert ready.store.due() == [Due(ready.uid, "t_x#0")]
        ready.heartbeat(claimed)
        before = ready.image()
        assert ready.recover("t_x#0").dispatch == []
        assert ready.image() == before
        ready.finish(claimed)

    def test_after_too_many_attempts_it_is_failed(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        ready.rules = Rules(timing=Timing(attempts=3, lease=10, heartbeat=5))
        for attempt in (1, 2, 3):
            assert ready.claim("t_x#0").instance.attempt == attempt
            clock.advance(10)
            recovered = ready.recover()
        assert (recovered.dispatch, recovered.failed) == ([], ["t_x#0"])
        assert ready.statuses() == {"t_x#0": "failed"}
        error = ready.metadata("t_x#0")["error"]
        assert error["type"] == "WorkerLost"
        assert "3 attempts" in error["message"]
        assert ready.store.next_due() is None
        ready.replay("t_x#0")
        assert ready.instance("t_x#1").attempt == 1
        ready.run("t_x#1")

    # -- cooldowns --------------------------------------------------------------------------------

    def test_cooldowns_that_are_over_are_dispatched(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"andEvery": "go"})
        for number, cooldown in enumerate((30, 10, 20)):
            session.fire("go")
            session.fail(session.claim(f"t_x#{2 * number}"), retry=Retry(cooldown=cooldown))
        clock.advance(10)
        assert session.recover().dispatch == [("t_x#3", 1)]
        clock.advance(20)
        assert session.recover("t_x#1", "t_x#3", "t_x#5").dispatch == [("t_x#1", 1), ("t_x#5", 1)]

    # -- a sweep ----------------------------------------------------------------------------------

    def test_a_sweep_over_nothing_changes_nothing(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        ready.run_all()
        clock.advance(10_000)
        before = ready.image()
        assert ready.recover("t_x#0", "t_x#7", "t_unknown#0").dispatch == []
        assert ready.image() == before
        other = SessionDriver(ready.store, "never")
        assert other.recover("t_x#0").dispatch == []
        assert not other.exists

    def test_two_sweeps_do_the_work_of_one(self, ready: SessionDriver, clock: VirtualClock) -> None:
        clock.advance(60)
        due = [each.instance for each in ready.store.due()]
        assert ready.recover(*due).dispatch == [("t_x#0", 1)]
        assert ready.recover(*due).dispatch == []

    # -- the due index ----------------------------------------------------------------------------

    def test_due_is_earliest_first_over_all_sessions(
        self, store: Store, clock: VirtualClock
    ) -> None:
        expected = []
        for number in (3, 1, 2):
            session = SessionDriver(store, f"order:{number}")
            session.configure(t_x={"andEvery": "go"})
            session.fire("go")
            expected.append(Due(session.uid, "t_x#0"))
            clock.advance(1)
        assert store.next_due() == pytest.approx(57)
        assert store.due() == []
        clock.advance(57)
        assert store.due() == expected[:1]
        clock.advance(100)
        assert store.due() == expected
        assert store.due(limit=2) == expected[:2]
        assert store.next_due() == pytest.approx(-100)

    def test_nothing_is_due_when_nothing_is_under_way(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]}, t_y={"after": ["c"]})
        assert session.store.next_due() is None
        session.fire("a")
        assert session.store.next_due() is None
        session.fire("b")
        assert session.store.next_due() == pytest.approx(60)
        session.run("t_x#0")
        assert session.store.next_due() is None

    def test_what_is_deleted_is_not_due(self, ready: SessionDriver, clock: VirtualClock) -> None:
        clock.advance(60)
        ready.store.delete(ready.uid)
        assert ready.store.due() == []
        assert ready.store.next_due() is None

    def test_timing_is_settable(self, session: SessionDriver, clock: VirtualClock) -> None:
        timing = Timing(lease=7, heartbeat=3, redispatch_after=2, redispatch_at_most=5)
        session.rules = Rules(timing=timing)
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        for wait in (2, 4, 5, 5):
            assert session.store.next_due() == pytest.approx(wait)
            clock.advance(wait)
            session.recover()
        session.claim("t_x#0")
        assert session.store.next_due() == pytest.approx(7)

    # -- leases over the store --------------------------------------------------------------------

    def test_one_owner_at_a_time_holds_a_lease(self, store: Store, clock: VirtualClock) -> None:
        assert store.acquire_lease("sweep", "a", 15)
        assert not store.acquire_lease("sweep", "b", 15)
        clock.advance(14)
        assert store.acquire_lease("sweep", "a", 15), "its owner may renew it"
        clock.advance(14)
        assert not store.acquire_lease("sweep", "b", 15)
        clock.advance(1)
        assert store.acquire_lease("sweep", "b", 15), "it has run out"
        assert not store.acquire_lease("sweep", "a", 15)

    def test_a_lease_is_given_back_by_its_owner_only(self, store: Store) -> None:
        store.acquire_lease("sweep", "a", 15)
        store.release_lease("sweep", "b")
        assert not store.acquire_lease("sweep", "b", 15)
        store.release_lease("sweep", "a")
        assert store.acquire_lease("sweep", "b", 15)
        store.release_lease("never taken", "a")

    def test_a_store_may_be_asked_to_tell_of_what_others_store(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        """Whether it ever does is its own affair; its work goes on, and it can be closed."""

        def callback() -> None:
            """A sweep would look."""

        for _ in range(2):
            session.store.watch_due(callback)
        session.configure(t_x={"after": ["go"], "waiting": 1})
        session.fire("go")
        session.store.unwatch_due(callback)
        session.store.unwatch_due(callback)
        clock.advance(1)
        assert session.recover().dispatch == [("t_x#0", 1)]
        session.store.watch_due(callback)

    def test_leases_are_apart_by_name(self, store: Store) -> None:
        assert store.acquire_lease("sweep", "a", 15)
        assert store.acquire_lease("sweep:2", "b", 15)
        assert not store.acquire_lease("sweep", "b", 15)
