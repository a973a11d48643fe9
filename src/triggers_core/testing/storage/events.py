"""Events: recognised by their id, refused when they break a rule, and then nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.attempts import BodyFire, Fail, Finish, SkipRunning
from triggers_core.engine.commands import Close, Fire
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import (
    CascadeTooDeep,
    EventIdConflict,
    InvalidArgument,
    LimitExceeded,
    SessionClosed,
    SessionNotFound,
    TaskNameFired,
    TriggersError,
)
from triggers_core.limits import Limits
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class Events(StoragePromises):
    """Event ids, `once`, `force`, limits, closed sessions."""

    # -- ids --------------------------------------------------------------------------------------

    def test_the_same_id_again_is_a_duplicate(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "paid"})
        first = session.fire("paid", {"cents": 5, "by": "card"}, event_id="stripe:evt_1")
        before = session.image()
        again = session.fire("paid", {"by": "card", "cents": 5}, event_id="stripe:evt_1")
        assert (first.status, first.number) == ("recorded", 0)
        assert (again.status, again.number) == ("duplicate", 0)
        assert (again.event_id, again.scheduled) == ("stripe:evt_1", [])
        assert session.image() == before

    def test_a_generated_id_is_an_id(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "paid"})
        first = session.fire("paid", {"cents": 5})
        assert session.fire("paid", {"cents": 5}, event_id=first.event_id).status == "duplicate"
        assert session.fire("paid", {"cents": 5}).status == "recorded"
        assert session.fired() == ["paid", "paid"]

    def test_a_generated_id_is_of_one_session(self, store: Store, session: SessionDriver) -> None:
        first, other = session.fire("paid"), SessionDriver(store, uid="other")
        other.fire("paid")
        for event_id in (first.event_id, "~0.made up", "~7.made up", "~999999999.made up"):
            with pytest.raises(EventIdConflict, match="no such event"):
                other.fire("paid", event_id=event_id)
        assert other.fired() == ["paid"]

    def test_payloads_of_numbers_that_are_no_events(self, store: Store) -> None:
        for uid in ("before", "order:1", "after"):
            SessionDriver(store, uid=uid).fire("paid", {"uid": uid})
        wrong = [sign * (1 << bits) for bits in (0, 8, 16, 31, 32, 33, 62) for sign in (1, -1)]
        assert store.payloads("order:1", [*wrong, 0]) == {0: b'{"uid":"order:1"}'}
        assert [event.number for event in store.events("order:1")] == [0]
        for start in (1, 1 << 31, 1 << 32):
            assert store.events("order:1", start) == []

    def test_events_by_number(self, store: Store, session: SessionDriver) -> None:
        for number in range(5):
            session.fire("go", {"n": number}, event_id=f"e{number}")
        events = session.events()
        wanted = {3: events[3], 1: events[1]}
        assert store.events_by_number(session.uid, [3, 1, 3]) == wanted
        assert store.events_by_number(session.uid, iter([4, 5, -1, 1 << 40])) == {4: events[4]}
        assert store.events_by_number(session.uid, []) == {}
        assert store.events_by_number("another", [0]) == {}

    def test_an_id_is_remembered_as_long_as_the_session_lives(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "paid"})
        session.fire("paid", event_id="first")
        for number in range(300):
            session.fire("other", event_id=f"other {number}")
        session.run("t_x#0")
        assert session.fire("paid", event_id="first").status == "duplicate"

    @pytest.mark.parametrize(
        ("trigger", "kwargs"), [("refunded", {"n": 1}), ("paid", {"n": 2}), ("paid", {"n": 1.0})]
    )
    def test_an_id_names_one_event(
        self, session: SessionDriver, trigger: str, kwargs: dict[str, Any]
    ) -> None:
        session.fire("paid", {"n": 1}, event_id="e")
        before = session.image()
        with pytest.raises(EventIdConflict, match="'e'"):
            session.fire(trigger, kwargs, event_id="e")
        assert session.image() == before

    def test_ids_belong_to_their_session(self, store: Store) -> None:
        assert SessionDriver(store, "one").fire("paid", event_id="e").status == "recorded"
        assert SessionDriver(store, "two").fire("refunded", event_id="e").status == "recorded"

    def test_a_duplicate_is_a_duplicate_before_anything_else(self, session: SessionDriver) -> None:
        """Whoever repeats a fire after a crash must not hear that it is refused meanwhile."""
        session.fire("t_x", event_id="e")
        session.configure(t_x={"after": ["a"]})
        session.commit(Close())
        assert session.fire("t_x", event_id="e").status == "duplicate"

    def test_ids_of_a_bodys_fires_are_ids(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "go"})
        for _ in range(2):
            session.fire("go")
        fires = [BodyFire(trigger="said", payload=b"{}", event_id="said once")]
        session.finish(session.claim("t_x#0"), fires=[*fires, *fires])
        session.finish(session.claim("t_x#1"), fires=fires)
        assert session.fired() == ["go", "go", "said", "t_x", "t_x"]
        assert session.fire("said", event_id="said once").status == "duplicate"

    # -- once and force ---------------------------------------------------------------------------

    def test_once_is_a_no_op_when_the_trigger_has_fired(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "a"})
        assert session.fire("a", {"n": 1}, once=True).status == "recorded"
        before = session.image()
        again = session.fire("a", {"n": 2}, once=True)
        assert (again.status, again.number, again.scheduled) == ("already fired", 0, [])
        assert session.image() == before
        assert session.fire("a").status == "recorded"

    def test_once_in_a_body(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        triggers = ("go", "b", "b")
        fires = [BodyFire(trigger=each, payload=b"{}", once=True) for each in triggers]
        session.finish(session.claim("t_x#0"), fires=fires)
        assert session.fired() == ["go", "b", "t_x"]

    def test_a_tasks_name_is_not_fired_by_hand(self, session: SessionDriver) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["t_a"]})
        before = session.image()
        with pytest.raises(TaskNameFired, match="t_a"):
            session.fire("t_a")
        assert session.image() == before
        assert session.fire("t_a", {"n": 1}, force=True).scheduled == ["t_b#0"]

    def test_a_tasks_name_is_not_fired_by_a_body(self, session: SessionDriver) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["t_a"]}, t_c={"after": ["t_b"]})
        session.fire("go")
        claimed = session.claim("t_a#0")
        ended = session.finish(claimed, fires=[BodyFire(trigger="t_b", payload=b"{}")])
        assert isinstance(ended.failure, TaskNameFired)
        assert session.statuses() == {"t_a#0": "failed"}
        assert session.fired() == ["go"]

    # -- limits -----------------------------------------------------------------------------------

    def test_too_many_instances(self, session: SessionDriver) -> None:
        session.rules = Rules(limits=Limits(instances=2))
        session.configure(t_before={"andEvery": "other"}, t_x={"andEvery": "page"})
        session.fire("page")
        session.fire("page")
        before = session.image()
        with pytest.raises(LimitExceeded, match=r"t_x.*Limits\.instances"):
            session.fire("page")
        assert session.image() == before

    def test_a_cascade_for_which_there_is_no_room_fails_its_instance(
        self, session: SessionDriver
    ) -> None:
        session.rules = Rules(limits=Limits(instances=1))
        session.configure(t_a={"after": ["go"]}, t_b={"andEvery": "said"})
        session.fire("go")
        said = BodyFire(trigger="said", payload=b"{}")
        ended = session.finish(session.claim("t_a#0"), fires=[said, said])
        assert isinstance(ended.failure, LimitExceeded)
        assert "Limits.instances" in session.metadata("t_a#0")["error"]["message"]
        assert session.statuses() == {"t_a#0": "failed"}
        assert session.fired() == ["go"]

    def test_a_cascade_that_never_ends_is_cut(self, session: SessionDriver) -> None:
        session.rules = Rules(limits=Limits(cascade_depth=5))
        session.configure(t_a={"andEvery": "go"}, t_b={"andEvery": "t_a"}, t_c={"andEvery": "t_b"})
        session.fire("go")
        for number in range(2):
            for task in ("t_a", "t_b", "t_c"):
                claimed = session.claim(f"{task}#{number}")
                again = [BodyFire(trigger="go", payload=b"{}")] if task == "t_c" else []
                ended = session.finish(claimed, fires=again)
        assert isinstance(ended.failure, CascadeTooDeep)
        assert session.status("t_c#1") == "failed"
        assert max(event.chain for event in session.events()) == 5

    # -- reading them -----------------------------------------------------------------------------

    def test_events_are_read_window_by_window(self, store: Store) -> None:
        for uid in ("a", "b", "c"):  # what lies beside a session's events must not be seen
            session = SessionDriver(store, uid)
            for number in range(3):
                session.fire(f"{uid}{number}")

        def read(*window: int | None) -> list[str]:
            return [event.trigger for event in store.events("b", *window)]  # type: ignore[arg-type]

        assert read() == read(0) == read(0, None) == read(0, 2**70) == ["b0", "b1", "b2"]
        assert read(1, 1) == ["b1"]
        assert read(2, 5) == ["b2"]
        assert read(1, 0) == read(3) == read(2**32) == read(2**70) == []

    @pytest.mark.parametrize(
        "window", [(-1,), (-(2**32),), (-(2**70),), (0, -1), (1.5,), ("0",), (None,), (True,)]
    )
    def test_a_window_that_is_none_is_refused(self, store: Store, window: tuple[int, ...]) -> None:
        for uid in ("a", "b"):
            SessionDriver(store, uid).fire("go")
        for uid in ("b", "nobody"):
            with pytest.raises(InvalidArgument, match="expected a whole number from 0 on"):
                store.events(uid, *window)

    # -- sessions that accept nothing -------------------------------------------------------------

    def test_a_closed_session_refuses_events(self, session: SessionDriver) -> None:
        session.fire("a")
        session.commit(Close())
        before = session.image()
        for once in (False, True):
            with pytest.raises(SessionClosed, match=session.uid):
                session.fire("a", once=once)
        assert session.image() == before

    def test_what_is_under_way_runs_to_its_end_when_a_session_closes(
        self, session: SessionDriver
    ) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["t_a"]})
        session.fire("go")
        session.commit(Close())
        assert session.run_all() == ["t_a#0", "t_b#0"]

    # -- carriers ---------------------------------------------------------------------------------

    def test_a_carrier_is_kept_with_its_event(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["paid", "packed"]}, t_y={"after": ["t_x"]})
        carriers = [{"traceparent": f"00-{n:032x}-{n:016x}-01", "é": "☃"} for n in (1, 2, 3)]
        paid, packed, ran = carriers
        fire = Fire(trigger="paid", payload=b"{}", event_id="p", given_id=True, carrier=paid)
        session.commit(fire)
        session.fire("noted")
        session.commit(Fire(trigger="packed", payload=b"{}", event_id="q", carrier=packed))
        claimed = session.claim("t_x#0")
        taken = claimed.events
        assert [taken[n].carrier for n in sorted(taken)] == [paid, packed]
        token = claimed.instance.token
        fires = [BodyFire(trigger="shipped", payload=b"{}")]
        session.commit(Finish(instance="t_x#0", token=token, fires=fires, carrier=ran))
        stored = [(each.trigger, each.carrier) for each in session.events()]
        assert stored == [
            ("paid", paid),
            ("noted", None),
            ("packed", packed),
            ("shipped", ran),
            ("t_x", ran),
        ]
        before = session.image()
        other = Fire(trigger="paid", payload=b"{}", event_id="p", given_id=True, carrier=ran)
        assert session.commit(other).status == "duplicate"
        assert session.image() == before
        (cascade,) = session.claim("t_y#0").events.values()
        assert cascade.carrier == ran

    def test_what_follows_in_the_same_commit_has_the_carrier(self, session: SessionDriver) -> None:
        otherwise = {"calledOff": "off", "failed": "broken", "skipped": "left"}
        session.configure(
            t_off={"after": ["go", "never"], "unless": ["stop"], "otherwise": otherwise},
            t_bad={"after": ["go"], "otherwise": otherwise},
            t_left={"after": ["go"], "otherwise": otherwise},
        )
        session.fire("go")
        session.commit(Fire(trigger="stop", payload=b"{}", event_id="s", carrier={"by": "stop"}))
        bad, left = session.claim("t_bad#0").instance, session.claim("t_left#0").instance
        session.commit(Fail(instance=bad.name, token=bad.token, carrier={"by": "bad"}))
        session.commit(SkipRunning(instance=left.name, token=left.token, carrier={"by": "left"}))
        assert [(each.trigger, each.carrier) for each in session.events()[1:]] == [
            ("stop", {"by": "stop"}),
            ("off", {"by": "stop"}),
            ("broken", {"by": "bad"}),
            ("left", {"by": "left"}),
        ]

    def test_closing_twice_is_closing_once(self, session: SessionDriver) -> None:
        session.fire("a")
        session.commit(Close())
        before = session.image()
        session.commit(Close())
        assert session.image() == before

    def test_there_must_be_a_session_to_close(self, session: SessionDriver) -> None:
        with pytest.raises(SessionNotFound):
            session.commit(Close())
        assert not session.exists

    def test_a_refused_fire_makes_no_session(self, session: SessionDriver) -> None:
        default = session.parse({"t_x": {"after": ["a"]}})
        session.rules = Rules(default_configuration=default)
        with pytest.raises(TriggersError):
            session.fire("t_x")
        assert not session.exists
        assert session.store.sessions() == []
