"""On a Celery worker, in a process of its own: the context comes with the events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triggers_celery")
from celery import Celery

from triggers_celery.connect import connect

PATIENCE = 240.0  # seconds until a worker that hangs fails the test

SETTINGS = {
    "TRIGGER_RUNNER": "celery",
    "TRIGGER_TIMING": {"sweep": 0.5, "redispatch_after": 5},
}


def broker_in(folder: Path) -> dict[str, Any]:
    """A broker that needs no server: messages are files."""
    messages = folder / "messages"
    messages.mkdir(exist_ok=True)
    folders = dict.fromkeys(("data_folder_in", "data_folder_out"), str(messages))
    options = {**folders, "control_folder": str(folder / "control"), "polling_interval": 0.05}
    return {"broker_url": "filesystem://", "broker_transport_options": options}


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    place = {"path": str(tmp_path / "t.db"), "synchronous": "NORMAL"}
    settings = {**SETTINGS, "TRIGGER_STORAGE_TYPE": "sqlite", "TRIGGER_STORAGE_OPTIONS": place}
    environment = {
        name: each if isinstance(each, str) else json.dumps(each) for name, each in settings.items()
    }
    arguments = (
        "-l",
        "info",
        "-P",
        "solo",
        "--without-mingle",
        "--without-gossip",
        "--without-heartbeat",
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "otel_worker", "worker", *arguments],
            env={
                **os.environ,
                **environment,
                "TRIGGER_PLUGINS": '["otel"]',
                "TEST_FOLDER": str(tmp_path),
                "TEST_CELERY": json.dumps(broker_in(tmp_path)),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
                ),
            },
            stdout=log,
            stderr=log,
        )
        yield process
        process.kill()
        process.wait()


def test_a_worker_links_to_the_processes_that_fired(
    worker: Any, make: Any, telemetry: Any, tmp_path: Path
) -> None:
    app = make("sqlite", settings=SETTINGS)
    celery = Celery("otel", set_as_current=False)
    celery.conf.update(broker_in(tmp_path))
    connect(celery, app)
    log = tmp_path / "log"
    until(lambda: " ready." in log.read_text(), worker, log)
    manager = app.manager("order:42")
    manager.update_configuration(
        {
            "t_ship": {"after": ["paid", "packed"], "run": "shop.ship"},
            "t_tell": {"after": ["t_ship"], "run": "shop.ship"},
        }
    )
    for trigger in ("paid", "packed"):
        manager.fire(trigger)
    until(lambda: not manager.get_unresolved_instances(), worker, log)
    until(lambda: "t_tell#0" in manager.storage.instances, worker, log)
    until(lambda: manager.storage["t_tell#0"].resolved, worker, log)
    celery.close()
    spans = tmp_path / "spans"
    # The span of an attempt ends when its outcome has been stored, and is written after that.
    until(lambda: spans.read_text().count("\n") == 4, worker, log)
    inner, ship, other, tell = map(json.loads, spans.read_text().splitlines())
    names = [each["name"] for each in (inner, ship, other, tell)]
    assert names == ["inner", "run t_ship", "inner", "run t_tell"]
    assert inner["parent_id"] == ship["context"]["span_id"]
    fired = [telemetry.span(f"fire {trigger}").context for trigger in ("paid", "packed")]
    links = [each["context"]["span_id"] for each in ship["links"]]
    assert links == [f"0x{each.span_id:016x}" for each in fired]
    assert [each["context"]["span_id"] for each in tell["links"]] == [ship["context"]["span_id"]]
    assert ship["attributes"]["triggers.outcome"] == "finished"


def until(true: Callable[[], Any], worker: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for what the worker does."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
