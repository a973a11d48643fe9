"""Configurations: the first applies what came before it, later ones apply nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from triggers_core.engine.attempts import Retry
from triggers_core.engine.protocol import Query, Rules
from triggers_core.exceptions import LimitExceeded
from triggers_core.limits import Limits
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import Reopen, StoragePromises


class Configurations(StoragePromises):
    """What happens to a session when its configuration arrives or changes."""

    # -- the first --------------------------------------------------------------------------------

    def test_events_may_come_before_the_configuration(self, session: SessionDriver) -> None:
        assert session.fire("a", {"n": 1}).status == "recorded"
        session.fire("a", {"n": 2})
        session.fire("b")
        configured = session.configure(t_x={"after": ["a", "b"]}, t_y={"after": ["c"]})
        assert configured.changed
        assert configured.scheduled == ["t_x#0"]
        assert session.kwargs("t_x#0") == {"a": {"n": 1}, "b": {}}
        assert session.statuses() == {"t_x#0": "scheduled"}

    def test_past_events_are_applied_in_their_order(self, session: SessionDriver) -> None:
        session.fire("page", {"p": 0})
        session.fire("subject", {"s": 0})
        session.fire("page", {"p": 1})
        session.fire("subject", {"s": 1})
        session.fire("page", {"p": 2})
        session.fire("stop")
        session.fire("page", {"p": 3})
        configured = session.configure(
            t_x={"after": ["subject"], "andEvery": "page", "unless": ["stop"]}
        )
        assert configured.scheduled == ["t_x#0", "t_x#1", "t_x#2"]
        assert session.statuses()["t_x#3"] == "abandoned"
        assert [session.kwargs(f"t_x#{n}") for n in range(3)] == [
            {"page": {"p": 0}, "subject": {"s": 0}},
            {"page": {"p": 1}, "subject": {"s": 0}},
            {"page": {"p": 2}, "subject": {"s": 1}},
        ]

    def test_a_late_first_configuration_leads_to_the_same_as_an_early_one(
        self, store: Store
    ) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t_a": {"after": ["go"], "unless": ["stop"]},
            "t_b": {"after": ["go"], "andEvery": "page", "unless": ["stop"]},
            "t_c": {"after": ["page", "stop"]},
        }
        early, late = SessionDriver(store, "early"), SessionDriver(store, "late")
        early.configure(tasks)
        for session in (early, late):
            for trigger in ("page", "go", "page", "stop", "go", "page"):
                session.fire(trigger)
        late.configure(tasks)
        ignored = {"key", "created_at"}
        assert [_besides(i, ignored) for i in store.instances("late")] == [
            _besides(i, ignored) for i in store.instances("early")
        ]

    def test_a_default_configuration_is_pinned_by_the_first_fire(
        self, session: SessionDriver
    ) -> None:
        default = session.parse({"t_x": {"after": ["a"]}})
        session.rules = Rules(default_configuration=default)
        assert session.fire("a").scheduled == ["t_x#0"]
        session.rules = Rules(default_configuration=session.parse({"t_y": {"after": ["a"]}}))
        assert session.fire("a").scheduled == []
        assert session.header.config == default.hash

    def test_a_default_configuration_is_not_for_sessions_that_have_one(
        self, session: SessionDriver
    ) -> None:
        session.rules = Rules(default_configuration=session.parse({"t_x": {"after": ["a"]}}))
        session.configure(t_y={"after": ["a"]})
        assert session.fire("a").scheduled == ["t_y#0"]

    # -- later ones -------------------------------------------------------------------------------

    def test_the_same_configuration_again_changes_nothing(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"]})
        session.fire("a")
        before = session.image()
        configured = session.configure(t_x={"after": ["a"]})
        assert (configured.changed, configured.version) == (False, 1)
        assert session.image() == before

    def test_a_later_configuration_applies_no_past_events(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"]})
        session.fire("a", {"n": 1})
        session.fire("b", {"n": 2})
        configured = session.configure(t_y={"after": ["a", "b"]}, t_z={"after": ["a", "c"]})
        assert (configured.version, configured.scheduled) == (2, [])
        assert session.statuses() == {"t_x#0": "scheduled"}
        # A new instance starts with what has fired, whenever that was.
        assert session.fire("b", {"n": 3}).scheduled == ["t_y#0"]
        assert session.kwargs("t_y#0") == {"a": {"n": 1}, "b": {"n": 3}}

    def test_a_replaced_task_keeps_its_place_and_the_others(self, session: SessionDriver) -> None:
        session.configure(t_c={"after": ["a"]}, t_a={"after": ["a"]}, t_b={"after": ["a"]})
        session.configure(t_a={"after": ["a", "a2"]}, t_new={"after": ["a"]})
        assert list(_tasks(session)) == ["t_c", "t_a", "t_b", "t_new"]
        assert session.fire("a").scheduled == ["t_c#0", "t_b#0", "t_new#0"]

    def test_waiting_for_less_schedules_in_the_same_commit(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"], "andEvery": "page"})
        session.fire("a")
        for _ in range(3):
            session.fire("page")
        version = session.header.version
        configured = session.configure(t_x={"after": ["a"], "andEvery": "page"})
        assert configured.scheduled == ["t_x#0", "t_x#1", "t_x#2"]
        assert session.header.version == version + 1

    def test_waiting_for_more_waits(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.configure(t_x={"after": ["a", "b", "c"]})
        assert session.fire("b").scheduled == []
        assert session.fire("c").scheduled == ["t_x#0"]

    def test_waiting_for_something_else_is_indexed_anew(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "old"]})
        session.fire("a")
        session.configure(t_x={"after": ["a", "new"]})
        assert session.fire("old").scheduled == []
        assert session.fire("new").scheduled == ["t_x#0"]
        assert session.kwargs("t_x#0") == {"a": {}, "new": {}}

    def test_a_new_unless_abandons_from_its_next_event_on(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.configure(t_x={"after": ["a", "b"], "unless": ["stop"]})
        session.fire("stop")
        assert session.statuses() == {"t_x#0": "abandoned"}

    def test_replacing_a_task_leaves_what_has_started(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "a"})
        for _ in range(3):
            session.fire("a")
        session.run("t_x#0")
        session.fail_now("t_x#1")
        before = session.store.instances(session.uid)
        session.configure(t_x={"after": ["b"], "andEvery": "a", "run": "tests.Other"})
        assert session.store.instances(session.uid) == before

    def test_a_replay_follows_the_current_task(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "run": "tests.Broken"})
        session.fire("a")
        broken = session.claim("t_x#0")
        assert (broken.task.run, broken.instance.config_version) == ("tests.Broken", 1)
        session.fail(broken)
        session.configure(t_x={"after": ["a"], "run": "tests.Fixed"})
        session.replay("t_x#0")
        fixed = session.claim("t_x#1")
        assert (fixed.task.run, fixed.instance.config_version) == ("tests.Fixed", 2)

    def test_a_held_instance_stays_held(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"]})
        session.fire("a")
        session.fail(session.claim("t_x#0"), retry=Retry(cooldown=30))
        due_at = session.instance("t_x#1").due_at
        configured = session.configure(t_x={"after": ["a"], "unless": ["stop"]})
        assert configured.scheduled == []
        assert session.statuses() == {"t_x#0": "replayed", "t_x#1": "unstarted"}
        assert session.instance("t_x#1").due_at == due_at

    # -- kept as written --------------------------------------------------------------------------

    def test_a_configuration_comes_back_as_written(
        self, session: SessionDriver, reopened: Reopen
    ) -> None:
        tasks: dict[str, dict[str, Any]] = {
            "t z/ü #1": {
                "after": ["z", "a", "m ü"],
                "andEvery": "e/very",
                "unless": ["u2", "u1"],
                "withParams": {"a": {"deep": {"list": [1, None, {"b": b"\x00"}]}}},
                "run": "tests.Body",
                "using": "threading",
                "extra": {"of the application": [1, "two"]},
            },
            "t_a": {"after": ["z"], "run": "tests.Body"},
        }
        session.configure(tasks)
        session.store = reopened(session.store)
        assert {name: task.as_dict() for name, task in _tasks(session).items()} == tasks

    def test_with_params_lie_under_what_was_recorded(self, session: SessionDriver) -> None:
        params = {"a": {"n": 0, "more": {"x": 1, "y": 2}}, "other": {"z": 3}}
        session.configure(t_x={"after": ["a"], "withParams": params})
        session.fire("a", {"n": 1, "more": {"y": 5}})
        assert session.claim("t_x#0").kwargs() == {
            "a": {"n": 1, "more": {"x": 1, "y": 5}},
            "other": {"z": 3},
        }

    def test_a_session_of_too_many_tasks_is_refused(self, session: SessionDriver) -> None:
        session.rules = Rules(limits=Limits(tasks=2))
        session.configure(t_a={"after": ["a"]}, t_b={"after": ["a"]})
        before = session.image()
        with pytest.raises(LimitExceeded, match=r"Limits\.tasks"):
            session.configure(t_c={"after": ["a"]})
        assert session.image() == before


def _tasks(session: SessionDriver) -> dict[str, Any]:
    return dict(session.store.load(session.uid, Query()).configuration.tasks)


def _besides(record: msgspec.Struct, ignored: set[str]) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    return {name: value for name, value in fields.items() if name not in ignored}
