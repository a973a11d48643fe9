"""An application whose time passes when told to, and whose bodies run when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from triggers_core import Application
from triggers_core.engine.records import Status
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock
from triggers_retry.plugin import RetryPlugin


class Bench:
    """One session, its application and its clock."""

    def __init__(self, app: Application) -> None:
        self.app, self.clock = app, VirtualClock()
        app.store.clock = self.clock
        self.runner = ManualRunner(app)
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
