"""The loggers of attempts: the application's own configuration if it has one, else ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache, wraps
from typing import Any, Final, NamedTuple

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from triggers_core.tasks.context import TaskContext
from triggers_structlog.options import Options
from triggers_structlog.processors import NoteLevel, to_json, with_ours


def default_processors() -> list[Processor]:
    """The processors where nothing is configured, but for the last, the renderer."""
    return [
        structlog.stdlib.filter_by_level,
        *fields_of_every_line(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]


def fields_of_every_line() -> list[Processor]:
    """The processors that add what every line has, whoever logs it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def renderer(options: Options, colors: bool = False) -> Processor:
    """The last processor: a line of JSON, or one for people."""
    if options.renderer == "json":
        return to_json
    return ConsoleRenderer(colors=colors, exception_formatter=plain_traceback)


def to_formatter(logger: WrappedLogger, method: str, event: EventDict) -> Any:
    """The last processor of `setup`: the handler's formatter renders the line."""
    return ProcessorFormatter.wrap_for_formatter(logger, method, event)


def bound_logger(
    context: TaskContext, logger: Any, fields: Mapping[str, Any], options: Options
) -> Any:
    """A bound logger that carries the fields on every line.

    :param logger: what the body wants to log through: a logger of `logging` or of structlog; None
        for one that is named like the task.
    """
    if logger is None:
        logger = logging.getLogger(context.task.run)
    if not isinstance(logger, logging.Logger | logging.LoggerAdapter):
        parts = _parts_of(logger.bind())
    elif structlog.is_configured():
        parts = _configured(logger)
    else:
        parts = _Parts(
            logger, [*default_processors(), renderer(options)], structlog.stdlib.BoundLogger, {}
        )
    chain = with_ours(parts.processors, context, options, _traceback_key(parts.processors))
    own_context = type(parts.context)({**parts.context, **fields})
    return noting(parts.kind)(parts.target, processors=chain, context=own_context)


@lru_cache(maxsize=64)
def noting(kind: type[Any]) -> type[Any]:
    """A bound logger's class, but that the level of each call is noted.

    Filtering loggers drop a call before any processor sees it, and the level of an attempt must not
    depend on how the process has set up its logging.
    """

    def noted(method: str) -> Any:
        original = getattr(kind, method)

        @wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            note = next((each for each in self._processors if isinstance(each, NoteLevel)), None)
            if note is not None:
                note(None, method.removeprefix("a"), {})
            return original(self, *args, **kwargs)

        return call

    # Only what does nothing: in a call that emits, another frame would hide who logs.
    members = {
        method: noted(method)
        for method in _METHODS
        if getattr(getattr(kind, method, None), "__name__", "") in ("_nop", "_anop")
    }
    if not members:
        return kind
    return type(kind.__name__, (kind,), {**members, "__module__": kind.__module__})


_METHODS: Final = tuple(
    f"{prefix}{method}"
    for method in ("debug", "info", "warning", "warn", "error", "critical", "fatal", "exception")
    for prefix in ("", "a")
)


class _Parts(NamedTuple):
    """What a bound logger is made of."""

    target: Any
    processors: list[Processor]
    kind: Any
    context: Any


def _parts_of(bound: Any) -> _Parts:
    # structlog lets wrappers such as this one read these.
    context = structlog.get_context(bound)
    return _Parts(bound._logger, list(bound._processors), type(bound), context)


def _configured(logger: Any) -> _Parts:
    """As the application has configured structlog. If not for `logging`, then with its loggers."""
    configured = structlog.get_config()
    factory = configured["logger_factory"]
    if not isinstance(factory, structlog.stdlib.LoggerFactory):
        logger = factory(logger.name)
    context = configured["context_class"]()
    return _Parts(logger, list(configured["processors"]), configured["wrapper_class"], context)


def _traceback_key(processors: list[Processor]) -> str:
    """Where a finished traceback goes.

    For `exception`, which is usual, the console renderer may warn that it would rather format the
    exception itself; `stack` it prints in the same way without complaint.
    """
    last: Any = processors[-1] if processors else None
    for_people = isinstance(last, ConsoleRenderer) or last is ProcessorFormatter.wrap_for_formatter
    return "stack" if for_people else "exception"
