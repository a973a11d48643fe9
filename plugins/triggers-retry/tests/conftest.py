"""An application whose time passes when told to, and whose bodies run when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application, TriggerManager
from triggers_core.engine.configuration import Task
from triggers_core.engine.records import Status
from triggers_core.runners import TaskRunner
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.messages import Message
from triggers_core.running.worker import run_message
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock
from triggers_retry.plugin import RetryPlugin


class CalledRunner(TaskRunner):
    """Makes attempts when it is called, in this thread; never sweeps by itself."""

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.queue: deque[tuple[TriggerManager, Message]] = deque()
        self.heartbeats = Heartbeats(app.rules.timing.heartbeat)

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self.queue.append((manager, message))

    def work(self) -> int:
        """Make every attempt that is asked for; returns how many."""
        made = 0
        while self.queue:
            run_message(*self.queue.popleft(), self.heartbeats)
            made += 1
        return made

    def shutdown(self) -> None:
        self.heartbeats.stop()


class Bench:
    """One session, its application and its clock."""

    def __init__(self, app: Application) -> None:
        self.app, self.clock = app, VirtualClock()
        app.store.clock = self.clock
        self.runner = CalledRunner(app)
        app.use_runner(self.runner)
        self.manager = app.manager("s")

    def start(self, run: str, retry: object = None, **directives: Any) -> None:
        """Configure the task `t` and let its first attempt happen."""
        task = {"after": ["go"], "run": run, **directives}
        if retry is not None:
            task["retry"] = retry
        self.manager.update_configuration({"t": task})
        self.manager.fire("go", {"page": 1})
        self.runner.work()

    def held(self) -> Any:
        """The instance that waits for its retry; None when none does."""
        waiting = [
            each
            for each in self.manager.storage.instances.values()
            if each.status == Status.UNSTARTED and each.not_before is not None
        ]
        assert len(waiting) <= 1
        return waiting[0] if waiting else None

    def wait(self) -> float | None:
        """Let the current wait pass and the sweep do its work; returns how long it took.

        Also checks that the retry does not come a moment earlier.
        """
        held = self.held()
        if held is None:
            return None
        wait = held.not_before - self.clock.now
        self.clock.advance(wait * 0.999)
        self.app.recover()
        assert self.runner.work() == 0, "too early"
        self.clock.advance(held.not_before - self.clock.now)
        self.app.recover()
        assert self.runner.work() >= 1, "too late"
        return wait

    def waits(self, at_most: int = 20) -> list[float]:
        """Go through all waits that there are."""
        found = []
        while (wait := self.wait()) is not None:
            found.append(wait)
            assert len(found) <= at_most, "there is no end to it"
        return found


Make = Callable[..., Bench]


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes a bench; takes the plugin's options, and the plugin itself as `plugin`."""
    apps = []

    def make(plugin: RetryPlugin | None = None, **options: Any) -> Bench:
        path = {"path": str(tmp_path / f"{len(apps)}.db"), "synchronous": "NORMAL"}
        settings = Settings.isolated(
            TRIGGER_STORAGE_TYPE=request.param,
            TRIGGER_STORAGE_OPTIONS=path if request.param == "sqlite" else {},
            TRIGGER_PLUGINS=[plugin or RetryPlugin()],
            TRIGGER_PLUGIN_OPTIONS={"retry": options},
        )
        apps.append(Application("retry", settings))
        return Bench(apps[-1])

    yield make
    for app in apps:
        app.close()
