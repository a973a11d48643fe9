"""The hook `fire_context`: what plugins put around fires, which go on whatever those do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application
from awaited_memory import Awaited, Joinable
from fake_plugins import plugin

from triggers_core import Application
from triggers_core.exceptions import EventIdConflict, FireVetoed, InvalidPayload
from triggers_core.plugins.fire_contexts import Firing

seen: list[Any] = []
inside: ContextVar[str] = ContextVar("inside", default="")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def around(name: str, entering: Any = None, leaving: Any = None) -> Any:
    @contextmanager
    def fire_context(firing: Firing) -> Iterator[None]:
        seen.append(f"{name} enters")
        firing.carrier[name] = "was here"
        if entering is not None:
            raise entering
        token = inside.set(name)
        try:
            yield
        except Exception as error:
            seen.append(f"{name} sees {type(error).__name__}")
            raise
        else:
            assert firing.result is not None
            seen.append(f"{name} leaves: {firing.result.status} {firing.result.event_id}")
        finally:
            inside.reset(token)
        if leaving is not None:
            raise leaving

    return plugin(name, fire_context=fire_context)


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def app_with(storage: str, folder: Path, *plugins: object) -> Iterator[Application]:
    with application(storage, folder, TRIGGER_PLUGINS=list(plugins)) as app:
        yield app


def test_the_first_plugin_is_the_outermost(storage: str, tmp_path: Path) -> None:
    nothing = plugin("nothing", fire_context=lambda: None)
    with app_with(storage, tmp_path, around("a"), nothing, around("b")) as app:
        result = app.manager("s").fire("go", {"n": 1}, event_id="e1")
        assert result.status == "recorded"
        (event,) = app.manager("s").storage.events
    assert event.carrier == {"a": "was here", "b": "was here"}
    assert seen == ["a enters", "b enters", "b leaves: recorded e1", "a leaves: recorded e1"]


def test_a_duplicate_says_so_and_its_carrier_is_dropped(storage: str, tmp_path: Path) -> None:
    with app_with(storage, tmp_path, around("a")) as app:
        manager = app.manager("s")
        manager.fire("go", event_id="e1")
        app.plugins.register(around("b"))
        assert manager.fire("go", event_id="e1").status == "duplicate"
        assert [each.carrier for each in manager.storage.events] == [{"a": "was here"}]
    assert seen[-2:] == ["b leaves: duplicate e1", "a leaves: duplicate e1"]


def test_pre_fire_is_within(tmp_path: Path) -> None:
    def pre_fire(event: Any) -> None:
        assert inside.get() == "a"
        raise FireVetoed("no")

    with app_with("memory", tmp_path, plugin("vetoes", pre_fire=pre_fire), around("a")) as app:
        with pytest.raises(FireVetoed):
            app.manager("s").fire("go")
        assert app.manager("s").storage.header is None
    assert seen == ["a enters", "a sees FireVetoed"]


def test_what_fire_raises_is_seen_and_passes(tmp_path: Path) -> None:
    with app_with("memory", tmp_path, around("a")) as app:
        manager = app.manager("s")
        with pytest.raises(InvalidPayload):
            manager.fire("go", {"x": object()})
        manager.fire("go", {"n": 1}, event_id="e1")
        with pytest.raises(EventIdConflict):
            manager.fire("go", {"n": 2}, event_id="e1")
    assert seen[1::2] == [
        "a sees InvalidPayload",
        "a leaves: recorded e1",
        "a sees EventIdConflict",
    ]


class Panic(BaseException):
    """As pyo3's, gevent's and trio's."""


