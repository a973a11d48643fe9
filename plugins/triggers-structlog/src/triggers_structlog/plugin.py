"""The hook: the logger of a body."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from logging import ERROR, Logger
from types import TracebackType
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from triggers_core import TaskContext, hookimpl
from triggers_core.failures import message_of, type_name
from triggers_core.running.logs import (
    AttemptLogger,
    is_request,
    leaves_as_failure,
    log_fields,
    mark_logged,
    note_level,
    shown_context,
    was_logged,
)
from triggers_core.running.logs import fields as stdlib_fields
from triggers_structlog.chains import bound_logger
from triggers_structlog.options import NAME, Options


@hookimpl
def get_logger_context(
    context: TaskContext, logger: Logger | None, extra: Mapping[str, Any]
) -> AbstractContextManager[Any]:
    """Provide a bound logger of structlog."""
    # Here, not in the context manager: then the core falls back to its own logger.
    options = context.manager.app.plugin_options(NAME, Options)
    own = {str(key): value for key, value in extra.items()}
    fields: dict[str, Any] = options.masked({**log_fields(context), **own})
    return _Bound(context, bound_logger(context, logger, fields, options), fields, options)


class _Bound(AbstractContextManager[Any]):
    """Yields the logger; meanwhile, whatever logs in this context carries the fields."""

    # A class: the context managers of `contextlib` fail on exceptions that refuse attributes.

    def __init__(
        self, context: TaskContext, logger: Any, fields: Mapping[str, Any], options: Options
    ) -> None:
        self._context, self._logger, self._fields, self._options = context, logger, fields, options

    def __enter__(self) -> Any:
        self._stdlib = stdlib_fields.set(self._fields)
        self._tokens = bind_contextvars(**self._fields)
        return self._logger

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None and leaves_as_failure(error):
                _log_once(self._logger, self._context, error, self._options)
        finally:
            reset_contextvars(**self._tokens)
            stdlib_fields.reset(self._stdlib)


def _log_once(logger: Any, context: TaskContext, error: BaseException, options: Options) -> None:
    if was_logged(context, error) or is_request(error):
        return
    kind, message = type_name(error).rpartition(".")[2], message_of(error)
    data = options.masked(shown_context(error))
    try:
        logger.error("failed", error_type=kind, error=message, error_context=data, exc_info=error)
    except (
        BaseException
    ):  # some processor of the application: the failure must be seen all the same
        AttemptLogger.of(context).error("failed: %s: %s %s", kind, message, data, exc_info=error)
    note_level(context, ERROR)
    mark_logged(context, error)
