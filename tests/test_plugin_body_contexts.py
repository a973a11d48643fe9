"""The hook `body_context`: what plugins put around bodies, on whatever way those end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from fake_plugins import plugin
from limit_alarms import LimitAlarms

from triggers_core import Application, TaskContext, TriggerTask
from triggers_core.engine.attempts import Retry
from triggers_core.exceptions import BodyInterrupted
from triggers_core.runners.manual import ManualRunner
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.messages import Message
from triggers_core.running.worker import run_message
from triggers_core.settings import Settings
from triggers_core.storages.session import TaskInstance

told: ContextVar[str] = ContextVar("told", default="nothing")
body: Callable[[TriggerTask, TaskContext], Any] = print


class Body(TriggerTask):
    name = "around.body"

    def _run(self, context: TaskContext) -> Any:
        return body(self, context)


class Panic(BaseException):
    """As pyo3's, gevent's and trio's."""


Run = Callable[..., TaskInstance]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a body once in this thread; returns its instance."""
    apps = []

    def run(does: Callable[..., Any], *plugins: object, **settings: Any) -> TaskInstance:
        global body
        body = does
        app = Application(
            "around",
            Settings.isolated(
                TRIGGER_STORAGE_TYPE="memory",
                TRIGGER_PLUGINS=list(plugins),
                TRIGGER_RUNNER_OPTIONS={"sweep": False},
                **settings,
            ),
        )
        app.use_runner(ManualRunner(app))
        apps.append(app)
        manager = app.manager("s")
        manager.update_configuration({"t": {"after": ["go"], "run": "around.body"}})
        manager.fire("go")
        header = manager.storage.header
        assert header is not None
        heartbeats = Heartbeats(3_600)
        try:
            run_message(manager, Message("around", "s", header.generation, "t#0", 1), heartbeats)
        finally:
            heartbeats.stop()
        return manager.storage["t#0"]

    yield run
    for app in apps:
        app.close()


def around(name: str, seen: list[str], entering: Any = None, leaving: Any = None) -> object:
    """A plugin that notes what it sees, and raises what it is told to."""

    class Around(AbstractContextManager[None]):
        def __enter__(self) -> None:
            seen.append(f"{name} enters")
            if entering is not None:
                raise entering

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
            seen.append(f"{name} leaves: {error!r}")
            if leaving is not None:
                raise leaving
            return True  # which does not count

    return plugin(name, body_context=lambda context: Around())


def test_the_first_plugin_is_the_outermost(run: Run) -> None:
    seen: list[str] = []
    nothing = plugin("nothing", body_context=lambda: None)
    instance = run(lambda *_: seen.append("body"), around("a", seen), nothing, around("b", seen))
    assert instance.status == "finished"
    assert seen == ["a enters", "b enters", "body", "b leaves: None", "a leaves: None"]


def test_they_get_the_attempt_and_its_thread(run: Run) -> None:
    seen: list[Any] = []

    @contextmanager
    def own(context: TaskContext) -> Iterator[None]:
        seen.append((context.instance.name, context.task_class, threading.get_ident()))
        token = told.set("a span")
        yield
        told.reset(token)

    async def later() -> None:
        seen.append(told.get())

    instance = run(lambda *_: later(), plugin("own", body_context=own))
    assert instance.status == "finished"
    assert seen == [("t#0", Body, threading.get_ident()), "a span"]
    assert told.get() == "nothing"


@pytest.mark.parametrize("error", [ValueError("no"), Panic("no"), SystemExit(3)])
def test_what_a_body_raises_is_told_and_not_swallowed(run: Run, error: BaseException) -> None:
    seen: list[str] = []

    def fails(*_: Any) -> None:
        raise error

    instance = run(fails, around("a", seen), around("b", seen))
    assert instance.status == "failed"
    assert type(error).__name__ in instance.metadata["error"]["type"]
    assert seen[2:] == [f"b leaves: {error!r}", f"a leaves: {error!r}"]


def test_a_skip_stays_a_skip(run: Run) -> None:
    def skips(task: TriggerTask, context: TaskContext) -> None:
        raise task.skip({"why": "not today"})

    seen: list[str] = []
    assert run(skips, around("a", seen)).status == "skipped"
    assert "SkipRequested" in seen[-1]


@pytest.mark.parametrize("error", [ValueError("no pool"), Panic("no pool"), SystemExit(3)])
def test_an_error_on_the_way_in_fails_the_attempt(run: Run, error: BaseException) -> None:
    seen: list[str] = []
    instance = run(
        lambda *_: seen.append("body"),
        around("a", seen),
        around("b", seen, entering=error),
        around("c", seen),
    )
    assert instance.status == "failed"
    assert "no pool" in str(instance.metadata) or "SystemExit" in str(instance.metadata)
    assert error.__notes__ == ["raised by body_context of the plugin 'b'"]
    assert seen == ["a enters", "b enters", f"a leaves: {error!r}"]


def test_an_error_on_the_way_in_can_be_retried(run: Run) -> None:
    asked: list[BaseException] = []

    def again(context: TaskContext, error: BaseException) -> Retry:
        asked.append(error)
        return Retry()

    error = ConnectionError("no pool")
    instance = run(print, around("a", [], entering=error), plugin("retry", task_failed=again))
    assert instance.status == "replayed"
    assert asked == [error]


def test_what_cannot_be_entered_fails_the_attempt(run: Run) -> None:
    seen: list[str] = []
    wrong = plugin("wrong", body_context=lambda: "a text")
    instance = run(lambda *_: seen.append("body"), around("a", seen), wrong)
    assert instance.status == "failed"
    message = instance.metadata["error"]["message"]
    assert "plugin 'wrong': its body_context answered a str" in message
    assert seen[0] == "a enters"
    assert "PluginError" in seen[1]
    assert len(seen) == 2


@pytest.mark.parametrize("error", [ValueError("lost"), Panic("lost")])
def test_an_error_on_the_way_out_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    seen: list[str] = []
    instance = run(lambda *_: {"n": 1}, around("a", seen), around("b", seen, leaving=error))
    assert instance.status == "finished"
    assert seen[-1] == "a leaves: None", "the others are left all the same"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "plugin 'b': its body_context failed after the body of t#0" in record.getMessage()


def test_an_error_on_the_way_out_does_not_hide_the_bodys(run: Run) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("the body's")

    @contextmanager
    def translates(context: TaskContext) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise RuntimeError("the plugin's") from error

    instance = run(fails, plugin("translates", body_context=translates))
    assert instance.status == "failed"
    assert instance.metadata["error"]["message"] == "the body's"


def test_whoever_ends_the_process_is_not_held_up(run: Run) -> None:
    seen: list[str] = []
    with pytest.raises(BodyInterrupted):
        run(lambda *_: None, around("a", seen), around("b", seen, leaving=BodyInterrupted()))
    assert seen[-1] == "a leaves: None"


def test_without_the_hook_nothing_is_prepared(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggers_core.plugins.hook_calls.BodyContexts", None)
    assert run(lambda *_: None).status == "finished"


def test_a_time_limit_covers_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    waiting, alarms = threading.Event(), LimitAlarms(monkeypatch)

    @contextmanager
    def hangs() -> Iterator[None]:
        seen.append("enters")
        alarms.ring()
        while not waiting.wait(0.01):  # where its Python code is, the limit reaches it
            pass
        yield

    instance = run(
        lambda *_: seen.append("body"),
        around("a", seen),
        plugin("hangs", body_context=hangs),
        TRIGGER_TIMING={"time_limit": 0.2},
    )
    assert instance.status == "failed"
    assert "time_limit" in instance.metadata["error"]["message"]
    assert "body" not in seen
    assert seen[-1].startswith("a leaves: TimeLimitExceeded")