@pytest.mark.parametrize("error", [OSError("away"), Panic("away")])
def test_errors_are_logged_and_the_fire_goes_on(
    error: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = around("in", entering=error), around("out", leaving=error), around("ok")
    with app_with("memory", tmp_path, *plugins) as app:
        assert app.manager("s").fire("go", event_id="e").number == 0
    told = [each.getMessage() for each in caplog.records]
    assert "plugin 'in': its fire_context failed before a fire of 'go'" in told[0]
    assert "plugin 'out': its fire_context failed after a fire of 'go'" in told[1]
    assert len(told) == 2
    assert seen == [
        *("in enters", "out enters", "ok enters"),
        *("ok leaves: recorded e", "out leaves: recorded e"),
    ]


def test_what_interrupts_the_program_passes(tmp_path: Path) -> None:
    with app_with(
        "memory", tmp_path, around("a"), around("b", entering=KeyboardInterrupt())
    ) as app:
        with pytest.raises(KeyboardInterrupt):
            app.manager("s").fire("go")
        app.plugins.unregister("b")
        app.plugins.register(around("c", leaving=KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            app.manager("s").fire("go")
        assert len(app.manager("s").storage.events) == 1, "it had been stored"
    assert seen[-1] == "a leaves: recorded " + seen[-2].split()[-1], "all of them are left"


@pytest.mark.parametrize(
    ("answer", "carrier", "message"),
    [
        ("a text", {}, "its fire_context answered a str, which is left out"),
        (None, {"a": 1}, "a fire of 'go' goes on without it"),
        (None, {"a": "x" * 2_000}, "carrier: 2,001 characters, the limit is 1,024"),
    ],
)
def test_wrong_answers(
    answer: Any, carrier: Any, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fire_context(firing: Firing) -> Any:
        firing.carrier.update(carrier)
        return answer

    with app_with("memory", tmp_path, plugin(fire_context=fire_context)) as app:
        app.manager("s").fire("go")
        (event,) = app.manager("s").storage.events
    assert event.carrier is None
    assert message in caplog.text


def test_nobody_is_asked_without_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with app_with("memory", tmp_path) as app:
        monkeypatch.setattr("triggers_core.manager.Firing", None)
        assert app.manager("s").fire("go").status == "recorded"
        (event,) = app.manager("s").storage.events
    assert event.carrier is None


def test_fires_of_bodies_and_cascades_have_none(tmp_path: Path) -> None:
    from triggers_core import TaskContext, trigger_task

    @trigger_task(name="fire_contexts.body")
    def body(context: TaskContext) -> None:
        context.fire("inner")

    with app_with("memory", tmp_path, around("a")) as app:
        manager = app.manager("s")
        manager.update_configuration({"t": {"after": ["go"], "run": "fire_contexts.body"}})
        manager.fire("go")
        assert manager.join(120)
        carriers = {each.trigger: each.carrier for each in manager.storage.events}
    assert carriers == {"go": {"a": "was here"}, "inner": None, "t": None}
    assert seen.count("a enters") == 1


# -- in coroutines --------------------------------------------------------------------------------


def test_an_awaited_fire_in_a_thread(storage: str, tmp_path: Path) -> None:
    with app_with(storage, tmp_path, around("a")) as app:
        result = asyncio.run(app.manager("s").afire("go", event_id="e"))
        assert result.status == "recorded"
        (event,) = app.manager("s").storage.events
    assert event.carrier == {"a": "was here"}
    assert seen == ["a enters", "a leaves: recorded e"]


def test_an_awaited_fire_in_the_loop(tmp_path: Path) -> None:
    joined = Awaited()
    with application("memory", tmp_path, TRIGGER_PLUGINS=[around("a")]) as app:
        outside = Application("outside", app.settings, store=Joinable())

        async def fire() -> Any:
            manager = outside.manager("s").using(joined)
            one, two = await asyncio.gather(
                manager.afire("go", event_id="e1"), manager.afire("stop", event_id="e2")
            )
            return one, two

        try:
            one, two = asyncio.run(fire())
            events = joined.inner.events("s")
        finally:
            outside.close()
    assert {one.status, two.status} == {"recorded"}
    assert [each.carrier for each in events] == [{"a": "was here"}] * 2
    assert sorted(seen) == [
        *("a enters", "a enters", "a leaves: recorded e1", "a leaves: recorded e2")
    ]
