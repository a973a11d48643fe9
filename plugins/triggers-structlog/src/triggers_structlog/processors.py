"""What every line of an attempt goes through, besides the processors that lay it out."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from structlog.typing import EventDict, Processor, WrappedLogger

from triggers_core.failures import traceback_of
from triggers_core.running.logs import (
    TRACEBACK_SIZE,
    error_in,
    mark_logged,
    note_level,
    shown_context,
)
from triggers_core.tasks.context import TaskContext
from triggers_core.texts import short_repr
from triggers_structlog.options import Options

_ERROR: Final = "__triggers_error__"  # where a line keeps its exception on the way
_LEVELS: Final = {name.lower(): n for name, n in logging.getLevelNamesMapping().items()} | {
    "exception": logging.ERROR
}


class Exceptions:
    """Turns `exc_info` into a traceback in text, without local variables, and masked.

    Also adds what `with_context` attached to the exception, as `error_context`.

    :param key: where the text goes. For `exception`, which is usual, the console renderer warns
        when it would rather format exceptions itself; for `stack` it does not.
    """

    def __init__(self, options: Options, key: str = "exception") -> None:
        self._options, self._key = options, key

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        error = error_in(event.pop("exc_info", None))
        if error is not None:
            event[self._key] = self._options.masked_text(traceback_of(error, TRACEBACK_SIZE))
            if data := shown_context(error):
                event.setdefault("error_context", data)
            event[_ERROR] = error
        return event


class Redact:
    """Masks secrets, wherever in the line they are."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event.pop(_ERROR, None)
        masked: EventDict = self._options.masked(event)
        return masked


class NoteLevel:
    """Comes first, before anything filters: notes the level, whatever logging is set to."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        note_level(self.context, level_of(method))
        return event


def level_of(method: str) -> int:
    """The level of a logger's method, as `logging` counts."""
    return _LEVELS.get(method, logging.NOTSET)


class MarkLogged:
    """Comes last: what is here will be emitted. Notes that its error is logged."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        level = level_of(method)
        if isinstance(logger, logging.Logger) and not logger.isEnabledFor(level):
            return event  # the logger is about to drop it
        error = event.get(_ERROR)
        if error is not None and level >= logging.ERROR:
            mark_logged(self._context, error)
        return event


def with_ours(
    processors: list[Processor], context: TaskContext, options: Options, key: str
) -> list[Processor]:
    """An application's processors, with ours at their beginning and before the last, the renderer.

    Exceptions are formatted first, so that nobody else does; and looked for again at the end,
    because some processor may have found one.
    """
    exceptions = Exceptions(options, key)
    theirs = [each for each in processors[:-1] if not isinstance(each, Exceptions | Redact)]
    # Those of `setup` may have been given other keys.
    redact = [each for each in processors[:-1] if isinstance(each, Redact)]
    chain: list[Processor] = [NoteLevel(context), exceptions, *theirs, exceptions]
    chain += [MarkLogged(context), Redact(options)]
    return [*chain, *redact, *map(Rendered, processors[-1:])]


class Rendered:
    """A renderer, after which the logger is kept from adding the traceback once more, unmasked."""

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        rendered: Any = self._renderer(logger, method, event)
        adds_it = method == "exception" and isinstance(
            logger, logging.Logger | logging.LoggerAdapter
        )
        if not adds_it:
            return rendered
        if isinstance(rendered, tuple):
            args, kwargs = rendered
        elif isinstance(rendered, dict):
            args, kwargs = (), rendered
        else:
            args, kwargs = (rendered,), {}
        return args, {**kwargs, "exc_info": False}


def to_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render a line as JSON; objects become their `repr`. Never raises."""
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except Exception:  # keys that are no text, lone surrogates, broken objects
        plain = {str(key): short_repr(value, 1_000) for key, value in event.items()}
        return msgspec.json.encode(plain).decode()
