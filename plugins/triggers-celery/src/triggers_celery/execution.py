"""In the worker: one Celery task is one attempt. Claim, heartbeat, body, finish, dispatch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from triggers_celery.abandoned import end_this_process
from triggers_celery.identity import holder
from triggers_celery.interruptions import Terminated, allowed, held_back, must_pass
from triggers_celery.limits import Limits
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.records import Status
from triggers_core.exceptions import TaskFailure, TriggersError
from triggers_core.failures import message_of, traceback_of, type_name
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.messages import Message
from triggers_core.running.worker import claim, run_claimed

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.attempts import AttemptResult

logger = logging.getLogger(__name__)


class AttemptFailed(TaskFailure):
    """What Celery gets to see of a failed instance: its name and the type of the error.

    No message: Celery sends errors through the broker and into its logs. The instance's metadata
    has all of it, and the core has logged it once.
    """


class AttemptNotMade(TriggersError):
    """Something on the way to a body, or from it, raised what no worker survives.

    In its place, that is: the worker goes on, and so does the instance, when its lease runs out.
    """


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt is made, as far as Celery tells."""

    node: str
    """The worker's name, which signs the attempt's token."""
    eager: bool = False
    """In the process that fires: what this one does not know, nobody does."""
    knows_task: bool = True
    """Whether Celery has the task under its own name, and so with its options."""
    limits: Limits = Limits(None, None)
    """The time limits that Celery knows of."""
    abandon: Callable[[], None] | None = None
    """Gives the place of a body that hangs to others."""


def attempt(application: Application, message: Message, place: Place) -> str:
    """Make an attempt, as `execute` does, and let nothing out that would take the worker along.

    Celery's pools lose a child, a thread, a greenlet or themselves to what is no `Exception`, and
    the worker's main process to a `MemoryError`.

    :raises AttemptNotMade: in place of such.
    """
    try:
        return execute(application, message, place)
    except MemoryError as error:
        raise AttemptNotMade(f"{message.instance}: MemoryError: {message_of(error)}") from None
    except Exception:
        raise
    except BaseException as error:
        if must_pass(error, place.eager):
            raise
        logger.error("%s %s: %s", message.uid, message.instance, traceback_of(error))
        problem = f"{type_name(error)}: {message_of(error)}"
        raise AttemptNotMade(f"{message.instance}: {problem}") from None


def execute(application: Application, message: Message, place: Place) -> str:
    """Make the attempt that a message asks for.

    :returns: what became of it, in a word: ``finished``, ``skipped``, ``stale`` (there was nothing
        to do), ``lost`` (another attempt follows) or ``passed on`` (to a worker that knows the
        task).
    :raises AttemptFailed: the instance has failed; so it has for Celery, Flower and its signals.
    """
    manager = application.manager_for(message)
    try:
        with held_back() as prefork:
            claimed = claim(manager, message, holder(place.node))
            if claimed is None:
                return "stale"
            ended = run_claimed(
                manager,
                claimed,
                heartbeats_of(application),
                allowed,
                on_abandoned=end_this_process if prefork else place.abandon,
                limits=_limits(place, prefork),
                passes_on=not place.eager,
            )
    except Terminated as terminated:
        ending = terminated.__cause__
        if ending is None or type(ending) is SystemExit:
            raise SystemExit(1) from None
        raise ending from None
    if ended is None:
        return "lost"
    if ended.passed_on is not None:
        return "passed on"
    if ended.instance.status in (Status.FAILED, Status.REPLAYED):
        raise AttemptFailed(_summary(ended))
    return ended.instance.status.value


def _limits(place: Place, prefork: bool) -> Limits | None:
    """The limits that the core sees to; None: those of the task itself."""
    if place.eager or not place.knows_task:
        return None
    return Limits(None, None) if prefork else place.limits


def _summary(ended: AttemptResult) -> str:
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
