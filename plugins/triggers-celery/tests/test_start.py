"""What a worker says and checks when it starts, and what it finds in the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery_fleet import Fleet, statuses, until


def test_it_says_where_its_sessions_are_and_with_what_it_works(fleet: Fleet) -> None:
    with fleet.worker("-P", "solo") as worker:
        (line,) = [each for each in worker.said().splitlines() if "sessions in" in each]
    assert "INFO" in line
    assert "application 'default'" in line
    assert "w0@tests" in line
    assert fleet.application.store.place in line
    assert "runner celery" in line
    assert "manager default (triggers_core.manager.TriggerManager)" in line
    assert "plugins: none" in line


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("TRIGGER_MANAGER_TYPE", "finalizing", "no manager 'finalizing'"),
        ("TRIGGER_STORAGE_TYPE", "floppy", "no storage 'floppy'"),
        ("TRIGGER_RUNNER", "treadmill", "no runner 'treadmill'"),
        ("TRIGGER_RUNNER_OPTIONS", '{"publish_timeot": 1}', "publish_timeout"),
        ("TRIGGER_STORAGE_OPTIONS", '{"pathh": "t.db"}', "pathh"),
        ("TRIGGER_CONFIGURATION", '{"t_x": {"afte": ["go"]}}', "did you mean 'after'"),
        ("TRIGGER_IMPORTS", '["nowhere_to_be_found"]', "nowhere_to_be_found"),
    ],
)
def test_what_would_end_each_message_in_an_error_ends_the_worker(
    fleet: Fleet, setting: str, value: str, problem: str
) -> None:
    with fleet.worker("-P", "solo", ready=False, **{setting: value}) as worker:
        assert worker.process.wait(60) != 0
        assert problem in worker.said()


def test_a_storage_that_is_away_keeps_no_worker_from_starting(fleet: Fleet) -> None:
    with fleet.worker(
        *("-P", "solo"),
        TRIGGER_STORAGE_TYPE="redis",
        TRIGGER_STORAGE_OPTIONS='{"url": "redis://127.0.0.1:1/0"}',
    ) as worker:
        said = worker.said()
    (line,) = [each for each in said.splitlines() if "cannot be reached at the moment" in each]
    assert "WARNING" in line


def test_a_worker_with_another_runner_is_told_of_it(fleet: Fleet) -> None:
    with fleet.worker("-P", "solo", TRIGGER_RUNNER="threading") as worker:
        assert "TRIGGER_RUNNER is 'threading' in this worker" in worker.said()


def test_a_worker_on_another_storage_says_which(fleet: Fleet, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    manager = fleet.manager("elsewhere", {"t_x": {"after": ["go"], "run": "test.record"}})
    manager.fire("go")
    with fleet.worker("-P", "solo", TRIGGER_STORAGE_OPTIONS=f'{{"path": "{other}"}}') as worker:
        until(lambda: "'stale'" in worker.said())
        lines = worker.said().splitlines()
    (line,) = [each for each in lines if "no such session" in each]
    assert "WARNING" in line
    assert "'elsewhere'" in line
    assert "TRIGGER_STORAGE_OPTIONS" in line


SETTINGS = """
TRIGGER_STORAGE_TYPE = "sqlite"
TRIGGER_STORAGE_OPTIONS = {"path": "t.db"}
TRIGGER_RUNNER = "celery"
TRIGGER_PLUGINS = []
TRIGGER_IMPORTS = ["flat_tasks"]
"""
TASKS = """
from triggers_core import TriggerTask
class Flat(TriggerTask):
    name = "flat.task"
    def _run(self, context):
        import flat_helper
        return {"helped": flat_helper.HELP}
"""
WORKER = """
import os
os.environ.setdefault("TRIGGERS_SETTINGS_MODULE", "flat_settings")
from celery import Celery
from triggers_celery import setup
app = Celery("flat", broker=os.environ["TEST_BROKER"])
setup(app)
"""
COMMAND = "import sys; sys.path.pop(0); from celery.__main__ import main; sys.exit(main())"
"""As pip's script `celery` does: the current folder is not on its path."""


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_modules_beside_that_of_the_app_are_found(fleet: Fleet, tmp_path: Path, pool: str) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for name, text in (
        ("flat_settings", SETTINGS),
        ("flat_tasks", TASKS),
        ("flat_helper", "HELP = 1"),
        ("flat_worker", WORKER),
    ):
        (folder / f"{name}.py").write_text(text)
    fleet.configure(TRIGGER_STORAGE_OPTIONS={"path": str(folder / "t.db")})
    manager = fleet.manager("flat", {"t_x": {"after": ["go"], "run": "flat.task"}})
    manager.fire("go")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [*(sys.executable, "-c", COMMAND, "-A", "flat_worker", "worker"), "-P", pool, "-c", "1"],
        cwd=folder,
        env={**environment, "TEST_BROKER": fleet.broker},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or statuses(manager) == {"t_x#0": "finished"})
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(process.stderr.read())
    finally:
        process.terminate()
        process.wait(60)
        if process.stderr is not None:
            process.stderr.close()
