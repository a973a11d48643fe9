"""The runner `manual`: it collects, and works when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from triggers_core import Application, TaskContext, trigger_task
from triggers_core.exceptions import InvalidSetting
from triggers_core.runners import ManualRunner, task_runners
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock
from triggers_core.testing.manager_helpers import statuses

RUN = f"{__name__}.note"
ran: list[tuple[str, int]] = []


@trigger_task(name=RUN)
def note(context: TaskContext) -> None:
    ran.append((context.instance.name, threading.get_ident()))


@pytest.fixture
def app() -> Iterator[Application]:
    ran.clear()
    settings = Settings.isolated(TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[])
    app = Application("manual", settings, runner=ManualRunner)
    app.manager("s").update_configuration(
        {"t_a": {"andEvery": "go", "run": RUN}, "t_b": {"after": ["t_a"], "run": RUN}}
    )
    yield app
    app.close()


def runner_of(app: Application) -> ManualRunner:
    runner = app.runner()
    assert isinstance(runner, ManualRunner)
    return runner


def test_it_collects_and_works_in_the_calling_thread(app: Application) -> None:
    manager, runner = app.manager("s"), runner_of(app)
    manager.fire("go")
    manager.fire("go")
    assert [each.instance for each in runner.messages] == ["t_a#0", "t_a#1"]
    assert ran == []
    assert runner.work() == 3
    here = threading.get_ident()
    assert ran == [("t_a#0", here), ("t_a#1", here), ("t_b#0", here)]
    assert set(statuses(manager).values()) == {"finished"}
    assert runner.messages == []
    assert runner.work() == 0


def test_a_join_is_a_word_to_work(app: Application) -> None:
    manager = app.manager("s")
    manager.fire("go")
    assert manager.join()
    assert statuses(manager) == {"t_a#0": "finished", "t_b#0": "finished"}


def test_what_it_lets_go_of_is_left_to_a_sweep(app: Application) -> None:
    app.store.clock = clock = VirtualClock()
    manager, runner = app.manager("s"), runner_of(app)
    manager.fire("go")
    assert [each.instance for each in runner.clear()] == ["t_a#0"]
    assert runner.work() == 0
    clock.advance(100)
    app.recover()
    assert runner.work() == 2
    manager.fire("go")
    runner.shutdown()
    assert runner.messages == []


def test_it_keeps_so_many_messages_at_most(app: Application) -> None:
    for keep, kept in ((0, []), (2, ["t_a#1", "t_a#2"])):
        other = app.replace(runner=lambda app, keep=keep: ManualRunner(app, keep=keep))  # type: ignore[misc]
        manager = other.manager(f"s{keep}")
        manager.update_configuration({"t_a": {"andEvery": "go", "run": RUN}})
        for _ in range(3):
            manager.fire("go")
        assert [each.instance for each in runner_of(other).messages] == kept


@pytest.mark.parametrize("keep", [-1, None, "2", True])
def test_an_impossible_number_is_refused(app: Application, keep: object) -> None:
    with pytest.raises(InvalidSetting, match="keep"):
        task_runners.get("manual", app, keep=keep)


def test_it_needs_no_task_to_fire() -> None:
    settings = Settings.isolated(
        TRIGGER_STORAGE_TYPE="memory", TRIGGER_PLUGINS=[], TRIGGER_RUNNER="manual"
    )
    with Application("manual", settings) as app:
        manager = app.manager("s")
        manager.update_configuration({"t_a": {"after": ["go"], "run": "nobody.Knows"}})
        assert manager.fire("go").scheduled == ("t_a#0",)
        assert len(runner_of(app).messages) == 1
