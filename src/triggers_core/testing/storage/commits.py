"""Commits: what plugins add joins them, what raises writes nothing, what is newer is left alone."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from triggers_core.application import Application
from triggers_core.engine.attempts import Retry
from triggers_core.engine.machine import Draft
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules
from triggers_core.engine.records import SCHEMA, Source
from triggers_core.exceptions import (
    HookFailed,
    InvalidPayload,
    PluginMissing,
    TriggersError,
    UnknownSchema,
)
from triggers_core.hookspecs import hookimpl
from triggers_core.limits import Limits
from triggers_core.manager import TriggerManager
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver, rules_with
from triggers_core.testing.storage.base import Reopen, StoragePromises


class _Broken:
    """A command that raises after it has looked and changed what it saw."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        snapshot = yield Query(instances=("t_x#0",), triggers=("go", "more"))
        assert snapshot.header is not None
        snapshot.header.latest.clear()
        snapshot.instances["t_x#0"].taken.clear()
        snapshot = yield Query(all_events=True)
        snapshot.events.clear()
        raise ZeroDivisionError


class Unwritable:
    """A command whose plan cannot be stored; what breaks it comes last."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        draft = Draft((yield Query(instances=("t_x#0", "t_y#0"))), rules)
        draft.touch(draft.instance("t_x", 0)).instance.metadata = msgspec.Raw(b"{}")
        draft.touch(draft.instance("t_y", 0)).instance.extra = cast(Any, {"broken": object()})
        return draft.plan(None)


class _Newer:
    """What a newer version of Triggers writes: fields that this one does not know."""

    def __init__(self, schema: int = SCHEMA) -> None:
        self.schema = schema

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        draft = Draft((yield Query(instances=("t_x#0",))), rules)
        draft.header.schema = self.schema
        draft.header.extra = {"later": msgspec.Raw(b'{"header":[1,2]}')}
        draft.touch(draft.instance("t_x", 0)).instance.extra = {"later": msgspec.Raw(b'"instance"')}
        return draft.plan(None)


class _SameAgain:
    """A command that finds its work done."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        snapshot = yield Query(event_ids=("e",))
        return Plan(outcome=snapshot.known["e"].trigger)


