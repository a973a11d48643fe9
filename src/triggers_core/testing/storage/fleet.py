"""The fleet index: which sessions failed, which wait and since when, without reading them all."""

from __future__ import annotations

import math

import pytest

from triggers_core.engine.attempts import Heartbeat
from triggers_core.engine.commands import Close
from triggers_core.exceptions import InvalidArgument
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class Fleet(StoragePromises):
    """`Store.sessions`."""

    def test_a_session_waits_from_the_moment_when_nothing_is_under_way(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        began = clock()
        session.fire("a")
        assert _waiting_since(session) == began, "it waits for its configuration"
        clock.advance(1)
        session.configure(t_x={"after": ["a", "b"]}, t_y={"after": ["c"]})
        assert _waiting_since(session) == began, "it waits still"
        clock.advance(1)
        session.fire("b")
        assert _waiting_since(session) is None, "t_x#0 is scheduled"
        clock.advance(1)
        claimed = session.claim("t_x#0")
        assert _waiting_since(session) is None, "t_x#0 is running"
        clock.advance(1)
        session.finish(claimed)
        assert _waiting_since(session) == clock(), "t_y waits for c"
        clock.advance(1)
        session.fire("noise")
        assert _waiting_since(session) == clock() - 1
        session.fire("c")
        assert _waiting_since(session) is None
        session.run("t_y#0")
        assert _waiting_since(session) is None, "everything is resolved"

    def test_a_failure_makes_a_session_wait_for_somebody(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        clock.advance(1)
        session.fail_now("t_x#0")
        assert _waiting_since(session) == clock()
        assert _failed(session.store) == [(session.uid, 1)]
        session.replay("t_x#0")
        assert _waiting_since(session) is None
        assert _failed(session.store) == []
        session.fail_now("t_x#1")
        assert _failed(session.store) == [(session.uid, 1)]
        session.skip("t_x#1")
        assert _waiting_since(session) is None
        assert _failed(session.store) == []

    def test_a_closed_session_waits_for_nothing(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]}, t_y={"andEvery": "a"})
        session.fire("a")
        session.fail_now("t_y#0")
        assert _waiting_since(session) == clock()
        session.commit(Close())
        assert _waiting_since(session) is None
        assert _failed(session.store) == [(session.uid, 1)], "a failure stays one"

    def test_failed_sessions_are_listed_most_first(self, store: Store) -> None:
        for uid, failures in (("a", 1), ("b", 3), ("c", 0), ("d", 2), ("e", 3)):
            session = SessionDriver(store, uid)
            session.configure(t_x={"andEvery": "go"})
            for number in range(failures):
                session.fire("go")
                session.fail_now(f"t_x#{number}")
        assert _failed(store) == [("b", 3), ("e", 3), ("d", 2), ("a", 1)]
        assert _uids(store, failed=True, limit=2) == ["b", "e"]
        assert _uids(store, failed=True, after="b") == ["e", "d"]

    def test_waiting_sessions_are_listed_longest_first(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for uid in ("c", "a", "d", "b"):
            session = SessionDriver(store, uid)
            session.configure(t_x={"after": ["go"]}, t_y={"after": ["later"]})
            if uid == "d":
                session.fire("go")
            clock.advance(1)
        assert _uids(store, waiting=True) == ["c", "a", "b"]
        assert _uids(store, waiting=True, limit=2) == ["c", "a"]
        assert _uids(store, waiting=True, after="a") == ["c", "b"]

    def test_failed_or_waiting(self, store: Store, clock: VirtualClock) -> None:
        """Most failures first, then longest waiting; also when only some are asked for."""
        for uid in ("w1", "a", "b", "w2", "busy"):
            session = SessionDriver(store, uid)
            session.configure(t_x={"andEvery": "go"}, t_y={"andEvery": "page"})
            clock.advance(1)
        for uid in ("b", "a"):  # one failure each; b has been waiting for longer
            session = SessionDriver(store, uid)
            session.fire("go")
            session.fail_now("t_x#0")
            clock.advance(1)
        SessionDriver(store, "busy").fire("go")
        expected = ["b", "a", "w1", "w2"]
        assert _uids(store, failed=True, waiting=True) == expected
        for limit in range(5):
            assert _uids(store, failed=True, waiting=True, limit=limit) == expected[:limit]

    def test_all_sessions_are_read_page_by_page(self, store: Store) -> None:
        names = [f"order:{number:02}" for number in range(25)]
        for name in reversed(names):
            SessionDriver(store, name).fire("go")
        assert _uids(store) == names
        assert _uids(store, limit=10) == names[:10]
        assert _uids(store, limit=10, after=names[9]) == names[10:20]
        assert _uids(store, limit=10, after=names[24]) == []

    def test_a_summary_says_how_a_session_stands(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        began = clock()
        session.configure(t_x={"andEvery": "go"}, t_y={"after": ["more", "never"]})
        clock.advance(9)
        for _ in range(4):
            session.fire("go")
        session.fire("more")
        session.run("t_x#0")
        session.claim("t_x#1")
        session.fail_now("t_x#2")
        (summary,) = session.store.sessions()
        assert (summary.uid, summary.generation) == (session.uid, session.header.generation)
        assert (summary.failed, summary.unstarted, summary.under_way) == (1, 1, 2)
        assert (summary.events, summary.state) == (6, "open")
        assert (summary.created_at, summary.updated_at) == (began, clock())
        assert summary.counts["t_x"][:5] == [0, 1, 1, 1, 1]

    def test_a_heartbeat_is_no_news(self, session: SessionDriver, clock: VirtualClock) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        claimed = session.claim("t_x#0").instance
        before = session.store.sessions()
        clock.advance(5)
        session.commit(Heartbeat(instance="t_x#0", token=claimed.token))
        assert session.store.sessions() == before

    def test_a_deleted_session_is_not_listed(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.fail_now("t_x#0")
        session.store.delete(session.uid)
        for failed, waiting in ((False, False), (True, False), (False, True)):
            assert session.store.sessions(failed=failed, waiting=waiting) == []

    @pytest.mark.parametrize("limit", [-1, -(2**70), 1.5, True, "5"])
    def test_a_listing_refuses_an_amount_that_is_none(self, store: Store, limit: int) -> None:
        SessionDriver(store).fire("a")
        for listing in (store.sessions, store.due):
            with pytest.raises(InvalidArgument, match="limit: expected a whole number"):
                listing(limit=limit)
        assert len(store.sessions(limit=2**70)) == 1, "more than there can be is all"
        assert store.due(limit=2**70) == []
        assert store.sessions(limit=0) == []

    @pytest.mark.parametrize("age", [math.nan, math.inf, -math.inf, "1", None, True])
    def test_prune_refuses_an_age_that_is_none(self, store: Store, age: float) -> None:
        SessionDriver(store).fire("a")
        for resolved_only in (True, False):
            with pytest.raises(InvalidArgument, match="older_than: expected a number of seconds"):
                store.prune(age, resolved_only)
        assert len(store.sessions()) == 1

    def test_a_negative_age_erases_nothing_unless_all_are_meant(self, store: Store) -> None:
        SessionDriver(store).fire("a")
        with pytest.raises(InvalidArgument, match="say resolved_only=False as well"):
            store.prune(-1)
        assert len(store.sessions()) == 1
        assert store.prune(-1, resolved_only=False) == 1


def _waiting_since(session: SessionDriver) -> float | None:
    (summary,) = session.store.sessions()
    return summary.waiting_since


def _failed(store: Store) -> list[tuple[str, int]]:
    return [(each.uid, each.failed) for each in store.sessions(failed=True)]


def _uids(
    store: Store,
    *,
    failed: bool = False,
    waiting: bool = False,
    limit: int | None = None,
    after: str = "",
) -> list[str]:
    found = store.sessions(failed=failed, waiting=waiting, limit=limit, after=after)
    return [each.uid for each in found]
