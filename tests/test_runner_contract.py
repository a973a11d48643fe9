"""The runner of the core, against the contract of all runners, on both storages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from triggers_core.application import Application
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.settings import Settings
from triggers_core.testing import RunnerContract, bodies
from triggers_core.testing.bodies import Gate
from triggers_core.testing.manager_helpers import configure, ran, statuses


def _application(**settings: Any) -> Application:
    options = {"max_workers": 2}
    return Application(
        "test",
        Settings.isolated(TRIGGER_PLUGINS=[], TRIGGER_RUNNER_OPTIONS=options, **settings),
    )


class TestThreading(RunnerContract):
    bound = 2
    lacks: ClassVar = {"durable": "sessions are in memory"}

    @pytest.fixture
    def app(self) -> Iterator[Application]:
        app = _application(TRIGGER_STORAGE_TYPE="memory")
        yield app
        app.close()


class TestThreadingOnSqlite(RunnerContract):
    bound = 2

    @pytest.fixture
    def app(self, fast_dir: Path) -> Iterator[Application]:
        app = _application(TRIGGER_STORAGE_OPTIONS={"path": str(fast_dir / "triggers.db")})
        yield app
        app.close()


@pytest.fixture
def app() -> Iterator[Application]:
    app = _application(TRIGGER_STORAGE_TYPE="memory")
    yield app
    app.close()


def test_a_worker_that_lost_its_lease_hears_of_it(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    manager, runner = app.manager("order:1"), app.runner()
    assert isinstance(runner, ThreadingTaskRunner)
    configure(manager, t_a=(bodies.Gated, {"after": ["go"]}))
    gate = Gate("lost lease")
    manager.fire("go", {"gate": "lost lease"})
    gate.wait_for(1)
    manager.fail_instance("t_a#0", "it takes too long")
    with caplog.at_level(logging.WARNING, "triggers_core"):
        runner.heartbeats.beat()
        gate.open()
        assert runner.join_all(60)
    assert [record.message for record in caplog.records] == [
        "order:1 t_a#0: lost its lease while running",
        "order:1: this attempt no longer holds t_a#0, which is failed, attempt 1; its outcome is"
        " dropped",
    ]
    assert gate.leases_lost == [True]
    assert statuses(manager) == {"t_a#0": "failed"}
    assert manager.storage["t_a#0"].metadata["error"]["message"] == "it takes too long"


def test_two_applications_with_one_message(app: Application) -> None:
    other = app.replace()
    manager = app.manager("order:1")
    configure(manager, t_a=(bodies.Echo, {"andEvery": "go"}))
    for _ in range(20):
        manager.fire("go")
        other.manager("order:1").fire("go")
    header = manager.storage.header
    assert header is not None
    for each in (app, other):
        again = [manager.storage[f"t_a#{number}"].record for number in range(40)]
        each.manager("order:1").dispatch(header.generation, again, manager.storage.tasks)
    assert app.runner().join_all(60)
    assert other.runner().join_all(60)
    assert ran(manager) == {f"t_a#{number}": 1 for number in range(40)}
    other.close()
