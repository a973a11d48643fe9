"""Small methods of storages and instances, and the documented overrides of a manager."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import STORAGES, application

from triggers_core import Application, TaskContext, TriggerManager, trigger_task
from triggers_core.exceptions import InstanceNotFound
from triggers_core.runners.base import TaskRunner
from triggers_core.storages.session import SessionStorage, TaskInstance


@trigger_task(name="tests.old_names.fails")
def fails(context: TaskContext) -> None:
    context.log_level = logging.ERROR
    raise ValueError("as told")


TASKS = {
    "t_x": {"after": ["go"], "run": fails.name},
    "t_y": {"after": ["never"], "run": fails.name},
}


@pytest.fixture(params=STORAGES)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    with application(request.param, tmp_path) as app:
        yield app


def storage_with_a_failure(manager: TriggerManager) -> SessionStorage:
    manager.update_configuration(TASKS)
    manager.fire("go")
    assert manager.join(120)
    return manager.storage


def test_what_a_storage_holds(app: Application) -> None:
    storage = storage_with_a_failure(app.manager("order:1"))
    for wrong in ("t_x", "t_x#01", "t_x#7", "", "#0", None, 5):
        assert wrong not in storage
        with pytest.raises(InstanceNotFound):
            storage[wrong]  # type: ignore[index]
        with pytest.raises(KeyError):
            storage[wrong]  # type: ignore[index]
    assert "t_x#0" in storage
    assert [each.name for each in storage.instances_of_task("t_x")] == ["t_x#0"]
    assert [each.name for each in storage.instances_of_task(storage.tasks["t_x"])] == ["t_x#0"]
    assert storage.instances_of_task("t_y") == storage.instances_of_task("other") == []
    assert list(storage) == list(storage.instances) == ["t_x#0"]


def test_what_an_instance_says(app: Application) -> None:
    manager = app.manager("order:1")
    failed = storage_with_a_failure(manager)["t_x#0"]
    assert (failed.is_resolved, failed.log_level_name) == (False, "ERROR")
    assert manager.skip_failed_instance(failed).is_resolved


@pytest.mark.parametrize("error", [False, True])
def test_overrides_with_one_parameter(
    app: Application, error: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []

    class Old(TriggerManager):
        def _post_replay(self, task_instance: TaskInstance) -> None:  # type: ignore[override]
            told.append(("replay", task_instance.name))
            if error:
                raise RuntimeError("in _post_replay")

        def _post_skip(self, task_instance: TaskInstance, *rest: Any) -> None:
            told.append((f"skip {rest}", task_instance.name))
            if error:
                raise RuntimeError("in _post_skip")

    manager = Old(app.storage("order:1"), app)
    storage_with_a_failure(manager)
    assert manager.replay_failed_instance("t_x#0").name == "t_x#1"
    assert manager.join(120)
    assert manager.skip_failed_instance("t_x#1", True).status == "skipped"
    assert told == [("replay", "t_x#0"), ("skip (True,)", "t_x#1")]
    assert ("Old._post_replay failed; what it was told about has happened" in caplog.text) is error
    assert ("Old._post_skip failed; what it was told about has happened" in caplog.text) is error


def test_the_runner_of_a_manager_class(app: Application) -> None:
    class ByHand(TriggerManager):
        default_task_runner_name = "by hand"

    dispatched: list[str] = []

    class Notes(TaskRunner):
        def dispatch(self, manager: Any, message: Any, task: Any) -> None:
            dispatched.append(message.instance)

    app.use_runner(Notes(app), "by hand")
    manager = ByHand(app.storage("order:1"), app)
    manager.update_configuration(TASKS)
    manager.fire("go")
    assert dispatched == ["t_x#0"]
