"""The Celery app of the fleet that is being killed: `celery -A fleet_app worker`.

Its processes die where the test wants them to: a file named after a point, made by the test, is
taken away by the first process that gets there, which then kills itself. So each file kills once,
and nothing has to wait for a particular process.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

from celery import Celery
from kombu.transport.redis import Transport

from triggers_celery import setup
from triggers_core import TriggerTask
from triggers_core.engine.attempts import Claim, Finish
from triggers_core.engine.commands import Fire
from triggers_core.storages.base import Store

PLACE = Path(os.environ["TEST_TRACES"])
CONFIGURATION = json.loads(os.environ["TEST_CONFIGURATION"])
AROUND = {
    Claim: ("before-claim", "after-claim"),
    Finish: ("before-finish", "before-dispatch"),
    Fire: ("before-fire", "after-fire"),
}
"""Kind of commit → the points just before it and between it and the dispatch that follows."""

app = Celery("fleet", broker=os.environ["TEST_BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.update(json.loads(os.environ.get("TEST_CELERY", "{}")))
setup(app)


def note(file: str, *words: object) -> None:
    """Append one line; short writes to a file opened for appending don't mix."""
    with (PLACE / file).open("a") as lines:
        lines.write(json.dumps(words) + "\n")


def die_at(point: str) -> None:
    """Kill this process if the test has asked for it here."""
    with suppress(FileNotFoundError):
        (PLACE / f"die-{point}").unlink()
        note("deaths", point)
        os.kill(os.getpid(), signal.SIGKILL)


def stop_redis() -> None:
    """Suspend the server, if the test has asked for it, just before something is asked of it."""
    file = PLACE / "stop-redis"
    with suppress(FileNotFoundError):
        server = int(file.read_text())
        file.unlink()
        os.kill(server, signal.SIGSTOP)


class Any(TriggerTask):
    """Notes that it ran."""

    name = "fleet.any"

    def _run(self, context):
        die_at("in-body")
        note("bodies", context.manager.uid, context.instance.name, context.attempt)
        return {}


for run in {each["run"] for each in CONFIGURATION.values()} - {"fleet.cools"}:
    type("Any", (Any,), {"name": run, "_run": Any._run})


def store_class() -> type[Store]:
    """What the sessions are in; the other one need not be installed."""
    if os.environ["TRIGGER_STORAGE_TYPE"] == "postgres":
        from triggers_postgres.store import PostgresStore

        return PostgresStore
    from triggers_redis.store import RedisStore

    return RedisStore


STORE = store_class()
_commit, _deliver = STORE.commit, Transport._deliver


def commit(store, uid, command, rules):
    before, after = AROUND.get(type(command), ("", ""))
    if before:
        die_at(before)
    if isinstance(command, Fire):
        stop_redis()
    plan = _commit(store, uid, command, rules)
    if isinstance(command, Finish):
        note("finishes", uid, command.instance, command.token)
    if after:
        die_at(after)
    return plan


def deliver(transport, message, queue):
    """Called between Celery's BRPOP and its note that the message is unacknowledged."""
    if queue == "celery":
        die_at("in-pop")
    return _deliver(transport, message, queue)


STORE.commit = commit
Transport._deliver = deliver


@app.task(name="fleet.plain", acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def plain(number):
    """What Celery does on its own, for comparison."""
    note("plain", number)


class Cools(TriggerTask):
    """Asks for one retry, after as long as its session says."""

    name = "fleet.cools"

    def _run(self, context):
        if context.retries == 0:
            raise self.retry(cooldown=context.trigger_kwargs["go"]["cooldown"])
        note("bodies", context.manager.uid, context.instance.name, context.attempt)
