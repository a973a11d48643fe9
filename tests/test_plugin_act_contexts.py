"""The hook `act_context`: what plugins put around acts by hand, which go on whatever those do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from applications import STORAGES, application
from awaited_memory import Awaited, Joinable
from fake_plugins import plugin

from triggers_core import TaskContext, trigger_task
from triggers_core.exceptions import WrongState
from triggers_core.plugins.fire_contexts import Act

CONFIGURATION = {
    "t": {"after": ["go"], "run": "act_contexts.body"},
    "u": {"after": ["t"], "run": "act_contexts.body"},
}
CARRIER = {"by": "ann"}

seen: list[Any] = []
carried: list[Any] = []


@trigger_task(name="act_contexts.body")
def body(context: TaskContext) -> None:
    record = context.instance.record
    carried.append((record.name, record.carrier))
    if record.name == "t#0":
        raise ValueError("once")


@contextmanager
def around(act: Act) -> Iterator[None]:
    act.carrier.update(CARRIER)
    try:
        yield
    except Exception as error:
        seen.append((act.name, act.instance, type(error).__name__))
        raise
    seen.append((act.name, act.instance, getattr(act.result, "name", act.result)))


AROUND = plugin("around", act_context=around)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()
    carried.clear()


@pytest.mark.parametrize("storage", STORAGES)
def test_every_method_that_changes_something(storage: str, tmp_path: Any) -> None:
    with application(storage, tmp_path, TRIGGER_PLUGINS=[AROUND]) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        manager.update_configuration(CONFIGURATION, dry_run=True)
        manager.fire("go")
        assert manager.join(120)
        manager.update_instance_metadata("t#0", {"n": 1})
        manager.mark_instance_logs_resolved("t#0")
        assert manager.replay_failed_instance("t#0").name == "t#1"
        with pytest.raises(WrongState):
            manager.skip_failed_instance(manager.storage["t#0"])
        with pytest.raises(WrongState):
            manager.fail_instance("t#0", "late")
        assert manager.join(120)
        manager.close_session()
        names = [(name, instance) for name, instance, _ in seen]
        assert names == [
            ("update_configuration", None),
            ("update_instance_metadata", "t#0"),
            ("mark_instance_logs_resolved", "t#0"),
            ("replay_failed_instance", "t#0"),
            ("skip_failed_instance", "t#0"),
            ("fail_instance", "t#0"),
            ("close_session", None),
        ]
        results = [result for _, _, result in seen]
        assert results[1:] == ["t#0", "t#0", "t#1", "WrongState", "WrongState", None]
        assert carried == [("t#0", None), ("t#1", CARRIER), ("u#0", None)]
        assert {each.carrier is None for each in manager.storage.events} == {True}


@pytest.mark.parametrize("storage", STORAGES)
def test_what_a_skip_fires_carries_it(storage: str, tmp_path: Any) -> None:
    with application(storage, tmp_path, TRIGGER_PLUGINS=[AROUND]) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        manager.fire("go")
        assert manager.join(120)
        manager.skip_failed_instance("t#0", cascade=True)
        assert [each.carrier for each in manager.storage.events] == [None, CARRIER]


def test_on_a_connection_of_the_event_loop(tmp_path: Any) -> None:
    with application("memory", tmp_path, TRIGGER_PLUGINS=[AROUND]) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        manager.fire("go")
        assert manager.join(120)
        seen.clear()
        joined = app.replace(store=Joinable()).manager("s").using(Awaited())

        async def act() -> None:
            await joined.aupdate_configuration(CONFIGURATION)
            with pytest.raises(Exception, match="t#0"):
                await joined.areplay_failed_instance("t#0")

        asyncio.run(act())
        assert [name for name, _, _ in seen] == ["update_configuration", "replay_failed_instance"]


@pytest.mark.parametrize(
    ("answer", "carrier", "told"),
    [
        (None, {"a": 1}, "replay_failed_instance goes on without it"),
        ("a text", {}, "its act_context answered a str, which is left out"),
    ],
)
def test_what_cannot_be_used_is_logged(
    answer: Any, carrier: Any, told: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def act_context(act: Act) -> Any:
        act.carrier.update(carrier)
        return answer

    with application("memory", tmp_path, TRIGGER_PLUGINS=[plugin(act_context=act_context)]) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        manager.fire("go")
        assert manager.join(120)
        caplog.clear()
        manager.replay_failed_instance("t#0")
        assert manager.join(120)
        assert told in caplog.text
        assert ("t#1", None) in carried


def test_an_error_stops_nothing(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    def act_context() -> Any:
        raise RuntimeError("broken")

    with application("memory", tmp_path, TRIGGER_PLUGINS=[plugin(act_context=act_context)]) as app:
        assert app.manager("s").update_configuration(CONFIGURATION).changed
    told = "its act_context failed before update_configuration, which goes on without it"
    assert told in caplog.text
