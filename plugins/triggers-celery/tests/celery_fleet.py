"""A fleet for the tests: workers in processes of their own, and this process, which fires."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from celery import Celery

from triggers_celery.connect import connect
from triggers_core.application import Application
from triggers_core.manager import TriggerManager
from triggers_core.settings import Settings

HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds after which a test gives up; nothing takes nearly as long."""


def until(check: Callable[[], Any], what: str = "") -> Any:
    """Wait for something that another process does, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < deadline, f"in vain: {what or check}"
        time.sleep(0.02)
    return found


class Worker:
    """A Celery worker in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        until(lambda: " ready." in self.said() or self.process.poll() is not None, "the worker")
        assert self.process.poll() is None, self.said()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def destroy(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Fleet:
    """Settings that this process and the workers share, and the way to start those."""

    def __init__(self, directory: Path, broker: str, **timing: float) -> None:
        self.directory, self.broker = directory, broker
        self.timing = {"sweep": 0.5, "redispatch_after": 60, **timing}
        self.settings: dict[str, Any] = {
            "TRIGGER_STORAGE_TYPE": "sqlite",
            "TRIGGER_STORAGE_OPTIONS": {"path": str(directory / "triggers.db")},
            "TRIGGER_RUNNER": "celery",
            "TRIGGER_PLUGINS": [],
            "TRIGGER_TIMING": self.timing,
        }
        self.application = Application("default", Settings.isolated(**self.settings))
        self.celery_app = Celery("tests", broker=broker, set_as_current=False)
        self.celery_app.conf.task_routes = {
            "test.routed": {"queue": "letters"},
            "test.lost": {"queue": "nowhere"},
        }
        connect(self.celery_app, self.application)
        self.workers: list[Worker] = []

    def configure(self, **settings: Any) -> None:
        """Set settings of this process and of the workers that are yet to be started."""
        self.settings.update(settings)
        self.application.configure(**settings)

    def manager(self, uid: str, tasks: dict[str, Any] | None = None) -> TriggerManager:
        manager = self.application.manager(uid)
        if tasks is not None:
            manager.update_configuration(tasks)
        return manager

    @contextmanager
    def worker(self, *arguments: str, ready: bool = True, **environment: str) -> Iterator[Worker]:
        worker = self.start(*arguments, **environment)
        try:
            if ready:
                worker.wait_until_ready()
            yield worker
        finally:
            worker.destroy()

    def start(self, *arguments: str, **environment: str) -> Worker:
        log = self.directory / f"worker-{len(self.workers)}.log"
        name = ("-n", f"w{len(self.workers)}@tests", "-l", "info", "--without-mingle")
        command = (sys.executable, "-m", "celery", "-A", "celery_worker_app", "worker")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *name, *(arguments or ("-c", "2"))],
                cwd=self.directory,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def environment(self, **more: str) -> dict[str, str]:
        settings = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in self.settings.items()
        }
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        tests = {
            "TEST_BROKER": self.broker,
            "TEST_TRACES": str(self.directory),
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "default",
        }
        return {**os.environ, **settings, **tests, **more}

    def traces(self, uid: str) -> list[dict[str, Any]]:
        """What the bodies of a session have noted."""
        file = self.directory / "trace"
        lines = file.read_text().splitlines() if file.exists() else []
        return [each for each in map(json.loads, lines) if each["uid"] == uid]

    def open_gate(self, uid: str) -> None:
        (self.directory / f"open-{uid}").touch()

    def close(self) -> None:
        for worker in self.workers:
            worker.destroy()
        self.application.close()
        self.celery_app.close()


def statuses(manager: TriggerManager) -> dict[str, str]:
    return {name: each.status.value for name, each in manager.storage.instances.items()}
