"""Logging of attempts with the standard library: a logger for each, its highest level, errors once.

Plugins may answer `get_logger_context` with another logger; this is the core's own answer. What it
emits is masked as `triggers_core.redaction` does it: fields, messages and tracebacks. Records hold
a traceback as text (`exc_text`), never the exception itself: a handler that formats that would show
what was masked. For error trackers there is the hook `task_failed`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from triggers_core.exceptions import BodyInterrupted, context_of
from triggers_core.failures import log_exception, message_of, traceback_of, type_name
from triggers_core.redaction import mask, mask_objects, mask_url
from triggers_core.tasks.context import RetryRequested, SkipRequested

if TYPE_CHECKING:
    from triggers_core.tasks.context import TaskContext

logger: logging.Logger = logging.getLogger(__name__)


TRACEBACK_SIZE: Final = 16_384
"""Characters of a traceback in a log: as many as `Limits.record_bytes` has by default."""

_LOGGED: Final = "__triggers_logged__"
_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

fields: ContextVar[Mapping[str, Any]] = ContextVar("triggers_log_fields")
"""The fields of the attempt that runs in this context; see `FieldsFilter`."""


def log_fields(context: TaskContext) -> dict[str, Any]:
    """What every line of an attempt carries."""
    instance = context.instance
    return {
        "session": instance.uid,
        "task": instance.record.task,
        "instance": instance.name,
        "attempt": context.attempt,
        "retries": context.retries,
        **context.log_fields,
    }


class FieldsFilter(logging.Filter):
    """Adds the running attempt's fields to records of any library's logger.

    Example::

        handler.addFilter(FieldsFilter())     # then use %(session)s %(instance)s in its format
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in fields.get({}).items():
            if not hasattr(record, key):
                setattr(record, key, value)
        return True


class AttemptLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds the attempt's fields, masks secrets and notes the highest level.

    Messages are formatted at once, because only the whole text shows what has to be masked.
    """

    def __init__(
        self, logger: logging.Logger, context: TaskContext, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(logger, _as_attributes(mask_objects(dict(extra))))
        self._context = context

    @classmethod
    def of(
        cls,
        context: TaskContext,
        logger: logging.Logger | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> AttemptLogger:
        """The logger of an attempt; named like the task it runs when none is given."""
        own = logger or logging.getLogger(context.task.run)
        return cls(own, context, {**log_fields(context), **(extra or {})})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        extra = _as_attributes(mask_objects(dict(kwargs.get("extra") or {})))
        kwargs["extra"] = {**(self.extra or {}), **extra}
        instance = self._context.instance
        return f"[{instance.uid} {instance.name}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        note_level(self._context, level)  # whatever the process's logging is set to
        if not self.isEnabledFor(level):
            return
        text, kwargs = self.process(_formatted(msg, args), dict(kwargs))  # type: ignore[assignment]
        error = error_in(kwargs.pop("exc_info", None))
        shown = "" if error is None else traceback_of(error, TRACEBACK_SIZE)
        if error is not None and level >= logging.ERROR:
            mark_logged(self._context, error)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        if isinstance(self.logger, logging.Logger):
            self._emit(level, text, shown, **kwargs)
        else:  # an adapter: its own fields join ours
            self.logger.log(level, "%s", f"{text}\n{shown}" if shown else text, **kwargs)

    def _emit(
        self,
        level: int,
        text: str,
        shown: str,
        extra: dict[str, Any],
        stacklevel: int,
        stack_info: bool = False,
    ) -> None:
        target = self.logger
        # Of the base class: others override it to look past wrappers of their own (structlog).
        caller = logging.Logger.findCaller(target, stack_info, stacklevel + 1)
        path, line, function, stack = caller
        record = target.makeRecord(
            target.name, level, path, line, text, (), None, function, extra, stack
        )
        record.exc_text = shown or None
        target.handle(record)


def stdlib_logger_context(
    context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
) -> AbstractContextManager[AttemptLogger]:
    """The core's answer to the hook `get_logger_context`."""
    return _LoggerContext(context, AttemptLogger.of(context, logger, extra))


class _LoggerContext(AbstractContextManager[AttemptLogger]):
    # A class: the context managers of `contextlib` fail on exceptions that refuse attributes.

    def __init__(self, context: TaskContext, logger: AttemptLogger) -> None:
        self._context, self._logger = context, logger
        self._name = context.instance.name

    def __enter__(self) -> AttemptLogger:
        self._token = fields.set(self._logger.extra or {})
        return self._logger

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None and leaves_as_failure(error):
                log_error_once(self._logger, self._context, error)
        except BaseException as problem:  # it must not take the place of the body's own error
            log_exception(logger, "an error of %s could not be logged", problem, self._name)
        finally:
            fields.reset(self._token)


