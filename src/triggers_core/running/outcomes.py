"""Outcomes: from how a body ended to the command that stores it, whatever the body did.

Whatever it raised, returned or changed in its context becomes a command of plain data here: what
the storage then refuses is the storage's own trouble, and worth another try.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triggers_core import payloads
from triggers_core.engine.attempts import BodyFire, Fail, Finish, PassOn, Retry, SkipRunning
from triggers_core.exceptions import InvalidInput, InvalidResult
from triggers_core.failures import describe_error, log_exception, message_of, type_name
from triggers_core.running.logs import log_failure
from triggers_core.tasks.context import RetryRequested, SkipRequested, TaskContext

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

Outcome = Finish | Fail | SkipRunning | PassOn

_WHY = 500  # characters of a reason that is shown in explanations


def finish(manager: TriggerManager, context: TaskContext, name: str, returned: Any) -> Finish:
    """A body returned.

    :raises InvalidResult: what it returned, or what it made of `context.fires`, cannot be stored.
    """
    if returned is not None and not isinstance(returned, Mapping):
        raise InvalidResult(
            f"{name}: the body must return a mapping (the kwargs of its cascade)"
            f" or None, it returned {type(returned).__name__}"
        )
    try:
        result = payloads.encode(returned, manager.app.rules.limits, "result")
    except InvalidInput as error:
        raise InvalidResult(f"{name}: {error}") from error
    fires = context.fires
    if fires and not (type(fires) is list and all(map(_is_fire, fires))):
        raise InvalidResult(f"{name}: context.fires was changed: fire with context.fire(...)")
    return Finish(instance=name, token="", result=result, fires=fires or [])


def _is_fire(fire: object) -> bool:
    return (
        type(fire) is BodyFire
        and type(fire.trigger) is str
        and type(fire.payload) is bytes
        and type(fire.event_id) is str
    )


def skip(manager: TriggerManager, name: str, request: SkipRequested) -> SkipRunning:
    """A body skipped itself."""
    return SkipRunning(instance=name, token="", metadata=_plain(manager, request.metadata))


def pass_on(manager: TriggerManager, name: str, error: BaseException) -> PassOn:
    """The task is not known here: others may know it."""
    metadata = {"error": describe_error(error, manager.app.rules.limits)}
    return PassOn(
        instance=name,
        token="",
        metadata=metadata,
        log_level=logging.ERROR,
        why=message_of(error, _WHY),
    )


def fail(manager: TriggerManager, context: TaskContext, name: str, error: BaseException) -> Fail:
    """A body failed, with whatever it raised; never raises."""
    try:
        return _fail(manager, context, name, error)
    except BaseException as problem:
        log_exception(
            logger, "%s %s: its failure could not be described", problem, manager.uid, name
        )
        told = f"(it could not be described: {type_name(problem)}: {message_of(problem, 200)})"
        described = {"type": type_name(error), "message": told}
        return Fail(instance=name, token="", metadata={"error": described}, log_level=logging.ERROR)


def _fail(manager: TriggerManager, context: TaskContext, name: str, error: BaseException) -> Fail:
    retry: Retry | None = None
    reason, metadata = error, {}
    # By type, here and below: an error may lie about its class.
    if issubclass(type(error), RetryRequested):
        assert isinstance(error, RetryRequested)
        if error.exc is not None and issubclass(type(error.exc), BaseException):
            reason = error.exc
        metadata = _plain(manager, error.metadata)
        try:
            retry = _retry(manager, error)
        except InvalidInput as invalid:
            reason = invalid
    else:
        retry = _ask_plugins(manager, context, name, error)
    if retry is None:
        _log(context, reason)
    else:
        logger.info(
            "%s %s: %s: retrying in %g s (attempt %d, retry %d)",
            manager.uid,
            name,
            message_of(reason),
            retry.cooldown,
            context.attempt,
            context.retries + 1,
        )
    metadata["error"] = describe_error(reason, manager.app.rules.limits)
    return Fail(instance=name, token="", metadata=metadata, retry=retry)


def _retry(manager: TriggerManager, request: RetryRequested) -> Retry:
    payload = request.payload
    if payload is None and request.replacement_kwargs is not None:
        payload = payloads.encode_replacement(request.replacement_kwargs, manager.app.rules.limits)
    return Retry(cooldown=request.cooldown, payload=payload)


def _ask_plugins(
    manager: TriggerManager, context: TaskContext, name: str, error: BaseException
) -> Retry | None:
    try:
        answer = manager.app.plugins.task_failed(context, error)
        # Made anew, so that it is checked: it may have been made past its checks.
        return answer and Retry(cooldown=answer.cooldown, payload=answer.payload)
    except BaseException as problem:
        log_exception(
            logger,
            "%s %s: a plugin's task_failed gave an impossible answer; counts as none",
            problem,
            manager.uid,
            name,
        )
        return None


def _log(context: TaskContext, error: BaseException) -> None:
    try:
        log_failure(context, error)
    except BaseException as problem:
        log_exception(logger, "a failure could not be logged", problem)
        log_exception(logger, "failed", error)


def _plain(manager: TriggerManager, metadata: object) -> dict[str, Any]:
    try:
        size = manager.app.rules.limits.record_bytes
        return payloads.decode(payloads.encode_leniently(metadata, size))
    except BaseException as problem:
        return {"(lost)": f"{type_name(problem)}: {message_of(problem, 200)}"}
