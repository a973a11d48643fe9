"""Groups of the fleet index: what sessions wait for, and what instances failed of."""

from __future__ import annotations

import math

import pytest

from triggers_core.engine.commands import Close
from triggers_core.exceptions import InvalidArgument
from triggers_core.storages.base import Store
from triggers_core.storages.groups import FailedInstance, WaitingGroup
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import Reopen, StoragePromises

ORDERS = {
    "t_ship": {"after": ["paid", "packed"], "unless": ["cancelled"]},
    "t_refund": {"after": ["refundWanted"]},
}


class Groups(StoragePromises):
    """`Store.waiting_groups`, `failed_groups` and what is in them; `coming`, `find_event`."""

    def test_waiting_sessions_are_grouped_by_what_they_lack(
        self, store: Store, clock: VirtualClock
    ) -> None:
        began = clock()
        for uid, events in {
            "a": ["paid"],
            "b": ["packed"],
            "c": ["paid"],
            "d": [],
            "e": ["paid", "packed"],
            "f": ["paid", "cancelled"],
            "g": ["paid"],
        }.items():
            session = SessionDriver(store, uid)
            session.configure(ORDERS)
            for event in events:
                session.fire(event)
            clock.advance(1)
        SessionDriver(store, "g").commit(Close())
        assert _waiting(store) == [
            (("packed",), 2, began),
            ((), 2, began + 3),  # d has nothing that began, and of f it was called off
            (("paid",), 1, began + 1),
        ]
        assert _uids(store, "packed") == ["a", "c"]
        assert _uids(store, "paid") == ["b"]
        assert _uids(store) == ["d", "f"]
        assert _uids(store, "paid", "packed") == []

    def test_a_session_changes_its_group_with_what_it_lacks(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        began = clock()
        session.configure(t_x={"after": ["a", "b", "c"]})
        session.fire("a")
        assert _waiting(session.store) == [(("b", "c"), 1, began)]
        clock.advance(1)
        session.fire("b")
        assert _waiting(session.store) == [(("c",), 1, began)], "it has waited all along"
        session.fire("c")
        assert _waiting(session.store) == []
        session.fail_now("t_x#0")
        assert _waiting(session.store) == [((), 1, clock())], "it waits for somebody, no event"
        session.skip("t_x#0")
        assert _waiting(session.store) == []

    def test_what_any_of_several_would_end_counts_for_each(self, session: SessionDriver) -> None:
        session.configure(
            t_any={"after": ["go", {"anyOf": ["card", "cash"]}]},
            t_two={"after": [{"atLeast": 2, "of": "vote"}, "go"]},
        )
        session.fire("go")
        session.fire("vote")
        assert [each[0] for each in _waiting(session.store)] == [("card", "cash", "vote")]

    def test_who_waits_for_the_next_time_only_lacks_nothing(self, session: SessionDriver) -> None:
        session.configure(t_x={"everyTime": True, "after": ["a", "b"]}, t_y={"after": ["c", "d"]})
        for trigger in ("a", "b"):
            session.fire(trigger)
        session.run("t_x#0")
        session.fire("a")
        session.fire("c")
        assert [each[0] for each in _waiting(session.store)] == [("d",)]

    def test_a_group_is_counted_no_further_than_asked_for(
        self, store: Store, clock: VirtualClock
    ) -> None:
        began = clock()
        for uid in "abcde":
            session = SessionDriver(store, uid)
            session.configure(ORDERS)
            if uid < "c":
                session.fire("paid")
            clock.advance(1)
        assert store.waiting_groups(most=2) == [
            WaitingGroup(missing=("packed",), sessions=2, since=began),
            WaitingGroup(missing=(), sessions=2, since=began + 2, more=True),
        ]
        assert [each.more for each in store.waiting_groups(most=3)] == [False, False]
        assert [each.missing for each in store.waiting_groups(limit=1, most=3)] == [()]

    def test_a_deleted_session_is_in_no_group(self, session: SessionDriver) -> None:
        session.configure(ORDERS, t_x={"after": ["paid"]})
        session.fire("paid")
        session.fail_now("t_x#0", {"error": {"type": "OSError"}})
        session.store.delete(session.uid)
        assert _waiting(session.store) == []
        assert session.store.failed_groups() == []
        assert session.store.failed_instances() == []

    def test_a_group_is_read_from_a_time_on(self, store: Store, clock: VirtualClock) -> None:
        times = []
        for uid in "dbca":
            session = SessionDriver(store, uid)
            session.configure(ORDERS)
            session.fire("paid")
            times.append(clock())
            clock.advance(1)
        assert _uids(store, "packed") == ["d", "b", "c", "a"]
        assert [each.uid for each in store.waiting_for(("packed",), limit=2)] == ["d", "b"]
        assert [each.uid for each in store.waiting_for(("packed",), after=times[2])] == ["c", "a"]

    def test_failed_instances_are_grouped_by_task_and_error(
        self, store: Store, clock: VirtualClock
    ) -> None:
        began = clock()
        self._fail(store, clock)
        assert [
            (each.task, each.error, each.instances, each.since - began)
            for each in store.failed_groups()
        ] == [("t_mail", "SMTPError", 2, 0.0), ("t_mail", "OSError", 1, 1.0), ("t_ship", "", 1, 3)]
        assert len(store.failed_groups(limit=2)) == 2

    def test_failed_instances_are_listed_in_the_order_of_their_failures(
        self, store: Store, clock: VirtualClock
    ) -> None:
        self._fail(store, clock)
        everything = _failed(store)
        assert everything == [
            ("d", "t_mail#0"),
            ("b", "t_mail#0"),
            ("c", "t_mail#0"),
            ("a", "t_ship#0"),
        ]
        assert _failed(store, task="t_mail") == everything[:3]
        assert _failed(store, task="t_mail", error="SMTPError") == [everything[0], everything[2]]
        assert _failed(store, error="") == [everything[3]]
        assert _failed(store, task="t_other") == []

    def test_they_are_read_page_by_page_while_they_are_replayed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for number in range(10):
            session = SessionDriver(store, f"order {number}")
            session.configure(t_mail={"andEvery": "go"})
            for each in range(3):
                session.fire("go")
                session.fail_now(f"t_mail#{each}", {"error": {"type": "OSError"}})
            clock.advance(number % 2)
        expected = _failed(store)
        seen: list[tuple[str, str]] = []
        assert len(expected) == 30
        after: FailedInstance | None = None
        while page := store.failed_instances(task="t_mail", limit=4, after=after):
            after = page[-1]
            for failed in page:
                seen.append((failed.uid, failed.instance))
                if len(seen) % 3:
                    SessionDriver(store, failed.uid).replay(failed.instance)
        assert seen == expected
        assert len(_failed(store)) == 10

    def test_what_is_replayed_or_skipped_is_failed_no_more(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})
        for number in range(3):
            session.fire("go")
            session.fail_now(f"t_x#{number}", {"error": {"type": "OSError"}})
        session.replay("t_x#0")
        session.skip("t_x#1")
        assert _failed(session.store) == [(session.uid, "t_x#2")]
        session.fail_now("t_x#3", {"error": {"type": "KeyError"}})
        assert {(each.error, each.instances) for each in session.store.failed_groups()} == {
            ("OSError", 1),
            ("KeyError", 1),
        }

    def test_events_are_found_by_the_applications_id(self, store: Store) -> None:
        if store.find_event("stripe:1") is None:
            pytest.skip(f"the storage {store.key!r} has no index of events' ids over all sessions")
        for uid in ("b", "a", "c"):
            session = SessionDriver(store, uid)
            session.fire("noise")
            if uid != "c":
                session.fire("paid", event_id="stripe:1")
        assert store.find_event("stripe:1") == [("a", 1), ("b", 1)]
        assert store.find_event("stripe:1", limit=1) == [("a", 1)]
        assert store.find_event("stripe:2") == []
        store.delete("a")
        assert store.find_event("stripe:1") == [("b", 1)]

    def test_what_is_due_soon_is_listed_on_request(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.configure(
            t_late={"after": ["a", "b"], "within": "1 hour"},
            t_held={"after": ["a"], "waiting": "10 minutes"},
        )
        session.fire("a")
        store = session.store
        assert store.due() == []
        assert [each.instance for each in store.due(within=660.0)] == ["t_held#0"]
        both = ["t_held#0", "t_late#0"]
        assert [each.instance for each in store.due(within=3_660.0)] == both
        assert [each.instance for each in store.due(limit=1, within=3_660.0)] == both[:1]
        clock.advance(601)
        assert [each.instance for each in store.due()] == ["t_held#0"]

    def test_what_comes_by_itself_is_not_hidden_by_what_is_under_way(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for uid in ("b", "a"):
            session = SessionDriver(store, uid)
            session.configure(
                t_x={"andEvery": "go"},
                t_late={"after": ["a", "b"], "within": "1 hour"},
                t_held={"after": ["a"], "waiting": "10 minutes"},
            )
            for _ in range(3):  # leases, which fall due before
                session.fire("go")
            session.claim("t_x#0")
            session.fire("a")
            clock.advance(1)
        held = [("b", "t_held#0"), ("a", "t_held#0")]
        late = [("b", "t_late#0"), ("a", "t_late#0")]
        assert _coming(store, 60) == []
        assert _coming(store, 660) == held
        assert _coming(store, 3_660) == held + late
        assert [(uid, each.name) for uid, each in store.coming(3_660, limit=1)] == held[:1]
        assert store.coming(3_660, limit=0) == []
        uid, instance = store.coming(660, limit=1)[0]
        assert [instance] == store.instances(uid, task="t_held"), "whole"
        SessionDriver(store, "a").fire("b")
        clock.advance(598.5)  # what is due already comes no more
        assert _coming(store, 3_660) == [held[1], late[0]]
        store.delete("b")
        assert _coming(store, 3_660) == [held[1]]

    def test_groups_outlive_a_restart(
        self, store: Store, reopened: Reopen, clock: VirtualClock
    ) -> None:
        self._fail(store, clock)
        SessionDriver(store, "w").configure(ORDERS)
        SessionDriver(store, "w").fire("paid")
        before = store.waiting_groups(), store.failed_groups(), store.failed_instances()
        again = reopened(store)
        assert (again.waiting_groups(), again.failed_groups(), again.failed_instances()) == before

    @pytest.mark.parametrize("limit", [-1, 1.5, "1", True])
    def test_a_limit_of_a_group_is_a_whole_number(self, store: Store, limit: object) -> None:
        for listing in (
            store.waiting_groups,
            store.failed_groups,
            store.failed_instances,
        ):
            with pytest.raises(InvalidArgument):
                listing(limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            store.coming(60.0, limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            store.waiting_for(("a",), limit=limit)  # type: ignore[arg-type]

    def _fail(self, store: Store, clock: VirtualClock) -> None:
        """Failures in four sessions, a second apart."""
        for uid, task, error in (
            ("d", "t_mail", "SMTPError"),
            ("b", "t_mail", "OSError"),
            ("c", "t_mail", "SMTPError"),
            ("a", "t_ship", None),
        ):
            session = SessionDriver(store, uid)
            session.configure({task: {"after": ["go"]}})
            session.fire("go")
            session.fail_now(f"{task}#0", {"error": {"type": error}} if error else {})
            clock.advance(1)


def _waiting(store: Store) -> list[tuple[tuple[str, ...], int, float]]:
    return [(each.missing, each.sessions, each.since) for each in store.waiting_groups()]


def _coming(store: Store, within: float) -> list[tuple[str, str]]:
    return [(uid, each.name) for uid, each in store.coming(within)]


def _uids(store: Store, *missing: str, after: float = -math.inf) -> list[str]:
    return [each.uid for each in store.waiting_for(tuple(sorted(missing)), after=after)]


def _failed(
    store: Store, task: str | None = None, error: str | None = None
) -> list[tuple[str, str]]:
    found = store.failed_instances(task=task, error=error, limit=None)
    return [(each.uid, each.instance) for each in found]
