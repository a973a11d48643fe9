"""The fire rule: which instances an event creates, completes or abandons."""

from __future__ import annotations

from itertools import permutations

import pytest

from triggers_core.engine.attempts import BodyFire
from triggers_core.engine.records import Source
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.storage.base import StoragePromises


class FireRule(StoragePromises):
    """``after``, ``andEvery`` and ``unless``."""

    # -- after ------------------------------------------------------------------------------------

    def test_an_instance_waits_for_all_of_after_in_any_order(self, store: Store) -> None:
        for number, order in enumerate(permutations("abc")):
            session = SessionDriver(store, f"order:{number}")
            session.configure(t_x={"after": ["a", "b", "c"]})
            first, second, last = order
            assert session.fire(first).scheduled == []
            assert session.statuses() == {"t_x#0": "unstarted"}
            assert session.fire(second).scheduled == []
            assert session.fire(last).scheduled == ["t_x#0"]
            assert session.statuses() == {"t_x#0": "scheduled"}

    def test_the_first_event_of_a_trigger_is_kept(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a", {"n": 1})
        session.fire("a", {"n": 2})
        session.fire("b")
        assert session.kwargs("t_x#0") == {"a": {"n": 1}, "b": {}}

    def test_a_new_instance_starts_with_the_latest_events(self, session: SessionDriver) -> None:
        session.configure(t_first={"after": ["a"]}, t_x={"after": ["a"], "andEvery": "page"})
        session.fire("a", {"n": 1})
        session.fire("page", {"p": 1})
        session.fire("a", {"n": 2})
        session.fire("page", {"p": 2})
        assert session.kwargs("t_x#0") == {"a": {"n": 1}, "page": {"p": 1}}
        assert session.kwargs("t_x#1") == {"a": {"n": 2}, "page": {"p": 2}}

    @pytest.mark.parametrize("finished", [False, True])
    def test_without_and_every_a_task_is_one_shot(
        self, session: SessionDriver, finished: bool
    ) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
        session.fire("b")
        if finished:
            session.run("t_x#0")
        for trigger in "abab":
            assert session.fire(trigger).scheduled == []
        assert list(session.statuses()) == ["t_x#0"]

    def test_a_started_instance_takes_nothing_more(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a", {"n": 1})
        session.fire("b", {"n": 2})
        before = session.instance("t_x#0")
        session.fire("a", {"n": 3})
        assert session.instance("t_x#0") == before

    def test_an_event_that_nobody_waits_for_is_recorded(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"]})
        recorded = session.fire("unheard", {"n": 1})
        assert (recorded.status, recorded.number, recorded.scheduled) == ("recorded", 0, [])
        assert session.fired() == ["unheard"]
        assert session.statuses() == {}

    def test_instances_are_scheduled_in_the_order_of_the_configuration(
        self, session: SessionDriver
    ) -> None:
        names = ["t_m", "t_z", "t_a", "t_k", "t_b"]
        session.configure({name: {"after": ["go"]} for name in names})
        assert session.fire("go").scheduled == [f"{name}#0" for name in names]

    def test_scheduled_by_is_the_event_that_completed_it(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("b")
        session.fire("noise")
        session.fire("a")
        assert session.instance("t_x#0").scheduled_by == 2
        assert session.instance("t_x#0").attempt == 1

    # -- andEvery ---------------------------------------------------------------------------------

    def test_and_every_makes_an_instance_for_each_event(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "page"})
        for number in range(3):
            assert session.fire("page", {"p": number}).scheduled == [f"t_x#{number}"]
            assert session.kwargs(f"t_x#{number}") == {"page": {"p": number}}

    def test_instances_wait_together_and_start_together(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["subject"], "andEvery": "page"})
        for number in range(3):
            assert session.fire("page", {"p": number}).scheduled == []
        assert session.fire("subject").scheduled == ["t_x#0", "t_x#1", "t_x#2"]
        assert [session.kwargs(f"t_x#{n}")["page"]["p"] for n in range(3)] == [0, 1, 2]

    def test_an_instance_that_lacks_its_and_every_takes_it(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"], "andEvery": "page"})
        session.fire("a")
        session.fire("page", {"p": 1})
        assert session.statuses() == {"t_x#0": "unstarted"}
        session.fire("page", {"p": 2})
        assert session.statuses() == {"t_x#0": "unstarted", "t_x#1": "unstarted"}
        assert session.fire("b").scheduled == ["t_x#0", "t_x#1"]

    def test_a_trigger_of_after_alone_makes_no_further_instance(
        self, session: SessionDriver
    ) -> None:
        session.configure(t_x={"after": ["a"], "andEvery": "page"})
        session.fire("page")
        session.fire("a")
        session.fire("a")
        assert list(session.statuses()) == ["t_x#0"]

    def test_a_trigger_in_after_and_and_every_is_needed_once(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["page", "a"], "andEvery": "page"})
        assert session.fire("a").scheduled == []
        assert session.fire("page").scheduled == ["t_x#0"]
        assert session.fire("page").scheduled == ["t_x#1"]

    # -- unless -----------------------------------------------------------------------------------

    def test_unless_abandons_what_has_not_started(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"], "unless": ["stop"]})
        session.fire("a")
        session.fire("stop")
        assert session.statuses() == {"t_x#0": "abandoned"}
        assert session.fire("b").scheduled == []
        assert session.statuses() == {"t_x#0": "abandoned"}

    def test_unless_alone_makes_an_abandoned_instance(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "unless": ["stop"]})
        session.fire("stop")
        assert session.statuses() == {"t_x#0": "abandoned"}
        assert session.instance("t_x#0").scheduled_by == 0

    def test_unless_leaves_what_has_started(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "a", "unless": ["stop"]})
        for _ in range(4):
            session.fire("a")
        running = session.claim("t_x#1")
        session.run("t_x#2")
        session.fail_now("t_x#3")
        session.fire("stop")
        assert session.statuses() == {
            "t_x#0": "scheduled",
            "t_x#1": "running",
            "t_x#2": "finished",
            "t_x#3": "failed",
        }
        assert session.finish(running).instance.status == "finished"

    def test_unless_wants_all_of_its_triggers(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "b"], "unless": ["s1", "s2"]})
        session.fire("s1")
        session.fire("a")
        assert session.statuses() == {"t_x#0": "unstarted"}
        session.fire("s2")
        assert session.statuses() == {"t_x#0": "abandoned"}

    def test_part_of_unless_does_not_hold_anything_up(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "unless": ["s1", "s2"]})
        session.fire("s1")
        assert session.fire("a").scheduled == ["t_x#0"]

    def test_unless_wins_over_complete(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a", "both"], "unless": ["both"]})
        session.fire("a")
        assert session.fire("both").scheduled == []
        assert session.statuses() == {"t_x#0": "abandoned"}

    def test_a_new_instance_knows_the_unless_that_has_fired(self, session: SessionDriver) -> None:
        session.configure(t_x={"andEvery": "page", "unless": ["stop"]})
        assert session.fire("page").scheduled == ["t_x#0"]
        session.fire("stop")
        assert session.fire("page").scheduled == []
        assert session.statuses() == {"t_x#0": "scheduled", "t_x#1": "abandoned"}

    def test_abandoning_is_no_cascade(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["a"], "unless": ["stop"]}, t_next={"after": ["t_x"]})
        session.fire("stop")
        assert session.fired() == ["stop"]
        assert session.statuses() == {"t_x#0": "abandoned"}

    # -- cascades ---------------------------------------------------------------------------------

    def test_a_finished_instance_fires_its_task_with_its_result(
        self, session: SessionDriver
    ) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["t_a"]}, t_c={"after": ["t_b"]})
        session.fire("go")
        ended = session.run("t_a#0", {"n": 42})
        assert ended.scheduled == ["t_b#0"]
        assert session.kwargs("t_b#0") == {"t_a": {"n": 42}}
        cascade = session.events()[1]
        assert (cascade.trigger, cascade.cause, cascade.source) == ("t_a", "t_a#0", Source.INSTANCE)
        assert session.run_all() == ["t_b#0", "t_c#0"]
        assert session.fired() == ["go", "t_a", "t_b", "t_c"]

    def test_every_instance_of_a_task_cascades(self, session: SessionDriver) -> None:
        session.configure(t_page={"andEvery": "page"}, t_log={"andEvery": "t_page"})
        for number in range(3):
            session.fire("page")
            session.run(f"t_page#{number}", {"p": number})
        assert [session.kwargs(f"t_log#{n}")["t_page"]["p"] for n in range(3)] == [0, 1, 2]

    def test_cascades_know_how_long_their_chain_is(self, session: SessionDriver) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["t_a"]}, t_c={"after": ["t_b"]})
        session.fire("go")
        session.run_all()
        assert [event.chain for event in session.events()] == [0, 1, 2, 3]

    def test_a_body_fires_in_the_commit_of_its_finish(self, session: SessionDriver) -> None:
        session.configure(t_a={"after": ["go"]}, t_b={"after": ["said", "t_a"]})
        session.fire("go")
        claimed = session.claim("t_a#0")
        ended = session.finish(claimed, {"n": 1}, [BodyFire(trigger="said", payload=b'{"w":1}')])
        assert ended.scheduled == ["t_b#0"]
        assert session.fired() == ["go", "said", "t_a"]
        assert session.kwargs("t_b#0") == {"said": {"w": 1}, "t_a": {"n": 1}}
        assert session.events()[1].cause == "t_a#0"

    # -- isolation --------------------------------------------------------------------------------

    def test_sessions_do_not_see_each_other(self, store: Store) -> None:
        one, two = SessionDriver(store, "one"), SessionDriver(store, "two")
        for session in (one, two):
            session.configure(t_x={"after": ["a", "b"]})
        one.fire("a", {"of": 1})
        assert two.fire("b").scheduled == []
        assert two.fire("a", {"of": 2}).scheduled == ["t_x#0"]
        assert one.statuses() == {"t_x#0": "unstarted"}
        assert two.kwargs("t_x#0")["a"] == {"of": 2}
