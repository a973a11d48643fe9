"""Old and new workers side by side, tenants with stores of their own, interrupted tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
from celery_fleet import Fleet, statuses, until

from triggers_core.application import Application
from triggers_core.settings import Settings

ROLLING = {"sweep": 0.2, "redispatch_after": 60}


@pytest.mark.parametrize(
    "pool", ["solo", "threads", pytest.param("prefork", marks=pytest.mark.slow)]
)
def test_workers_of_an_old_version_leave_new_tasks_to_others(fleet: Fleet, pool: str) -> None:
    fleet.configure(TRIGGER_TIMING=ROLLING)
    managers = [
        fleet.manager(f"order{n}", {"t_new": {"after": ["go"], "run": "test.new"}})
        for n in range(12)
    ]
    with fleet.worker("-P", pool, "-c", "1") as old:
        for manager in managers:
            manager.fire("go")
        until(lambda: "left to other workers" in old.said())
        assert "failed" not in Counter(str(m.storage["t_new#0"].status) for m in managers)
        with fleet.worker("-P", pool, "-c", "1", TEST_NEW="1"):
            old.stop()
            until(lambda: all(statuses(each) == {"t_new#0": "finished"} for each in managers))


def test_a_task_that_nobody_knows_is_no_hot_loop(fleet: Fleet) -> None:
    fleet.configure(TRIGGER_TIMING={**ROLLING, "unknown_task_for": 6.0})
    manager = fleet.manager("nobodys", {"t_x": {"after": ["go"], "run": "test.nobodys"}})
    with fleet.worker("-P", "solo") as worker:
        manager.fire("go")
        until(lambda: statuses(manager) == {"t_x#0": "failed"})
        received = worker.said().count("Task triggers.run[")
    assert 2 <= worker.said().count("left to other workers") <= 6
    assert received <= 20  # a line when it comes, one when it ends


TENANT = "celery_worker_app:tenants"


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_cooldown_in_a_tenants_store_ends(fleet: Fleet, pool: str) -> None:
    """The main process of a prefork worker runs no bodies: it learns of tenants from messages."""
    settings = {**fleet.settings, "TRIGGER_PLUGINS": [_tenants(fleet)]}
    application = Application("default", Settings.isolated(**settings))
    try:
        manager = application.manager("acme:1")
        manager.update_configuration({"t_x": {"after": ["go"], "run": "test.retries"}})
        application.use_runner(fleet.application.runner())
        plugins = json.dumps([TENANT])
        with fleet.worker("-P", pool, "-c", "1", TRIGGER_PLUGINS=plugins):
            manager.fire("go")
            until(lambda: statuses(manager) == {"t_x#0": "replayed", "t_x#1": "finished"})
    finally:
        application.close()


def _tenants(fleet: Fleet) -> object:
    from triggers_core import hookimpl
    from triggers_core.storages import storage_backends

    class Tenants:
        @hookimpl
        def storage_load(self, uid: str) -> object:
            path = fleet.directory / f"tenant-{uid.partition(':')[0]}.db"
            return storage_backends.get("sqlite", uid, path=str(path))

    return Tenants()


FIRE = """
import os, sys, time
from triggers_core import Application
from triggers_core.settings import Settings
app = Application("default", Settings.isolated(
    TRIGGER_STORAGE_TYPE="sqlite",
    TRIGGER_STORAGE_OPTIONS={"path": sys.argv[1]},
    TRIGGER_PLUGINS=[],
))
app.manager("interrupted").fire("page")
app.manager("other").fire("page")
"""


@pytest.mark.slow
def test_ordinary_tasks_whose_soft_limit_strikes_in_a_fire_harm_nobody(fleet: Fleet) -> None:
    """Celery's own tasks, whose limits nothing holds back."""
    path = str(fleet.directory / "triggers.db")
    fire = fleet.celery_app.signature("test.fires-for-ever", ignore_result=True)
    with fleet.worker("-c", "2") as worker:
        for number in range(40):
            # Seconds; Celery's timer is no finer than that of its event loop.
            fire.apply_async((f"n{number}",), soft_time_limit=0.2 + number / 100, time_limit=30)
        ended = fleet.directory / "limits"
        until(lambda: ended.exists() and len(ended.read_text().split()) == 40)
        # While the worker and its children live: what they have left open would stay open.
        subprocess.run([sys.executable, "-c", FIRE, path], check=True, timeout=60)
        assert worker.process.poll() is None
        accepted = (fleet.directory / "accepted").read_text().split()
        events = fleet.application.store.events("interrupted")
        assert {event.id for event in events}.issuperset(accepted)
        assert len(events) == len({event.id for event in events})
