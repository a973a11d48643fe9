"""Attempts: claimed by one, renewed by its token, ended once, in one commit."""

from __future__ import annotations

import logging

import pytest

from triggers_core.engine.attempts import BodyFire, Claim, Fail, Finish, Retry
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import (
    EventIdConflict,
    InstanceNotFound,
    LeaseLost,
    NotFound,
    StaleMessage,
)
from triggers_core.limits import Limits, Timing
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class Attempts(StoragePromises):
    """Claim, heartbeat, finish, fail, retry."""

    @pytest.fixture
    def ready(self, session: SessionDriver) -> SessionDriver:
        """A session with one scheduled instance, `t_x#0`, and a task that waits for it."""
        session.configure(t_x={"after": ["go"]}, t_next={"after": ["t_x"]})
        session.fire("go", {"n": 1})
        return session

    # -- claim ------------------------------------------------------------------------------------

    def test_a_claim_takes_the_instance(self, ready: SessionDriver, clock: VirtualClock) -> None:
        clock.advance(5)
        claimed = ready.claim("t_x#0")
        stored = ready.instance("t_x#0")
        assert claimed.instance == stored
        assert (stored.status, stored.attempt) == ("running", 1)
        assert (stored.started_at, stored.created_at) == (clock(), clock() - 5)
        assert stored.lease_until == stored.due_at == clock() + Timing().lease
        assert claimed.task.run == "tests.Body"
        assert claimed.kwargs() == {"go": {"n": 1}}
        assert claimed.generation == ready.header.generation

    def test_two_workers_with_one_message(self, ready: SessionDriver) -> None:
        generation = ready.header.generation
        held = ready.claim("t_x#0", attempt=1, generation=generation)
        before = ready.image()
        with pytest.raises(StaleMessage, match=r"t_x#0, which is running, attempt 1"):
            ready.claim("t_x#0", attempt=1, generation=generation)
        assert ready.image() == before
        ready.finish(held)
        with pytest.raises(StaleMessage):
            ready.claim("t_x#0", attempt=1, generation=generation)

    def test_a_claim_that_is_sent_again_is_the_same_claim(self, ready: SessionDriver) -> None:
        """A client library that repeats a request must not fence its own worker off."""
        claim = Claim(instance="t_x#0", attempt=1, generation=ready.header.generation)
        first = ready.commit(claim)
        before = ready.image()
        again = ready.commit(claim)
        assert again.instance == first.instance
        assert again.kwargs() == first.kwargs()
        assert ready.image() == before
        ready.finish(again)

    def test_a_message_for_another_attempt_is_stale(self, ready: SessionDriver) -> None:
        for attempt in (0, 2):
            with pytest.raises(StaleMessage):
                ready.claim("t_x#0", attempt=attempt)
        assert ready.status("t_x#0") == "scheduled"

    @pytest.mark.parametrize("name", ["t_x#1", "t_other#0"])
    def test_a_message_for_no_instance_is_refused(self, ready: SessionDriver, name: str) -> None:
        with pytest.raises(InstanceNotFound, match=name):
            ready.claim(name, attempt=1)

    def test_what_has_not_been_scheduled_cannot_be_claimed(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        for attempt in (0, 1):
            with pytest.raises(StaleMessage, match="unstarted"):
                session.claim("t_x#0", attempt=attempt)

    # -- a uid that is deleted and used again -----------------------------------------------------

    def test_a_message_of_a_deleted_session_is_stale(self, ready: SessionDriver) -> None:
        generation = ready.header.generation
        ready.store.delete(ready.uid)
        with pytest.raises(StaleMessage, match="deleted"):
            ready.claim("t_x#0", attempt=1, generation=generation)
        ready.fire("something")
        with pytest.raises(StaleMessage, match="deleted"):
            ready.claim("t_x#0", attempt=1, generation=generation)
        ready.configure(t_x={"after": ["go"]})
        assert ready.fire("go").scheduled == ["t_x#0"]
        with pytest.raises(StaleMessage, match="deleted"):
            ready.claim("t_x#0", attempt=1, generation=generation)
        assert ready.status("t_x#0") == "scheduled"

    def test_a_worker_of_a_deleted_session_ends_nothing(self, ready: SessionDriver) -> None:
        old = ready.claim("t_x#0")
        ready.store.delete(ready.uid)
        with pytest.raises(LeaseLost, match="deleted"):
            ready.finish(old)
        assert not ready.exists
        ready.fire("something")
        with pytest.raises(NotFound):
            ready.finish(old)
        ready.configure(t_x={"after": ["go"]})
        ready.fire("go")
        new = ready.claim("t_x#0")
        for outcome in (ready.finish, ready.fail, ready.heartbeat):
            with pytest.raises(LeaseLost):
                outcome(old)
        assert ready.finish(new).instance.status == "finished"

    # -- heartbeat --------------------------------------------------------------------------------

    def test_a_heartbeat_renews_the_lease(self, ready: SessionDriver, clock: VirtualClock) -> None:
        claimed = ready.claim("t_x#0")
        header, instance = ready.header, ready.instance("t_x#0")
        clock.advance(15)
        ready.heartbeat(claimed)
        renewed = ready.instance("t_x#0")
        assert renewed.lease_until == renewed.due_at == clock() + Timing().lease
        assert renewed.started_at == instance.started_at
        assert ready.header == header, "a heartbeat must not make the session's others look again"

    def test_a_heartbeat_renews_the_lease_whatever_words_the_session_uses(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"after": [{"anyOf": ["go", "run"]}], "within": 600})
        session.fire("go")
        assert session.header.requires
        claimed = session.claim("t_x#0")
        clock.advance(50)
        session.heartbeat(claimed)
        clock.advance(50)
        assert session.store.due() == []
        assert session.recover("t_x#0").lost == []
        assert session.finish(claimed).instance.status == "finished"

    @pytest.mark.parametrize("how", ["finish", "fail", "fail_by_hand", "recover"])
    def test_a_heartbeat_without_the_lease_is_rejected(
        self, ready: SessionDriver, clock: VirtualClock, how: str
    ) -> None:
        claimed = ready.claim("t_x#0")
        if how in ("finish", "fail"):
            getattr(ready, how)(claimed)
        elif how == "fail_by_hand":
            ready.fail_by_hand("t_x#0")
        else:
            clock.advance(Timing().lease)
            ready.recover()
        before = ready.image()
        with pytest.raises(LeaseLost, match="t_x#0"):
            ready.heartbeat(claimed)
        assert ready.image() == before

    # -- the end of an attempt --------------------------------------------------------------------

    def test_outcome_cascade_and_fires_are_one_commit(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        claimed = ready.claim("t_x#0")
        version = ready.header.version
        clock.advance(3)
        ended = ready.finish(claimed, {"n": 2}, [BodyFire(trigger="said", payload=b"{}")])
        assert ready.header.version == version + 1
        assert ended.scheduled == ["t_next#0"]
        assert ready.statuses() == {"t_next#0": "scheduled", "t_x#0": "finished"}
        assert ready.fired() == ["go", "said", "t_x"]
        assert ready.instance("t_x#0").ended_at == clock()
        assert ready.instance("t_x#0").result == 2

    def test_a_second_finish_is_rejected(self, ready: SessionDriver) -> None:
        claimed = ready.claim("t_x#0")
        ready.finish(claimed, {"n": 1})
        before = ready.image()
        with pytest.raises(LeaseLost, match="finished"):
            ready.finish(claimed, {"n": 1})
        with pytest.raises(LeaseLost, match="finished"):
            ready.fail(claimed)
        assert ready.image() == before

    @pytest.mark.parametrize("outcome", ["finish", "fail", "skip_running", "heartbeat"])
    @pytest.mark.parametrize("stage", ["scheduled again", "running again", "finished by another"])
    def test_a_zombie_ends_nothing(
        self, ready: SessionDriver, clock: VirtualClock, outcome: str, stage: str
    ) -> None:
        zombie = ready.claim("t_x#0")
        clock.advance(Timing().lease)
        assert ready.recover().dispatch == [("t_x#0", 2)]
        if stage != "scheduled again":
            second = ready.claim("t_x#0")
            if stage == "finished by another":
                ready.finish(second, {"by": "second"})
        before = ready.image()
        with pytest.raises(LeaseLost):
            getattr(ready, outcome)(zombie)
        assert ready.image() == before
        if stage == "running again":
            ready.finish(second, {"by": "second"})

    def test_a_failure_keeps_its_reason(self, ready: SessionDriver) -> None:
        error = {"error": {"type": "ValueError", "message": "broken"}}
        ended = ready.fail(ready.claim("t_x#0"), error, log_level=logging.ERROR)
        assert ended.scheduled == []
        assert ready.statuses() == {"t_x#0": "failed"}
        assert ready.metadata("t_x#0") == error
        assert ready.fired() == ["go"]

    def test_a_body_that_skips_itself_does_not_cascade(self, ready: SessionDriver) -> None:
        ready.skip_running(ready.claim("t_x#0"), {"reason": "nothing to do"})
        assert ready.statuses() == {"t_x#0": "skipped"}
        assert ready.metadata("t_x#0") == {"reason": "nothing to do"}
        assert ready.fired() == ["go"]

    def test_a_fire_that_is_refused_fails_the_instance(self, ready: SessionDriver) -> None:
        ready.fire("said", {"n": 1}, event_id="e")
        conflict = BodyFire(trigger="said", payload=b'{"n":2}', event_id="e")
        other = BodyFire(trigger="other", payload=b"{}")
        ended = ready.finish(ready.claim("t_x#0"), {"n": 1}, [other, conflict])
        assert isinstance(ended.failure, EventIdConflict)
        assert ready.statuses() == {"t_x#0": "failed"}
        assert ready.fired() == ["go", "said"]

    def test_an_end_needs_the_token(self, ready: SessionDriver) -> None:
        ready.claim("t_x#0")
        for token in ("", "guess"):
            for command in (Finish, Fail):
                with pytest.raises(LeaseLost):
                    ready.commit(command(instance="t_x#0", token=token))
        assert ready.status("t_x#0") == "running"

    def test_a_scheduled_instance_cannot_be_ended(self, ready: SessionDriver) -> None:
        with pytest.raises(LeaseLost):
            ready.commit(Finish(instance="t_x#0", token=""))
        assert ready.status("t_x#0") == "scheduled"

    # -- retries ----------------------------------------------------------------------------------

    def test_a_retry_without_cooldown_is_scheduled_at_once(self, ready: SessionDriver) -> None:
        version = ready.header.version + 2
        ended = ready.fail(ready.claim("t_x#0"), retry=Retry())
        assert ready.header.version == version
        assert ended.scheduled == ["t_x#1"]
        assert ended.replay is not None
        clone, failed = ready.instance("t_x#1"), ready.instance("t_x#0")
        assert (clone.parent, clone.depth, clone.retries, clone.attempt) == ("t_x#0", 1, 1, 1)
        assert (failed.status, failed.replayed_as, clone.key) == ("replayed", "t_x#1", failed.key)
        assert ready.kwargs("t_x#1") == {"go": {"n": 1}}
        assert ready.run("t_x#1").scheduled == ["t_next#0"]

    def test_a_cooldown_holds_the_retry_back(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        ended = ready.fail(ready.claim("t_x#0"), retry=Retry(cooldown=30))
        assert ended.scheduled == []
        held = ready.instance("t_x#1")
        assert (held.status, held.attempt) == ("unstarted", 0)
        assert held.not_before == held.due_at == clock() + 30
        assert ready.store.next_due() == pytest.approx(30)
        clock.advance(29)
        assert ready.store.due() == []
        assert ready.recover("t_x#1").dispatch == [], "a sweep that comes too early does nothing"
        clock.advance(1)
        assert ready.recover().dispatch == [("t_x#1", 1)]
        assert ready.status("t_x#1") == "scheduled"
        assert ready.run("t_x#1").scheduled == ["t_next#0"]

    def test_events_do_not_end_a_cooldown(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "andEvery": "page", "unless": ["s1", "s2"]})
        session.fire("a")
        session.fire("page", {"p": 1})
        session.fail(session.claim("t_x#0"), retry=Retry(cooldown=30))
        due_at = session.instance("t_x#1").due_at
        assert session.fire("a").scheduled == []
        assert session.fire("page", {"p": 2}).scheduled == ["t_x#2"]
        assert session.fire("s1").scheduled == []
        held = session.instance("t_x#1")
        assert (held.status, held.due_at) == ("unstarted", due_at)
        assert session.kwargs("t_x#1") == {"a": {}, "page": {"p": 1}}

    def test_unless_during_the_wait_abandons(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"], "unless": ["stop"]})
        session.fire("go")
        session.fail(session.claim("t_x#0"), retry=Retry(cooldown=30))
        session.fire("stop")
        assert session.statuses() == {"t_x#0": "replayed", "t_x#1": "abandoned"}
        assert session.store.next_due() is None

    @pytest.mark.parametrize("cooldown", [0.0, 30.0])
    def test_unless_before_the_failure_abandons(
        self, session: SessionDriver, cooldown: float
    ) -> None:
        session.configure(t_x={"after": ["go"], "unless": ["stop"]})
        session.fire("go")
        claimed = session.claim("t_x#0")
        session.fire("stop")
        assert session.fail(claimed, retry=Retry(cooldown=cooldown)).scheduled == []
        assert session.statuses() == {"t_x#0": "replayed", "t_x#1": "abandoned"}

    def test_a_retry_with_other_kwargs_has_another_key(
        self, ready: SessionDriver, clock: VirtualClock
    ) -> None:
        payload = b'{"go":{"n":2}}'
        ready.fail(ready.claim("t_x#0"), retry=Retry(cooldown=5, payload=payload))
        assert ready.kwargs("t_x#1") == {"go": {"n": 2}}
        assert ready.instance("t_x#1").key != ready.instance("t_x#0").key
        clock.advance(5)
        ready.recover()
        ready.fail(ready.claim("t_x#1"), retry=Retry())
        assert ready.kwargs("t_x#2") == {"go": {"n": 2}}
        assert ready.instance("t_x#2").key == ready.instance("t_x#1").key
        assert ready.instance("t_x#2").retries == 2

    def test_a_retry_for_which_there_is_no_room_stays_failed(self, ready: SessionDriver) -> None:
        ready.rules = Rules(limits=Limits(instances=1))
        ended = ready.fail(ready.claim("t_x#0"), {"error": {"type": "Oops"}}, Retry())
        assert ended.instance.status == "failed"
        assert ready.statuses() == {"t_x#0": "failed"}
        metadata = ready.metadata("t_x#0")
        assert metadata["error"] == {"type": "Oops"}
        assert "Limits.instances" in metadata["retry_refused"]

    def test_keys_are_unique_over_sessions(self, store: Store) -> None:
        keys = set()
        for uid in ("one", "two"):
            session = SessionDriver(store, uid)
            session.configure(t_x={"andEvery": "go"}, t_y={"andEvery": "go"})
            session.fire("go")
            session.fire("go")
            keys |= {instance.key for instance in store.instances(uid)}
        assert len(keys) == 8