class Commits(StoragePromises):
    """`before_commit`, required plugins, atomicity, versions."""

    # -- before_commit ----------------------------------------------------------------------------

    def test_a_plugin_adds_to_the_same_commit(self, session: SessionDriver) -> None:
        def finalize(session: Any, plan: Any) -> None:
            if session.count("t_x", "finished") and not session.has_fired("done"):
                plan.fire("done", {"by": "plugin"})

        session.rules = rules_with("finalize", finalize)
        session.configure(t_x={"after": ["go"]}, t_done={"after": ["done"]})
        session.fire("go")
        claimed = session.claim("t_x#0")
        version = session.header.version
        ended = session.finish(claimed)
        assert ended.scheduled == ["t_done#0"]
        assert session.header.version == version + 1
        event = session.events()[-1]
        assert (event.trigger, event.source, event.cause) == ("done", Source.PLUGIN, "finalize")
        assert session.kwargs("t_done#0") == {"done": {"by": "plugin"}}

    def test_additions_go_on_to_a_fixpoint(self, session: SessionDriver) -> None:
        def count_down(session: Any, plan: Any) -> None:
            for number in range(5, 0, -1):
                if session.has_fired(f"n{number}") and not session.has_fired(f"n{number - 1}"):
                    plan.fire(f"n{number - 1}")

        session.rules = rules_with("rocket", count_down)
        session.configure(t_start={"after": ["n0", "n3"]})
        assert session.fire("n5").scheduled == ["t_start#0"]
        assert session.fired() == ["n5", "n4", "n3", "n2", "n1", "n0"]
        assert session.header.version == 2

    def test_plugins_see_what_each_other_added(self, session: SessionDriver) -> None:
        def on(trigger: str, then: str) -> Any:
            def hook(session: Any, plan: Any) -> None:
                if session.has_fired(trigger) and not session.has_fired(then):
                    plan.fire(then)

            return hook

        hooks = (("one", on("b", "c")), ("two", on("a", "b")), ("three", on("c", "d")))
        session.rules = Rules(before_commit=hooks)
        session.fire("a")
        assert session.fired() == ["a", "b", "c", "d"]

    def test_plugins_see_every_kind_of_change(self, session: SessionDriver) -> None:
        seen: list[tuple[str, str | None, str]] = []

        def watch(of: Any, plan: Any) -> None:
            assert of.uid == session.uid
            seen.extend(
                (change.instance.name, change.before, change.instance.status)
                for change in plan.changes
            )

        session.rules = rules_with("watch", watch)
        session.fire("go")
        session.configure(t_x={"after": ["go"]}, t_y={"after": ["t_x"], "unless": ["stop"]})
        session.fail(session.claim("t_x#0"), retry=Retry())
        session.fail_by_hand("t_x#1")
        session.replay("t_x#1")
        session.fail_now("t_x#2")
        session.skip("t_x#2")
        session.fire("stop")
        assert seen == [
            ("t_x#0", None, "scheduled"),
            ("t_x#0", "running", "replayed"),
            ("t_x#1", None, "scheduled"),
            ("t_x#1", "scheduled", "failed"),
            ("t_x#1", "failed", "replayed"),
            ("t_x#2", None, "scheduled"),
            ("t_x#2", "running", "failed"),
            ("t_x#2", "failed", "skipped"),
            ("t_y#0", None, "abandoned"),
        ]

    def test_there_is_an_end_to_additions(self, session: SessionDriver) -> None:
        session.fire("before")
        session.rules = rules_with(
            "endless", lambda session, plan: plan.fire("again"), limits=Limits(additions=4)
        )
        before = session.image()
        with pytest.raises(HookFailed, match=r"endless.*4 rounds.*Limits\.additions"):
            session.fire("go")
        assert session.image() == before

    def test_an_error_of_a_hook_refuses_the_change(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.fail_now("t_x#0")
        before = session.image()
        session.rules = rules_with("grumpy", _raise)
        for change in (
            lambda: session.fire("more"),
            lambda: session.configure(t_y={"after": ["go"]}),
            lambda: session.replay("t_x#0"),
            lambda: session.skip("t_x#0", cascade=True),
        ):
            with pytest.raises(HookFailed, match=r"plugin grumpy.*no, thanks"):
                change()
            assert session.image() == before

    def test_what_a_hook_adds_must_be_storable(self, session: SessionDriver) -> None:
        session.fire("before")
        before = session.image()
        session.rules = rules_with("odd", lambda session, plan: plan.fire("x", {"a": {1, 2}}))
        with pytest.raises(HookFailed, match="odd") as caught:
            session.fire("go")
        assert isinstance(caught.value.__cause__, InvalidPayload)
        assert session.image() == before

    @pytest.mark.parametrize("outcome", ["finish", "fail", "skip_running"])
    def test_an_error_of_a_hook_never_undoes_what_a_body_did(
        self, session: SessionDriver, outcome: str
    ) -> None:
        def good(session: Any, plan: Any) -> None:
            if not session.has_fired("noticed"):
                plan.fire("noticed")

        session.configure(t_x={"after": ["go"]}, t_y={"after": ["t_x"]})
        session.fire("go")
        claimed = session.claim("t_x#0")
        hooks = (("grumpy", _raise), ("good", good))
        session.rules = Rules(before_commit=hooks)
        ended = getattr(session, outcome)(claimed)
        assert list(ended.dropped) == ["grumpy"]
        expected = {"finish": "finished", "fail": "failed", "skip_running": "skipped"}[outcome]
        assert session.status("t_x#0") == expected
        assert "no, thanks" in session.metadata("t_x#0")["plugins_left_out"]["grumpy"]
        assert "noticed" in session.fired(), "the other plugins' additions stay"
        assert ended.scheduled == (["t_y#0"] if outcome == "finish" else [])

    def test_a_hook_that_changes_a_session_through_a_manager_is_refused(self, store: Store) -> None:
        """At once, and nothing is stored: neither what it changed nor what was under way."""

        class Impatient:
            action = staticmethod(lambda manager: manager.fire("inner"))

            @hookimpl
            def before_commit(self, session: Any, plan: Any) -> None:
                self.action(TriggerManager(SessionStorage.on(store, self.uid), app))

            uid = "order:1"

        plugin = Impatient()
        app = Application(
            "nested",
            Settings.isolated(
                TRIGGER_STORAGE_TYPE="memory",
                TRIGGER_PLUGINS=[plugin],
                TRIGGER_RUNNER_OPTIONS={"sweep": False},
            ),
        )
        try:
            manager = TriggerManager(SessionStorage.on(store, "order:1"), app)
            for plugin.uid in ("order:1", "order:2"):
                for plugin.action in (
                    lambda inner: inner.fire("inner"),
                    lambda inner: inner.sibling("order:3").fire("inner"),
                    lambda inner: inner.delete_session(),
                    lambda inner: inner.recover(),
                ):
                    with pytest.raises(HookFailed, match=r"NestedCommit: .*plan\.fire"):
                        manager.fire("outer", event_id="e")
                    assert store.sessions() == []
            app.plugins.unregister(plugin)
            assert manager.fire("outer", event_id="e").status == "recorded"
            assert [event.trigger for event in store.events("order:1")] == ["outer"]
        finally:
            app.close()

    # -- plugins that a configuration requires ----------------------------------------------------

    def test_a_process_without_a_required_plugin_changes_nothing(
        self, session: SessionDriver, clock: VirtualClock
    ) -> None:
        session.rules = Rules(plugins=frozenset({"triggers-finalize", "other"}))
        session.configure(t_x={"andEvery": "go"}, requires=("triggers-finalize",))
        session.fire("go")
        session.fire("go")
        claimed = session.claim("t_x#0")
        generation = session.header.generation
        before = session.image()
        clock.advance(100)
        session.rules = Rules(plugins=frozenset({"other"}))
        for change in (
            lambda: session.fire("go"),
            lambda: session.configure(t_y={"after": ["go"]}),
            lambda: session.claim("t_x#1", 1, generation),
            lambda: session.heartbeat(claimed),
            lambda: session.finish(claimed),
            lambda: session.fail(claimed),
            lambda: session.recover("t_x#0"),
            lambda: session.fail_by_hand("t_x#0"),
        ):
            with pytest.raises(PluginMissing, match="triggers-finalize"):
                change()
            assert session.image() == before

    def test_requirements_add_up(self, session: SessionDriver) -> None:
        session.rules = Rules(plugins=frozenset({"a", "b", "c"}))
        session.configure(t_x={"after": ["go"]}, requires=("b",))
        session.configure(t_y={"after": ["go"]}, requires=("a",))
        session.configure(t_z={"after": ["go"]})
        assert session.header.requires == ("a", "b")

    def test_nothing_is_stored_that_requires_a_missing_plugin(self, session: SessionDriver) -> None:
        with pytest.raises(PluginMissing, match="nowhere"):
            session.configure(t_x={"after": ["go"]}, requires=("nowhere",))
        assert not session.exists

    # -- all or nothing ---------------------------------------------------------------------------

    def test_a_command_that_raises_writes_nothing(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go", "more"]})
        session.fire("go")
        before = session.image()
        with pytest.raises(ZeroDivisionError):
            session.commit(_Broken())
        assert session.image() == before
        assert session.fire("more").scheduled == ["t_x#0"], "and the store is as good as before"

    def test_a_plan_that_cannot_be_written_writes_nothing(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]}, t_y={"after": ["go"]})
        session.fire("go")
        before = session.image()
        with pytest.raises(Exception, match="object"):
            session.commit(Unwritable())
        assert session.image() == before
        session.run_all()

    def test_a_command_that_changes_nothing_writes_nothing(self, session: SessionDriver) -> None:
        session.fire("go", event_id="e")
        plan = session.store.commit(session.uid, _SameAgain(), session.rules)
        assert plan.empty
        assert plan.outcome == "go"
        assert session.header.version == 1

    def test_a_plan_comes_back_stamped(self, session: SessionDriver, clock: VirtualClock) -> None:
        session.configure(t_x={"after": ["go"]})
        clock.advance(3)
        recorded = session.fire("go")
        assert recorded.events[0].at == clock()
        assert session.events()[0].at == clock()
        assert session.header.updated_at == clock()
        assert session.header.created_at == clock() - 3
        assert session.instance("t_x#0").created_at == clock()

    def test_each_commit_is_one_version(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.run("t_x#0")
        session.fire("unheard")
        assert session.header.version == 5

    # -- other versions of Triggers ---------------------------------------------------------------

    def test_what_a_newer_version_added_survives(self, session: SessionDriver) -> None:
        session.configure(t_x={"after": ["go", "more"]})
        session.fire("go")
        session.commit(_Newer())
        session.fire("more")
        session.run("t_x#0")
        assert session.header.extra == {"later": msgspec.Raw(b'{"header":[1,2]}')}
        assert session.instance("t_x#0").extra == {"later": msgspec.Raw(b'"instance"')}

    def test_what_a_newer_version_added_survives_a_restart(
        self, session: SessionDriver, reopened: Reopen
    ) -> None:
        session.configure(t_x={"after": ["go", "more"]})
        session.fire("go")
        session.commit(_Newer())
        session.store = reopened(session.store)
        session.fire("more")
        assert session.header.extra == {"later": msgspec.Raw(b'{"header":[1,2]}')}
        assert session.instance("t_x#0").extra == {"later": msgspec.Raw(b'"instance"')}

    def test_an_unknown_schema_is_a_clear_error(self, store: Store, clock: VirtualClock) -> None:
        session, other = SessionDriver(store, "newer"), SessionDriver(store, "other")
        session.configure(t_x={"after": ["go"]})
        session.fire("go")
        session.commit(_Newer(schema=SCHEMA + 1))
        clock.advance(1_000)
        for touch in (
            lambda: session.header,
            lambda: session.fire("more"),
            lambda: session.configure(t_y={"after": ["go"]}),
            lambda: session.recover("t_x#0"),
        ):
            with pytest.raises(UnknownSchema, match=r"upgrade triggers-core"):
                touch()
        assert issubclass(UnknownSchema, TriggersError)
        assert other.fire("go").status == "recorded", "the other sessions do not mind"
        assert len(store.events("newer")) == 1
        assert store.delete("newer")


def _raise(session: Any, plan: Any) -> None:
    raise RuntimeError("no, thanks")
