"""In the worker: one Celery task is one attempt. Claim, heartbeat, body, finish, dispatch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from triggers_celery.identity import holder
from triggers_celery.interruptions import Terminated, allowed, held_back
from triggers_core.exceptions import TaskFailure
from triggers_core.failures import read_metadata
from triggers_core.heartbeats import Heartbeats
from triggers_core.messages import Message
from triggers_core.records import Status
from triggers_core.worker import claim, run_claimed

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.attempts import Ended


class AttemptFailed(TaskFailure):
    """What Celery gets to see of a failed instance: its name and the type of the error.

    No message: Celery sends errors through the broker and into its logs. The instance's metadata
    has all of it, and the core has logged it once.
    """


def execute(application: Application, message: Message, node: str) -> str:
    """Make the attempt that a message asks for.

    :param node: the worker's name, which signs the attempt's token.
    :returns: what became of it, in a word: ``finished``, ``skipped``, ``stale`` (there was nothing
        to do) or ``lost`` (another attempt follows).
    :raises AttemptFailed: the instance has failed; so it has for Celery, Flower and its signals.
    """
    manager = application.manager_for(message)
    try:
        with held_back():
            claimed = claim(manager, message, holder(node))
            if claimed is None:
                return "stale"
            ended = run_claimed(manager, claimed, heartbeats_of(application), allowed)
    except Terminated:
        raise SystemExit(1) from None
    if ended is None:
        return "lost"
    if ended.instance.status in (Status.FAILED, Status.REPLAYED):
        raise AttemptFailed(_summary(ended))
    return ended.instance.status.value


def _summary(ended: Ended) -> str:
    error: Any = read_metadata(ended.instance).get("error")
    kind = error.get("type", "an error") if isinstance(error, dict) else "an error"
    summary = f"{ended.instance.name} failed with {kind}"
    if ended.replay is not None:
        summary += f", runs again as {ended.replay.name}"
    return summary


_heartbeats: WeakKeyDictionary[Application, tuple[int, Heartbeats]] = WeakKeyDictionary()


def heartbeats_of(application: Application) -> Heartbeats:
    """The heartbeats of this process; its thread starts with the first attempt.

    So a prefork worker's main process never has one: threads and forks do not mix.
    """
    pid, heartbeats = _heartbeats.get(application, (0, None))
    if heartbeats is None or pid != os.getpid():
        heartbeats = Heartbeats(application.rules.timing.heartbeat)
        _heartbeats[application] = (os.getpid(), heartbeats)
    return heartbeats


def stop_heartbeats() -> None:
    """End the threads of this process."""
    for pid, heartbeats in list(_heartbeats.values()):
        if pid == os.getpid():
            heartbeats.stop()
