"""Logging of attempts with the standard library: who speaks, how loud it got, errors once.

Plugins may answer `get_logger_context` with another logger; this is the core's own answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from triggers_core.exceptions import context_of
from triggers_core.redaction import mask

if TYPE_CHECKING:
    from triggers_core.tasks import TaskContext

_LOGGED = "__triggers_logged__"

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
    """A logger that adds the attempt's fields and notes the highest level emitted."""

    def __init__(
        self, logger: logging.Logger, context: TaskContext, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(logger, mask(dict(extra)))
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
        kwargs["extra"] = {**(self.extra or {}), **mask(dict(kwargs.get("extra") or {}))}
        instance = self._context.instance
        return f"[{instance.uid} {instance.name}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            note_level(self._context, level)
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            super().log(level, msg, *args, **kwargs)


@contextmanager
def stdlib_logger_context(
    context: TaskContext, logger: logging.Logger | None, extra: Mapping[str, Any]
) -> Iterator[AttemptLogger]:
    """The core's answer to the hook `get_logger_context`."""
    adapter = AttemptLogger.of(context, logger, extra)
    token = fields.set(adapter.extra or {})
    try:
        yield adapter
    except Exception as error:
        log_error_once(adapter, context, error)
        raise
    finally:
        fields.reset(token)


def log_error_once(logger: Any, context: TaskContext, error: BaseException) -> None:
    """Log an exception with its attached context, unless that has been done."""
    if was_logged(error):
        return
    mark_logged(error)
    note_level(context, logging.ERROR)
    data = mask(context_of(error))
    logger.error(
        "failed: %s: %s",
        type(error).__name__,
        f"{error} {data}" if data else error,
        exc_info=error,
    )


def note_level(context: TaskContext, level: int) -> None:
    """Remember the highest level that an attempt logged."""
    context.log_level = max(context.log_level, level)


def was_logged(error: BaseException) -> bool:
    """Whether a logger context has logged this exception."""
    return bool(getattr(error, _LOGGED, False))


def mark_logged(error: BaseException) -> None:
    """Note that an exception has been logged."""
    setattr(error, _LOGGED, True)
