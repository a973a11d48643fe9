"""What the worker of bench_celery runs: ``celery -A celery_bench_app worker``.

A task of Triggers that joins three events, and the same work for Celery alone: a chord of three.
The bodies that are waited for all do the same, see `note`. `bench_celery` imports this as well, to
send with.
"""

from __future__ import annotations

import os
import select
import struct
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

from celery import Celery

from triggers_celery import setup
from triggers_core import TaskContext, TriggerTask, get_trigger_manager
from triggers_core.application import Application
from triggers_core.manager import TriggerManager
from triggers_core.settings import Settings

JOINED: Final = ("paid", "packed", "approved")
"""Three triggers, in any order, that one task waits for."""

SERVER, PIPE = "BENCH_REDIS", "BENCH_PIPE"
"""The variables that tell a worker its server, and the named pipe that `note` writes to."""

WORKERS_NAME = "worker"
"""The name of the worker's storage clients, as the server lists them."""

STAMP = struct.Struct("d")

PATIENCE = 60.0
"""Seconds for a worker to do something; nothing takes nearly as long."""

app = Celery("bench")
app.conf.update(
    broker_connection_retry_on_startup=True,
    # Celery's own default, for the chord's sake; `setup` would make it 1.
    worker_prefetch_multiplier=4,
)
application = Application(
    "bench",
    Settings.isolated(
        TRIGGER_STORAGE_TYPE="redis",
        TRIGGER_RUNNER="celery",
        TRIGGER_PLUGINS=[],
        TRIGGER_AUTOLOAD=False,
        TRIGGER_CONFIGURATION={"t_ship": {"after": list(JOINED), "run": "bench.Task"}},
    ),
)
setup(app, application)


def use(url: str, client_name: str, namespace: str = "joins") -> None:
    """Choose the one server for messages, results and sessions."""
    app.conf.update(broker_url=url, result_backend=url)
    storage = {"url": url, "namespace": namespace, "client_name": client_name}
    application.configure(TRIGGER_STORAGE_OPTIONS=storage)


if SERVER in os.environ:
    use(os.environ[SERVER], WORKERS_NAME)


def session(uid: str) -> TriggerManager:
    """The manager of a session, made as applications make it."""
    return get_trigger_manager(uid, application)


@cache
def pipe() -> int:
    """The pipe's end, of this process."""
    return os.open(os.environ[PIPE], os.O_WRONLY)


def note() -> None:
    """Tell who waits for it that, and when, this body began; takes no time to speak of."""
    os.write(pipe(), STAMP.pack(time.time()))


class Bodies:
    """What the worker's bodies have told, for the process that waits for them.

    :param path: where to make the pipe.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        os.environ[PIPE] = str(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        pipe()  # held open here too: there is no end of file when a worker stops

    def wait(self, count: int) -> float:
        """Wait until so many have begun; returns when the last one did."""
        said = b""
        while len(said) < count * STAMP.size:
            if not select.select([self._end], [], [], PATIENCE)[0]:
                begun = len(said) // STAMP.size
                raise TimeoutError(f"the worker has begun {begun} of {count} bodies, no more")
            said += os.read(self._end, count * STAMP.size - len(said))
        if select.select([self._end], [], [], 0)[0]:
            raise RuntimeError(f"the worker has begun more than {count} bodies: whose are they?")
        last: float = max(stamp for (stamp,) in STAMP.iter_unpack(said))
        return last


class Task(TriggerTask):
    """What follows the three events."""

    name = "bench.Task"

    def _run(self, context: TaskContext) -> None:
        note()


def bare(**kwargs: Any) -> None:
    """A task of Celery's own."""
    note()


def fires(uid: str, trigger: str, kwargs: dict[str, Any]) -> None:
    """A task of Celery's own that fires an event."""
    session(uid).fire(trigger, kwargs)


def part(kwargs: dict[str, Any]) -> None:
    """One of a chord's three; as cheap as can be."""


def whole(results: list[Any]) -> None:
    """What follows all three of a chord."""
    note()


bare_task = app.task(bare, name="bench.bare", ignore_result=True)
firing_task = app.task(fires, name="bench.fires", ignore_result=True)
part_task = app.task(part, name="bench.part")
whole_task = app.task(whole, name="bench.whole")
