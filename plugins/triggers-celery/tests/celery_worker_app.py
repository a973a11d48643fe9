"""The Celery app that the tests' workers run: `celery -A celery_worker_app worker`.

The environment says everything: TRIGGER_* for Triggers, TEST_* for what is below.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from celery import Celery, current_task
from celery.exceptions import Ignore

from triggers_celery import setup
from triggers_core import TriggerTask, get_trigger_manager, hookimpl
from triggers_core.storages import storage_backends

TRACES = Path(os.environ["TEST_TRACES"])

app = Celery("tests", broker=os.environ["TEST_BROKER"])
app.conf.update(json.loads(os.environ.get("TEST_CELERY", "{}")))
setup(app)


def trace(context, what):
    """Append one line; short writes to a file opened for appending don't mix."""
    request = current_task.request
    line = {
        "uid": context.manager.uid,
        "instance": context.instance.name,
        "attempt": context.attempt,
        "what": what,
        "pid": os.getpid(),
        "queue": request.delivery_info["routing_key"],
        "id": request.id,
    }
    with (TRACES / "trace").open("a") as file:
        file.write(json.dumps(line) + "\n")


def wait_for_gate(context):
    """Wait until the test opens the session's gate."""
    while not (TRACES / f"open-{context.manager.uid}").exists():
        time.sleep(0.01)


class Record(TriggerTask):
    """Notes that it ran and returns what it got."""

    name = "test.record"

    def _run(self, context):
        trace(context, "ran")
        return {"got": context.trigger_kwargs}


class Wait(TriggerTask):
    """Waits for the session's gate."""

    name = "test.wait"

    def _run(self, context):
        trace(context, "began")
        wait_for_gate(context)
        trace(context, "ended")


class Looped(TriggerTask):
    """Waits for the session's gate in an event loop; tells which one that was."""

    name = "test.looped"

    async def _run(self, context):
        loop = asyncio.get_running_loop()
        loop.bodies = getattr(loop, "bodies", 0) + 1
        (TRACES / f"began-{context.manager.uid}-{context.instance.number}").touch()
        while not (TRACES / f"open-{context.manager.uid}").exists():
            await asyncio.sleep(0.01)
        return {"bodies": loop.bodies}


class SoftLimited(Wait):
    name = "test.soft"
    celery_options: ClassVar = {"soft_time_limit": 1}
    _run = Wait._run


class HardLimited(Wait):
    name = "test.hard"
    celery_options: ClassVar = {"time_limit": 1}
    _run = Wait._run


class Parcels(Record):
    name = "test.parcels"
    celery_options: ClassVar = {"queue": "parcels"}
    _run = Record._run


class Routed(Record):
    """Routed to another queue by the firing process."""

    name = "test.routed"
    _run = Record._run


class Lost(Record):
    """The firing process sends it where no worker looks; the workers' sweep does not."""

    name = "test.lost"
    _run = Record._run


class Dies(TriggerTask):
    """Kills its own process, always."""

    name = "test.dies"

    def _run(self, context):
        trace(context, "began")
        os.kill(os.getpid(), signal.SIGKILL)


class Fails(TriggerTask):
    name = "test.fails"

    def _run(self, context):
        raise ValueError(f"canary {context.trigger_kwargs}")


class Retries(TriggerTask):
    """Asks for one retry, after a while."""

    name = "test.retries"

    def _run(self, context):
        trace(context, "ran")
        if context.retries == 0:
            raise self.retry(cooldown=0.5)


class Odd(BaseException):
    """As pyo3, gevent, trio and pytest raise them."""


class Unprintable(Exception):
    def __str__(self):
        raise Odd("not even this")


class Raises(TriggerTask):
    """Raises what its session asks for."""

    name = "test.raises"

    def _run(self, context):
        kind = context.trigger_kwargs["go"]["kind"]
        trace(context, kind)
        raise {
            "base": Odd("odd"),
            "system-exit": SystemExit(3),
            "keyboard": KeyboardInterrupt(),
            "generator": GeneratorExit(),
            "cancelled": asyncio.CancelledError(),
            "memory": MemoryError("none left"),
            "ignore": Ignore("says the body"),
            "unprintable": Unprintable(),
        }[kind]


class Limited(Wait):
    name = "test.limited"
    time_limit = 1
    _run = Wait._run


class OwnSoft(Wait):
    name = "test.own-soft"
    soft_time_limit = 1
    _run = Wait._run


class Hangs(TriggerTask):
    """Waits where no exception reaches it."""

    name = "test.hangs"
    time_limit = 1

    def _run(self, context):
        ctypes.CDLL(None).sleep(90)


class Hooks:
    """Raises what is no `Exception`, once in this process and once in its child."""

    @hookimpl
    def storage_load(self, uid):
        raised = TRACES / f"raised-{os.getpid()}"
        if "TEST_HOOK" in os.environ and not raised.exists():
            raised.touch()
            raise Odd("on the way to a body")


hooks = Hooks()


class Tenants:
    """A file for each tenant: sessions are called `tenant:order`."""

    @hookimpl
    def storage_load(self, uid):
        path = TRACES / f"tenant-{uid.partition(':')[0]}.db"
        return storage_backends.get("sqlite", uid, path=str(path))


tenants = Tenants()

if "TEST_NEW" in os.environ:

    class New(Record):
        """Workers of the old version do not know it."""

        name = "test.new"
        _run = Record._run


@app.task(name="test.fires-for-ever", ignore_result=True)
def fires_for_ever(name):
    """An ordinary task of Celery's, which fires until its soft time limit strikes."""
    try:  # the first manager of a process takes a while, in which the limit may strike too
        manager = get_trigger_manager("interrupted")
        for number in itertools.count():
            identity = f"{name}-{number}"
            manager.fire("page", event_id=identity)
            with (TRACES / "accepted").open("a") as file:
                file.write(identity + "\n")
    finally:
        with (TRACES / "limits").open("a") as file:
            file.write(name + "\n")


if "TEST_CELERY_LATE" in os.environ:  # settings that come later than `setup` can see
    app.finalize()
    app.conf.update(json.loads(os.environ["TEST_CELERY_LATE"]))
