"""The host of a process: what a framework around it may ask for."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from applications import eventually

from triggers_core import TaskContext, TriggerTask, trigger_task
from triggers_core.application import Application
from triggers_core.exceptions import TaskNotFound
from triggers_core.host import Host, host, set_host
from triggers_core.runners import ThreadingTaskRunner
from triggers_core.settings import Settings

CONFIGURATION = {
    "t_first": {"after": ["go"], "run": "host.First"},
    "t_second": {"after": ["t_first"], "run": "host.Second"},
    "t_fails": {"after": ["fail"], "run": "host.Fails"},
}
ran: list[tuple[str, str]] = []


@trigger_task(name="host.First")
def first(context: TaskContext) -> None:
    ran.append(("first begins", threading.current_thread().name))
    context.manager.fire("other")
    ran.append(("first ends", threading.current_thread().name))


@trigger_task(name="host.Second")
def second(context: TaskContext) -> None:
    ran.append(("second", threading.current_thread().name))


class Fails(TriggerTask):
    name = "host.Fails"
    time_limit = 60.0

    def _run(self, context: TaskContext) -> None:
        raise ValueError("no")


class Noting(Host):
    """Writes down what it is asked, but not by threads that other tests have left behind."""

    def __init__(self) -> None:
        self.others = set(threading.enumerate()) - {threading.current_thread()}
        self.between: list[str] = []
        self.ended: list[str] = []
        self.may_sweep = True
        self.in_line = False
        self.modules: Sequence[str] = ()

    def sweeps(self) -> bool:
        return self.may_sweep

    def inline(self) -> bool:
        return self.in_line

    def task_modules(self) -> Sequence[str]:
        return self.modules

    def between_jobs(self) -> None:
        self._note(self.between)

    def thread_ends(self) -> None:
        self._note(self.ended)

    def _note(self, where: list[str]) -> None:
        if threading.current_thread() not in self.others:
            where.append(threading.current_thread().name)


@pytest.fixture
def noting() -> Iterator[Noting]:
    noting = Noting()
    before = set_host(noting)
    ran.clear()
    yield noting
    set_host(before)


@pytest.fixture
def app(noting: Noting) -> Iterator[Application]:
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory",
        TRIGGER_PLUGINS=[],
        TRIGGER_CONFIGURATION=CONFIGURATION,
        TRIGGER_RUNNER_OPTIONS={"max_workers": 1},
    )
    app = Application("host", settings)
    yield app
    app.close()


def begun(before: set[threading.Thread]) -> set[str]:
    """Names of the threads of ours that have begun since."""
    since = set(threading.enumerate()) - before
    return {each.name for each in since if each.name.startswith("triggers-")}


def test_a_process_has_one_that_asks_for_nothing() -> None:
    assert host().sweeps()
    assert not host().inline()
    assert not host().task_modules()
    host().between_jobs()
    host().thread_ends()


def test_it_is_told_around_each_job_and_at_the_end_of_each_thread(
    app: Application, noting: Noting
) -> None:
    manager = app.manager("s")
    manager.fire("go")
    assert manager.join(60)
    # The end of the last body, and the first sweep, may come after the outcome.
    eventually(lambda: noting.between.count("triggers-worker-0") == 4)  # around two bodies
    eventually(lambda: "triggers-sweep" in noting.between)
    assert not noting.ended
    app.close()
    assert {"triggers-worker-0", "triggers-sweep", "triggers-heartbeat"} == set(noting.ended)


def test_its_errors_are_logged_and_harm_nothing(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Host):
        def between_jobs(self) -> None:
            raise OSError("between")

        def thread_ends(self) -> None:
            raise OSError("at the end")

    before = set_host(Broken())
    try:
        manager = app.manager("s")
        manager.fire("go")
        assert manager.join(60)
        assert manager.storage["t_second#0"].status == "finished"
        app.close()
    finally:
        set_host(before)
    assert "OSError: between" in caplog.text
    assert "OSError: at the end" in caplog.text


def test_nothing_sweeps_by_itself_where_it_says_so(app: Application, noting: Noting) -> None:
    noting.may_sweep = False
    before = set(threading.enumerate())
    manager = app.manager("s")
    manager.fire("go")
    assert manager.join(60)
    assert "triggers-sweep" not in begun(before)
    app.start()
    assert "triggers-sweep" in begun(before)


def test_attempts_in_the_firing_thread(app: Application, noting: Noting) -> None:
    noting.in_line = True
    before = set(threading.enumerate())
    here = threading.current_thread().name
    app.manager("s").fire("go")
    assert ran == [("first begins", here), ("first ends", here), ("second", here)]
    manager = app.manager("s")
    manager.fire("fail")
    assert manager.storage["t_fails#0"].status == "failed"
    assert not begun(before)


def test_an_attempt_that_cannot_be_made_there_does_not_break_the_fire(
    app: Application,
    noting: Noting,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def claim(*_: object) -> None:
        raise OSError("gone")

    noting.in_line = True
    monkeypatch.setattr("triggers_core.runners.inline.claim", claim)
    with caplog.at_level(logging.ERROR):
        assert app.manager("s").fire("go").scheduled == ("t_first#0",)
    assert "t_first#0: the attempt could not be made in this thread" in caplog.text
    monkeypatch.undo()
    assert isinstance(app.runner(), ThreadingTaskRunner)
    app.manager("s2").fire("go")
    assert ("second", threading.current_thread().name) in ran


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a module that defines a task of its name."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str) -> str:
        (tmp_path / f"{name}.py").write_text(
            "from triggers_core import trigger_task\n"
            f"@trigger_task(name='{name}.Task')\n"
            "def task(context): pass\n"
        )
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_it_names_modules_with_tasks(
    app: Application, noting: Noting, module: Callable[[str], str]
) -> None:
    noting.modules = [module("host_tasks"), module("host_other")]
    app.settings.configure(TRIGGER_IMPORTS=["host_other", module("host_more")])
    assert app.task_modules() == ["host_other", "host_more", "host_tasks"]
    assert "host_tasks" not in sys.modules
    for name in ("host_tasks", "host_other", "host_more"):
        assert app.resolve_task(f"{name}.Task").__module__ == name
    with pytest.raises(TaskNotFound):
        app.resolve_task("host_nothing.Task")