def log_failure(context: TaskContext, error: BaseException) -> None:
    """Log the error that ended an attempt, unless a logger context has done that.

    It goes through the logger that a body would get: a plugin's, if one provides it.
    """
    if was_logged(context, error):
        return
    try:
        provided = context.get_logger_context()
        provided.__enter__()
        # As if it left the block; `raise` would make this function a part of its traceback.
        provided.__exit__(
            type(error), error, BaseException.__dict__["__traceback__"].__get__(error)
        )
    except BaseException as problem:
        if problem is not error and not was_logged(context, error):
            log_exception(logger, "the logger of %s failed", problem, context.instance.name)
    log_error_once(AttemptLogger.of(context), context, error)  # for loggers that log no errors


def leaves_as_failure(error: BaseException) -> bool:
    """Whether an exception that leaves a body's `with` block is a failure, and logged there.

    A generator that is closed has not failed, nor has a body that its runner interrupts.
    """
    # By type, as everywhere: an error may lie about its class.
    return not issubclass(type(error), (GeneratorExit, BodyInterrupted)) and not is_request(error)


def log_error_once(logger: Any, context: TaskContext, error: BaseException) -> None:
    """Log an exception with its attached context, unless that has been done in this attempt."""
    if was_logged(context, error) or is_request(error):
        return
    mark_logged(context, error)
    note_level(context, logging.ERROR)
    data = shown_context(error)
    message = message_of(error)
    logger.error(
        "failed: %s: %s",
        type_name(error).rpartition(".")[2],
        f"{message} {data}" if data else message,
        exc_info=error,
    )


def is_request(error: BaseException) -> bool:
    """Whether it is no failure, but how a body asks for a retry or a skip."""
    return issubclass(type(error), (RetryRequested, SkipRequested))


def shown_context(error: BaseException) -> dict[str, Any]:
    """What `with_context` attached to an error, masked; a note in place of what cannot be shown."""
    shown: dict[str, Any] = {}
    for key, value in context_of(error).items():
        try:
            shown.update(mask({key: value}))
            repr(shown[key])
        except BaseException as problem:
            shown[key] = f"(cannot be shown: {type_name(problem)})"
    return shown


def note_level(context: TaskContext, level: int) -> None:
    """Remember the highest level that an attempt logged."""
    if level > context.log_level:
        context.log_level = level


def was_logged(context: TaskContext, error: BaseException) -> bool:
    """Whether a logger of this attempt has logged this exception."""
    try:
        logged = BaseException.__getattribute__(error, _LOGGED)
    except AttributeError:
        return False
    return bool(logged == _attempt(context))


def mark_logged(context: TaskContext, error: BaseException) -> None:
    """Note that an exception has been logged in this attempt; another one may raise it again."""
    # Some exceptions refuse attributes, such as frozen dataclasses. None can refuse this.
    BaseException.__setattr__(error, _LOGGED, _attempt(context))


def _attempt(context: TaskContext) -> tuple[str, str, str]:
    instance = context.instance
    return instance.uid, instance.name, instance.record.token


def _formatted(msg: object, args: tuple[Any, ...]) -> str:
    """The message as `logging` would format it, masked; arguments that do not fit follow it."""
    text = str(msg)
    if args:
        shown = tuple(mask_objects(list(args)))
        # `logging` takes a single mapping as the source of named fields.
        values = shown[0] if len(shown) == 1 and isinstance(shown[0], Mapping) else shown
        try:
            text = text % values
        except Exception:
            text = f"{text} {shown!r}"
    return mask_url(text)


def _as_attributes(extra: Mapping[Any, Any]) -> dict[str, Any]:
    """Fields for a record, renamed where they would overwrite what it is made of."""
    named = ((str(key), value) for key, value in extra.items())
    return {f"{key}_" if key in _RESERVED else key: value for key, value in named}


def error_in(exc_info: Any) -> BaseException | None:
    """The exception that a log call's `exc_info` stands for."""
    # By type: an error may lie about its class, and even refuse to be asked whether it is true.
    if type(exc_info) is tuple:
        exc_info = exc_info[1]
    if exc_info is None or issubclass(type(exc_info), BaseException):
        found: BaseException | None = exc_info
        return found
    return sys.exception() if exc_info else None
