"""Execution of an attempt, which is one Celery task: claim, heartbeat, body, finish, dispatch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from triggers_celery.abandoned import end_this_process
from triggers_celery.identity import process_name
from triggers_celery.interruptions import (
    Terminated,
    defer_soft_limit,
    interruptible,
    must_propagate,
)
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

    Not its message: Celery sends errors through the broker and into its logs. The instance's
    metadata has all of it, and the core has logged it once.
    """


class AttemptNotMade(TriggersError):
    """Raised in place of something that no worker would survive.

    The worker goes on, and so does the instance, once its lease has run out.
    """


class ExecutionContext(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt is made, as far as Celery knows."""

    node: str
    """The worker's name, which signs the attempt's token."""
    eager: bool = False
    """Whether it is made in the process that fires; no other worker is asked."""
    knows_task: bool = True
    """Whether Celery has the task under its own name, and so with its options."""
    limits: Limits = Limits(None, None)
    """The time limits that Celery knows of."""
    abandon: Callable[[], None] | None = None
    """Replaces the thread or greenlet of a body that hangs."""


def run_attempt(application: Application, message: Message, context: ExecutionContext) -> str:
    """Make an attempt, as `execute` does, and raise nothing that would end the worker.

    Celery's pools lose a child, a thread, a greenlet or themselves to what is no `Exception`, and
    the worker's main process to a `MemoryError`.

    :raises AttemptNotMade: in place of such.
    """
    try:
        return execute(application, message, context)
    except MemoryError as error:
        raise AttemptNotMade(f"{message.instance}: MemoryError: {message_of(error)}") from None
    except Exception:
        raise
    except BaseException as error:
        if must_propagate(error, context.eager):
            raise
        logger.error("%s %s: %s", message.uid, message.instance, traceback_of(error))
        problem = f"{type_name(error)}: {message_of(error)}"
        raise AttemptNotMade(f"{message.instance}: {problem}") from None


def execute(application: Application, message: Message, context: ExecutionContext) -> str:
    """Make the attempt that a message asks for.

    :returns: what became of it, in a word: ``finished``, ``skipped``, ``stale`` (there was nothing
        to do), ``lost`` (another attempt follows) or ``passed on`` (to a worker that knows the
        task).
    :raises AttemptFailed: the instance has failed; so it has for Celery, Flower and its signals.
    """
    manager = application.manager_for(message)
    try:
        with defer_soft_limit() as prefork:
            claimed = claim(manager, message, process_name(context.node))
            if claimed is None:
                return "stale"
            ended = run_claimed(
                manager,
                claimed,
                heartbeats_of(application),
                interruptible,
                on_abandoned=end_this_process if prefork else context.abandon,
                limits=_limits(context, prefork),
                passes_on=not context.eager,
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


def _limits(context: ExecutionContext, prefork: bool) -> Limits | None:
    """The limits that the core enforces; None: those of the task itself."""
    if context.eager or not context.knows_task:
        return None
    return Limits(None, None) if prefork else context.limits


def _summary(ended: AttemptResult) -> str:
    error: Any = read_metadata(ended.instance).get("error")
    kind = error.get("type", "an error") if isinstance(error, dict) else "an error"
    summary = f"{ended.instance.name} failed with {kind}"
    if ended.replay is not None:
        summary += f", runs again as {ended.replay.name}"
    return summary


_heartbeats: WeakKeyDictionary[Application, tuple[int, Heartbeats]] = WeakKeyDictionary()


def heartbeats_of(application: Application) -> Heartbeats:
    """The heartbeats of this process; their thread starts with the first attempt.

    So a prefork worker's main process never has one: threads and forks do not mix.
    """
    pid, heartbeats = _heartbeats.get(application, (0, None))
    if heartbeats is None or pid != os.getpid():
        heartbeats = Heartbeats(application.rules.timing.heartbeat)
        _heartbeats[application] = (os.getpid(), heartbeats)
    return heartbeats


def stop_heartbeats(application: Application | None = None) -> None:
    """End the threads of this process, or the one of an application."""
    for each, (pid, heartbeats) in list(_heartbeats.items()):
        if pid == os.getpid() and application in (None, each):
            heartbeats.stop()
