"""`setup`: configures structlog and `logging` alike, for applications that have done neither."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from triggers_core.application import Application, default_application
from triggers_structlog.chains import (
    default_processors,
    fields_of_every_line,
    renderer,
    to_formatter,
)
from triggers_structlog.options import NAME, Options
from triggers_structlog.processors import Exceptions, Redact, Rendered


def setup(
    app: Application | None = None,
    *,
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
    **options: Any,
) -> bool:
    """Set structlog up, unless the application has done that; and the root logger, unless it has.

    Every line, of whichever library, then looks the same, carries the fields of the attempt in
    which it was logged, and has its secrets masked. Call it once, early: in the module that
    `TRIGGERS_SETTINGS_MODULE` names, or in one of `TRIGGER_IMPORTS`.

    If the root logger has handlers already, they and its level stay as they are: the loggers of
    structlog then hand them finished lines.

    :param app: whose options of the plugin count; the default application if not given.
    :param level: of the root logger.
    :param stream: where lines go; standard error if not given. Colours only if it is a terminal,
        and `NO_COLOR` is not set.
    :param options: in place of the application's: ``renderer="json"``, `secret_keys`, `redact`.
    :returns: whether it did; False when structlog was configured before, and nothing has changed.
    :raises InvalidSetting: an option has an unknown name or an impossible value.

    Example::

        triggers_structlog.setup(renderer="json", level="DEBUG")
    """
    chosen = (app or default_application).plugin_options(NAME, Options, **options)
    if structlog.is_configured():
        return False
    last = renderer(chosen) if logging.root.handlers else to_formatter
    structlog.configure(
        processors=[*default_processors(), Exceptions(chosen), Redact(chosen), Rendered(last)],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    if not logging.root.handlers:
        logging.root.addHandler(_handler(chosen, stream or sys.stderr))
        logging.root.setLevel(level)
    return True


def _handler(options: Options, stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    # What comes from structlog has passed all but the last two already.
    foreign: list[Processor] = [
        _finished_traceback,
        structlog.stdlib.ExtraAdder(),
        *fields_of_every_line(),
        Exceptions(options),
    ]
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                Redact(options),
                renderer(options, colors=_on_terminal(stream)),
            ],
        )
    )
    return handler


def _finished_traceback(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Keep a traceback that a record brings as text, as those of the core's own logger do."""
    record: logging.LogRecord = event["_record"]
    if record.exc_text and not record.exc_info:
        event["exception"] = record.exc_text
    return event


def _on_terminal(stream: TextIO) -> bool:
    # A console of Windows takes colours only with a further library.
    return stream.isatty() and not os.environ.get("NO_COLOR") and sys.platform != "win32"
