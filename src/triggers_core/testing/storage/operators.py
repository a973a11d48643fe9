"""What an operator does by hand: replay, skip, fail, note, delete, prune."""

from __future__ import annotations

import logging

import pytest

from triggers_core.engine.attempts import Retry, SkipRunning
from triggers_core.engine.commands import ResolveLogs, UpdateMetadata
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import (
    InstanceNotFound,
    LeaseLost,
    LimitExceeded,
    SessionNotFound,
    StaleMessage,
    WrongState,
)
from triggers_core.limits import Limits
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class Operators(StoragePromises):
    """Replay, skip, fail, metadata, logs, delete, prune."""

    @pytest.fixture
    def failed(self, session: SessionDriver) -> SessionDriver:
        """A session with one failed instance, `t_x#0`, and a task that waits for it."""
        session.configure(t_x={"after": ["go"], "unless": ["stop"]}, t_next={"after": ["t_x"]})
        session.fire("go", {"n": 1})
        session.fail_now("t_x#0", {"error": {"type": "Oops"}})
        return session

    # -- replay -----------------------------------------------------------------------------------

    def test_a_replay_runs_a_clone(self, failed: SessionDriver) -> None:
        version = failed.header.version
        moved = failed.replay("t_x#0")
        assert failed.header.version == version + 1
        assert moved.scheduled == ["t_x#1"]
        parent, clone = failed.instance("t_x#0"), failed.instance("t_x#1")
        assert (parent.status, parent.replayed_as) == ("replayed", "t_x#1")
        assert (clone.parent, clone.depth, clone.retries) == ("t_x#0", 1, 0)
        assert clone.key == parent.key, "a replay of the same input acts under the same key"
        assert failed.claim("t_x#1").kwargs() == {"go": {"n": 1}}
        assert failed.metadata("t_x#0") == {"error": {"type": "Oops"}}
        assert failed.metadata("t_x#1") == {}

    def test_a_replay_by_hand_gives_retries_anew(self, failed: SessionDriver) -> None:
        failed.replay("t_x#0")
        failed.fail(failed.claim("t_x#1"), retry=Retry())
        failed.fail_now("t_x#2")
        assert failed.instance("t_x#2").retries == 1
        failed.replay("t_x#2")
        clone = failed.instance("t_x#3")
        assert (clone.retries, clone.depth) == (0, 3)

    @pytest.mark.parametrize("kwargs", [{}, {"go": {"n": 2}}, {"elsewhere": {"x": None}}])
    def test_a_replay_with_other_kwargs(
        self, failed: SessionDriver, kwargs: dict[str, dict[str, int]]
    ) -> None:
        failed.replay("t_x#0", kwargs)
        assert failed.claim("t_x#1").kwargs() == kwargs
        assert failed.instance("t_x#1").key != failed.instance("t_x#0").key

    def test_the_same_request_again_is_the_same_replay(self, failed: SessionDriver) -> None:
        first = failed.replay("t_x#0", request="r1")
        before = failed.image()
        again = failed.replay("t_x#0", request="r1")
        assert (first.repeated, again.repeated) == (False, True)
        assert again.scheduled == []
        assert first.replay is not None
        assert again.replay is not None
        assert again.replay.name == first.replay.name == "t_x#1"
        assert failed.image() == before
        with pytest.raises(WrongState, match="t_x#0 is replayed"):
            failed.replay("t_x#0", request="r2")

    def test_a_replay_by_hand_runs_whatever_unless_says(self, failed: SessionDriver) -> None:
        failed.fire("stop")
        assert failed.replay("t_x#0").scheduled == ["t_x#1"]

    def test_only_failed_instances_are_replayed_or_skipped(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "andEvery": "page", "unless": ["stop"]})
        session.fire("page")
        _only_failed(session, "unstarted")
        session.fire("a")
        _only_failed(session, "scheduled")
        claimed = session.claim("t_x#0")
        _only_failed(session, "running")
        session.finish(claimed)
        _only_failed(session, "finished")
        session.configure(t_x={"after": ["b"], "andEvery": "page", "unless": ["stop"]})
        session.fire("page")
        session.fire("stop")
        _only_failed(session, "abandoned", "t_x#1")

    # -- skip -------------------------------------------------------------------------------------

    def test_a_skip_ends_it_without_a_cascade(
        self, failed: SessionDriver, clock: VirtualClock
    ) -> None:
        clock.advance(7)
        failed.skip("t_x#0")
        assert failed.statuses() == {"t_x#0": "skipped"}
        assert failed.fired() == ["go"]
        assert failed.instance("t_x#0").ended_at == clock()

    def test_a_skip_may_cascade_with_a_result(self, failed: SessionDriver) -> None:
        version = failed.header.version
        moved = failed.skip("t_x#0", cascade=True, result={"n": 9})
        assert failed.header.version == version + 1
        assert moved.scheduled == ["t_next#0"]
        assert failed.statuses() == {"t_next#0": "scheduled", "t_x#0": "skipped"}
        assert failed.claim("t_next#0").kwargs() == {"t_x": {"n": 9}}

    def test_the_same_request_again_is_the_same_skip(self, failed: SessionDriver) -> None:
        failed.skip("t_x#0", cascade=True, request="r1")
        before = failed.image()
        assert failed.skip("t_x#0", cascade=True, request="r1").repeated
        assert failed.image() == before
        with pytest.raises(WrongState, match="t_x#0 is skipped"):
            failed.skip("t_x#0", cascade=True, request="r2")

    # -- fail by hand -----------------------------------------------------------------------------

    @pytest.mark.parametrize("running", [False, True])
    def test_a_stuck_instance_is_failed_by_hand(
        self, session: SessionDriver, running: bool
    ) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        claimed = session.claim("t_x#0") if running else None
        session.fail_by_hand("t_x#0", "the machine is gone")
        assert session.statuses() == {"t_x#0": "failed"}
        error = {"type": "FailedByHand", "message": "the machine is gone"}
        assert session.metadata("t_x#0") == {"error": error}
        assert session.store.next_due() is None
        if claimed is not None:
            with pytest.raises(LeaseLost):
                session.finish(claimed)
        with pytest.raises(StaleMessage):
            session.claim("t_x#0", attempt=1)
        session.replay("t_x#0")
        assert session.run_all() == ["t_x#1"]

    def test_only_what_is_under_way_is_failed_by_hand(self, failed: SessionDriver) -> None:
        before = failed.image()
        with pytest.raises(WrongState, match="t_x#0 is failed"):
            failed.fail_by_hand("t_x#0")
        assert failed.image() == before

    # -- what does not exist ----------------------------------------------------------------------

    def test_an_instance_must_exist(self, failed: SessionDriver) -> None:
        before = failed.image()
        for act in (failed.replay, failed.skip, failed.fail_by_hand):
            with pytest.raises(InstanceNotFound, match=r"t_x#7: the task has 1 so far"):
                act("t_x#7")
        assert failed.image() == before

    def test_a_session_must_exist(self, session: SessionDriver) -> None:
        for act in (session.replay, session.skip, session.fail_by_hand):
            with pytest.raises(SessionNotFound):
                act("t_x#0")
        assert not session.exists

    # -- metadata ---------------------------------------------------------------------------------

    def test_metadata_is_merged(self, failed: SessionDriver) -> None:
        instance = failed.instance("t_x#0")
        failed.commit(UpdateMetadata(instance="t_x#0", metadata={"ticket": 7}))
        failed.commit(UpdateMetadata(instance="t_x#0", metadata={"ticket": 8, "by": "ü"}))
        assert failed.metadata("t_x#0") == {"error": {"type": "Oops"}, "ticket": 8, "by": "ü"}
        assert failed.instance("t_x#0").ended_at == instance.ended_at

    def test_metadata_leaves_every_time_as_it_is(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"andEvery": "go"})
        for _ in range(3):
            session.fire("go")
        session.claim("t_x#1")
        session.fail(session.claim("t_x#2"), retry=Retry(cooldown=30))
        clock.advance(10)
        for instance in session.store.instances(session.uid):
            session.commit(UpdateMetadata(instance=instance.name, metadata={"seen": True}))
            after = session.instance(instance.name)
            for field in ("due_at", "lease_until", "not_before", "created_at", "ended_at", "token"):
                assert getattr(after, field) == getattr(instance, field), (instance.name, field)

    def test_metadata_has_a_limit(self, failed: SessionDriver) -> None:
        failed.rules = Rules(limits=Limits(record_bytes=200))
        before = failed.image()
        with pytest.raises(LimitExceeded, match=r"Limits\.record_bytes"):
            failed.commit(UpdateMetadata(instance="t_x#0", metadata={"x": "y" * 200}))
        assert failed.image() == before

    # -- unresolved logs --------------------------------------------------------------------------

    def test_warnings_are_listed_until_they_are_resolved(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})
        levels = [0, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.WARNING]
        for number, level in enumerate(levels):
            session.fire("go")
            session.finish(session.claim(f"t_x#{number}"), log_level=level)

        def unresolved() -> list[str]:
            found = session.store.instances(session.uid, unresolved_logs=True)
            return [instance.name for instance in found]

        assert unresolved() == ["t_x#3", "t_x#4", "t_x#5"]
        assert session.header.open_logs == {logging.WARNING: 2, logging.ERROR: 1}
        session.commit(ResolveLogs(instance="t_x#4"))
        assert unresolved() == ["t_x#3", "t_x#5"]
        assert session.header.open_logs == {logging.WARNING: 2}
        before = session.image()
        session.commit(ResolveLogs(instance="t_x#4"))
        session.commit(ResolveLogs(instance="t_x#0"))
        assert session.image() == before
        session.commit(ResolveLogs(instance="t_x#3"))
        session.commit(ResolveLogs(instance="t_x#5"))
        assert unresolved() == []
        assert session.header.open_logs == {}

    def test_retries_replays_and_skips_deal_with_what_was_logged(
        self, session: SessionDriver
    ) -> None:
        session.configure(t_x={"after": ["go"]})

        def unresolved() -> list[str]:
            found = session.store.instances(session.uid, unresolved_logs=True)
            return [instance.name for instance in found]

        session.fire("go")
        session.fail(session.claim("t_x#0"), retry=Retry(), log_level=logging.WARNING)
        assert (unresolved(), session.header.open_logs) == ([], {})
        session.fail(session.claim("t_x#1"), log_level=logging.ERROR)
        assert (unresolved(), session.header.open_logs) == (["t_x#1"], {logging.ERROR: 1})
        session.replay("t_x#1")
        assert (unresolved(), session.header.open_logs) == ([], {})
        session.fail(session.claim("t_x#2"), log_level=logging.CRITICAL)
        session.skip("t_x#2")
        assert (unresolved(), session.header.open_logs) == ([], {})
        session.commit(ResolveLogs(instance="t_x#2"))
        assert session.header.open_logs == {}

    def test_a_body_that_skips_itself_leaves_no_unresolved_logs(
        self, session: SessionDriver
    ) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        claimed = session.claim("t_x#0")
        token = claimed.instance.token
        session.commit(SkipRunning(instance="t_x#0", token=token, log_level=logging.ERROR))
        assert session.header.open_logs == {}
        assert session.store.instances(session.uid, unresolved_logs=True) == []

    # -- delete and prune -------------------------------------------------------------------------

    def test_a_deleted_session_leaves_nothing(self, store: Store) -> None:
        stays, gone = SessionDriver(store, "stays"), SessionDriver(store, "gone")
        for session in (stays, gone):  # the latest is deleted: its place may be taken again
            session.configure(t_x={"andEvery": "go", "after": ["a"]}, t_y={"andEvery": "go"})
            session.fire("go", event_id="e")
            session.fire("go")
            session.fail_now("t_y#0")
        before, generation = stays.image(), gone.header.generation
        assert store.delete("gone")
        assert not store.delete("gone")
        assert not gone.exists
        assert gone.statuses() == {}
        assert gone.events() == []
        assert stays.image() == before
        assert [each.uid for each in store.sessions()] == ["stays"]
        # Used again, it is another session: nothing of the old one comes through.
        assert gone.fire("go", {"other": True}, event_id="e").status == "recorded"
        assert gone.header.generation != generation
        assert gone.configure(t_x={"andEvery": "go"}).scheduled == ["t_x#0"]
        assert gone.fire("a").scheduled == []
        assert gone.statuses() == {"t_x#0": "scheduled"}

    def test_prune_erases_what_is_old_and_resolved(self, store: Store, clock: VirtualClock) -> None:
        resolved, failed, idle = (SessionDriver(store, uid) for uid in ("done", "failed", "idle"))
        resolved.configure(t_x={"after": ["go"]})
        resolved.fire("go")
        resolved.run_all()
        failed.configure(t_x={"after": ["go"]})
        failed.fire("go")
        failed.fail_now("t_x#0")
        idle.fire("go")
        assert store.prune(older_than=100) == 0
        clock.advance(100)
        SessionDriver(store, "young").fire("go")
        assert store.prune(older_than=100) == 2
        assert [each.uid for each in store.sessions()] == ["failed", "young"]
        assert store.prune(older_than=101, resolved_only=False) == 0
        assert store.prune(older_than=100, resolved_only=False) == 1
        assert [each.uid for each in store.sessions()] == ["young"]

    @pytest.mark.parametrize("status", ["unstarted", "scheduled", "running", "failed"])
    def test_prune_keeps_what_is_unresolved(
        self, session: SessionDriver, clock: VirtualClock, status: str
    ) -> None:
        session.configure(t_x={"after": ["go"] if status != "unstarted" else ["go", "more"]})
        session.fire("go")
        if status == "running":
            session.claim("t_x#0")
        elif status == "failed":
            session.fail_now("t_x#0")
        clock.advance(1_000_000)
        assert session.status("t_x#0") == status
        assert session.store.prune(older_than=1) == 0
        assert session.exists


def _only_failed(session: SessionDriver, status: str, name: str = "t_x#0") -> None:
    assert session.status(name) == status
    before = session.image()
    for act in (session.replay, session.skip):
        with pytest.raises(WrongState, match=f"{name} is {status}"):
            act(name)
    assert session.image() == before
