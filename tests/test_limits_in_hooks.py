"""Time limits that strike while a body's fire is in a hook: they are the body's, and reach it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from applications import application
from fake_plugins import plugin
from limit_alarms import LimitAlarms

from triggers_core import TaskContext, trigger_task
from triggers_core.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from triggers_core.manager import TriggerManager
from triggers_core.runners.base import TaskRunner

CONFIGURATION = {
    "t": {"after": ["go"], "run": "limits_in_hooks.body"},
    "u": {"after": ["other"], "run": "limits_in_hooks.other"},
}
CelerysOwn = type("SoftTimeLimitExceeded", (Exception,), {})

seen: list[str] = []


@trigger_task(name="limits_in_hooks.body", soft_time_limit=0.1)
def body(context: TaskContext) -> None:
    try:
        context.manager.fire("other")
    except SoftTimeLimitExceeded:
        seen.append("struck")


@trigger_task(name="limits_in_hooks.other")
def other(context: TaskContext) -> None:
    seen.append("other")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def hooks(strike: Any) -> dict[str, Any]:
    """Hook → a plugin whose hook is where it strikes, when `other` is fired."""

    def before(firing: Any) -> Any:
        if firing.trigger == "other":
            strike()

    @contextmanager
    def after(firing: Any) -> Iterator[None]:
        yield
        before(firing)

    def post_fire(event: Any) -> None:
        if event.trigger == "other":
            strike()

    def post_commit(changes: Any) -> None:
        for event in changes.events:
            post_fire(event)

    return {
        "before": plugin("p", fire_context=before),
        "after": plugin("p", fire_context=after),
        "post_fire": plugin("p", post_fire=post_fire),
        "post_commit": plugin("p", post_commit=post_commit),
    }


@pytest.mark.parametrize("where", hooks(None))
def test_a_soft_limit_reaches_the_body(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms = LimitAlarms(monkeypatch)

    def strike() -> None:
        alarms.ring()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass

    plugins = [hooks(strike)[where]]
    with application("memory", tmp_path, TRIGGER_PLUGINS=plugins) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        manager.fire("go")
        assert manager.join(60)
        events = [each.trigger for each in manager.storage.events]
    if where == "before":
        assert seen == ["struck"]
        assert events == ["go", "t"], "nothing was stored"
    else:
        assert sorted(seen) == ["other", "struck"], "what was stored is dispatched"
        assert "other" in events


@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, TimeLimitExceeded, CelerysOwn])
@pytest.mark.parametrize("where", hooks(None))
def test_so_does_the_limit_of_whoever_fires(where: str, kind: Any, tmp_path: Path) -> None:
    def strike() -> None:
        raise kind

    told: list[str] = []
    plugins = [
        hooks(strike)[where],
        plugin("q", post_fire=lambda event: told.append(event.trigger)),
    ]
    with application("memory", tmp_path, TRIGGER_PLUGINS=plugins) as app:
        manager = app.manager("s")
        manager.update_configuration(CONFIGURATION)
        with pytest.raises(kind):
            manager.fire("other")
        assert manager.join(60)
    assert seen == ([] if where == "before" else ["other"])
    if where in ("after", "post_fire"):
        assert told == ["other", "u"], "other plugins know"


def test_and_the_one_that_strikes_in_a_dispatch(tmp_path: Path) -> None:
    class Slow(TaskRunner):
        def dispatch(self, manager: TriggerManager, message: Any, task: Any) -> None:
            raise CelerysOwn

    with application("memory", tmp_path) as app:
        manager = app.replace(runner=Slow).manager("s")
        manager.update_configuration(CONFIGURATION)
        with pytest.raises(CelerysOwn):
            manager.fire("other")


def test_and_in_the_method_of_a_subclass(tmp_path: Path) -> None:
    class Own(TriggerManager):
        def _post_fire(self, trigger_name: str, tasks_scheduled: Any) -> None:
            raise CelerysOwn

    with application("memory", tmp_path) as app, pytest.raises(CelerysOwn):
        Own(app.storage("s"), app).fire("other")
