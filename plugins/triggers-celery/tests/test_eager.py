"""`task_always_eager`: everything runs in the firing thread, as in many tests of Celery's users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery_fleet import statuses

from triggers_celery.connect import connect
from triggers_core import TriggerTask
from triggers_core.application import Application
from triggers_core.settings import Settings

ran: list[str] = []


class Note(TriggerTask):
    name = "eager.note"

    def _run(self, context: Any) -> dict[str, Any]:
        ran.append(context.instance.name)
        return {"after": list(ran)}


class Fails(TriggerTask):
    name = "eager.fails"

    def _run(self, context: Any) -> None:
        raise ValueError("no")


@pytest.fixture
def application() -> Iterator[Application]:
    ran.clear()
    application = Application(
        "default",
        Settings.isolated(
            TRIGGER_STORAGE_TYPE="memory", TRIGGER_RUNNER="celery", TRIGGER_PLUGINS=[]
        ),
    )
    celery_app = Celery("eager", broker="redis://127.0.0.1:1/0", set_as_current=False)
    celery_app.conf.update(task_always_eager=True, task_eager_propagates=True)
    connect(celery_app, application)
    yield application
    application.close()


def test_cascades_run_one_after_the_other(application: Application) -> None:
    manager = application.manager("chain")
    manager.update_configuration(
        {
            f"t_{n}": {"after": [f"t_{n - 1}"] if n else ["go"], "run": "eager.note"}
            for n in range(90)
        }
    )
    manager.fire("go")
    assert set(statuses(manager).values()) == {"finished"}
    assert ran == [f"t_{n}#0" for n in range(90)]


def test_a_failure_does_not_reach_the_fire(application: Application) -> None:
    manager = application.manager("fails")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "eager.fails"}})
    manager.fire("go")
    assert statuses(manager) == {"t_x#0": "failed"}
    manager.replay_failed_instance("t_x#0")
    assert statuses(manager) == {"t_x#0": "replayed", "t_x#1": "failed"}


def test_celerys_signals_see_the_task(application: Application) -> None:
    seen = []

    def see(sender: Any, **_: Any) -> None:
        seen.append(sender.name)

    signals.task_prerun.connect(see)
    try:
        manager = application.manager("signals")
        manager.update_configuration({"t_x": {"after": ["go"], "run": "eager.note"}})
        manager.fire("go")
    finally:
        signals.task_prerun.disconnect(see)
    assert seen == ["eager.note"]


def test_an_unknown_task_fails(application: Application) -> None:
    manager = application.manager("unknown")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "eager.nobody"}})
    manager.fire("go")
    assert "no task named 'eager.nobody'" in manager.storage["t_x#0"].metadata["error"]["message"]
