"""One attempt from message to commit: claim, heartbeat, run the body, finish, dispatch."""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from triggers_core import payloads
from triggers_core.attempts import Claim, Claimed, Ended, Fail, Finish, Retry, SkipRunning
from triggers_core.exceptions import (
    InvalidInput,
    InvalidPayload,
    InvalidResult,
    LeaseLost,
    NotFound,
    PluginMissing,
    StaleMessage,
    StorageError,
)
from triggers_core.failures import describe_error, message_of
from triggers_core.heartbeats import Heartbeats, Lease
from triggers_core.logs import log_failure
from triggers_core.messages import Message
from triggers_core.storages.session import TaskInstance
from triggers_core.tasks import RetryRequested, SkipRequested, TaskContext, TriggerTask

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger = logging.getLogger(__name__)

_FINISH_TRIES = (
    0.05,
    0.5,
    2.0,
)  # seconds between tries to store an outcome; then the lease decides


def run_message(manager: TriggerManager, message: Message, heartbeats: Heartbeats) -> Ended | None:
    """Make the attempt that a message asks for.

    :returns: how it ended; None when there was nothing to do (the message was stale) or the outcome
        could not be stored, in which case the sweep makes another attempt.
    """
    claimed = claim(manager, message)
    return None if claimed is None else run_claimed(manager, claimed, heartbeats)


def claim(manager: TriggerManager, message: Message, holder: str = "") -> Claimed | None:
    """Take the instance; None when the message is stale, as duplicates are.

    :param holder: who takes it, kept behind the token (``<random>@<holder>``), so that whoever
        sees this worker die knows which attempts it held.
    """
    command = Claim(
        instance=message.instance, attempt=message.attempt, generation=message.generation
    )
    if holder:
        command.token += f"@{holder}"
    try:
        claimed: Claimed = manager.commit(command).outcome
    except (StaleMessage, NotFound) as error:
        logger.info("dropped a message: %s", error)
        return None
    return claimed


AroundBody = Callable[[], AbstractContextManager[Any]]


def run_claimed(
    manager: TriggerManager,
    claimed: Claimed,
    heartbeats: Heartbeats,
    around_body: AroundBody = nullcontext,
) -> Ended | None:
    """Run the body of a claimed instance and store what became of it.

    :param around_body: entered for the body alone: a runner that interrupts bodies does so there,
        and never while something is being stored. What it raises counts as raised by the body.
    """
    instance = TaskInstance(manager.storage.store, manager.uid, claimed.instance)
    context = TaskContext(manager, instance, claimed.task, {})
    lease = Lease(
        manager.storage.store,
        manager.uid,
        instance.name,
        claimed.instance.token,
        manager.app.rules,
        context.lost,
    )
    with heartbeats.holding(lease):
        outcome = _run_body(manager, claimed, context, around_body)
    return _store(manager, context, outcome)


Outcome = Finish | Fail | SkipRunning


def _run_body(
    manager: TriggerManager, claimed: Claimed, context: TaskContext, around_body: AroundBody
) -> Outcome:
    name, token = context.instance.name, claimed.instance.token
    try:
        context.trigger_kwargs = claimed.kwargs()
        context.task_class = manager.app.resolve_task(claimed.task.run, claimed.task.using)
        if context.task_class.kwargs_model is not None:
            context.validate(context.task_class.kwargs_model)
        with around_body():
            returned = _call(context.task_class(context), context)
        result = _encoded_result(manager, context, returned)
    except SkipRequested as skip:
        return SkipRunning(
            instance=name, token=token, metadata=dict(skip.metadata), log_level=context.log_level
        )
    except BaseException as error:
        # A body that calls `sys.exit` or awaits something cancelled has failed; its worker goes on.
        if not isinstance(error, Exception | SystemExit) and not _is_cancellation(error):
            raise
        return _failure(manager, context, token, error)
    return Finish(
        instance=name,
        token=token,
        result=result,
        fires=context.fires,
        log_level=context.log_level,
    )


def _is_cancellation(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")  # dear to import; whoever cancels has it
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _call(task: TriggerTask, context: TaskContext) -> Any:
    result = task._run(context)
    if not inspect.isawaitable(result):
        return result
    import asyncio

    return asyncio.run(_awaited(result))


async def _awaited(result: Any) -> Any:
    return await result


def _encoded_result(manager: TriggerManager, context: TaskContext, result: Any) -> bytes:
    if result is not None and not isinstance(result, Mapping):
        raise InvalidResult(
            f"{context.instance.name}: the body must return a mapping (the kwargs of its cascade)"
            f" or None, it returned {type(result).__name__}"
        )
    try:
        return payloads.encode(result, manager.app.rules.limits, "result")
    except InvalidInput as error:
        raise InvalidResult(f"{context.instance.name}: {error}") from error


def _failure(
    manager: TriggerManager, context: TaskContext, token: str, error: BaseException
) -> Outcome:
    limits = manager.app.rules.limits
    retry: Retry | None = None
    reason: BaseException = error
    if isinstance(error, RetryRequested):
        reason = error.exc or error
        try:
            retry = _retry(manager, error)
        except InvalidInput as invalid:
            reason = invalid
    else:
        retry = manager.app.plugins.task_failed(context, error)
    if retry is None:
        log_failure(context, reason)
    else:
        name, message = context.instance.name, message_of(reason)
        logger.info("%s %s: %s: retrying in %g s", manager.uid, name, message, retry.cooldown)
    return Fail(
        instance=context.instance.name,
        token=token,
        metadata={"error": describe_error(reason, limits)},
        log_level=context.log_level,
        retry=retry,
    )


def _retry(manager: TriggerManager, request: RetryRequested) -> Retry:
    payload = None
    if request.replacement_kwargs is not None:
        payload = encode_replacement(manager, request.replacement_kwargs)
    return Retry(cooldown=request.cooldown, payload=payload)


def encode_replacement(manager: TriggerManager, kwargs: Mapping[str, Any]) -> bytes:
    """Check and encode kwargs (trigger → kwargs) that replace the recorded ones."""
    for trigger, value in kwargs.items():
        if not isinstance(value, Mapping):
            raise InvalidPayload(
                f"replacement_kwargs[{trigger!r}]: expected a mapping (it is trigger → kwargs), got"
                f" {type(value).__name__}",
                f"replacement_kwargs[{trigger!r}]",
            )
    return payloads.encode(kwargs, manager.app.rules.limits, "replacement_kwargs")


def _store(manager: TriggerManager, context: TaskContext, outcome: Outcome) -> Ended | None:
    for pause in (*_FINISH_TRIES, None):
        try:
            plan = manager.commit(outcome)
        except (LeaseLost, NotFound) as error:
            context.lost.set()
            logger.warning("%s", error)
            return None
        except PluginMissing as error:
            logger.error("%s: %s", context.instance.name, error)
            return None
        except StorageError:
            if pause is None:
                logger.exception(
                    "%s %s: its outcome could not be stored; another attempt follows when the lease"
                    " runs out",
                    manager.uid,
                    context.instance.name,
                )
                return None
            time.sleep(pause)
        else:
            ended: Ended = plan.outcome
            for plugin, problem in ended.dropped.items():
                logger.error("%s: plugin %s was left out: %s", manager.uid, plugin, problem)
            return ended
    return None
