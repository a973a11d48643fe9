"""What is kept of a failure: its type, message, traceback and attached context, capped.

Recording a failure must not fail, and must not leak: tracebacks carry no local variables, and what
looks like a secret is masked. Errors may be hostile: their text, attributes, class and metaclass
may raise, even what is no `Exception`. So nothing here asks an error for anything without a guard.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, cast

from triggers_core import payloads
from triggers_core.exceptions import context_of
from triggers_core.limits import Limits
from triggers_core.redaction import mask, mask_url

MESSAGE_SIZE: Final = 16_384
"""Characters of a message that are shown at most, as many as `Limits.record_bytes` by default."""

_LONGEST_TRACEBACK: Final = 262_144


def describe_error(error: BaseException, limits: Limits | None = None) -> dict[str, Any]:
    """Describe an error for an instance's metadata; never raises.

    :returns: ``{"type", "message", "traceback"?, "context"?}``; text only, each part capped so
        that the whole fits `Limits.record_bytes`.
    """
    room = (limits or Limits()).record_bytes
    described: dict[str, Any] = {
        "type": type_name(error),
        "message": message_of(error, room // 8),
    }
    if _traceback_of(error) is not None:
        described["traceback"] = traceback_of(error, room // 4)
    try:
        context = context_of(error)
        if context:
            described["context"] = _shown(context, room // 4)
    except BaseException as problem:
        described["context"] = {"(lost)": _why_not(problem)}
    return described


def _shown(context: Mapping[str, Any], room: int) -> Any:
    plain: dict[str, Any] = {}
    for key, value in context.items():
        try:
            # Objects become text on the way, and that may show secrets too.
            kept = payloads.encode_leniently(mask({key: value}), room)
            plain.update(payloads.decode(kept))
        except BaseException as problem:  # such as a request's headers outside of the request
            plain[key] = _why_not(problem)
    return mask(payloads.decode(payloads.encode_leniently(plain, room)))


def _why_not(problem: BaseException) -> str:
    return f"(cannot be shown: {type_name(problem)}: {message_of(problem, 200)})"


def message_of(error: BaseException, size: int = MESSAGE_SIZE) -> str:
    """An error's message, secrets masked; never raises.

    :param size: characters to keep at most, from both ends.
    """
    return _masked(_text(error), size)


def traceback_of(error: BaseException, size: int | None = None) -> str:
    """An error's traceback as text: no local variables, secrets masked; never raises.

    :param size: characters to keep at most, from both ends; None keeps all that is sane.
    """
    text = "".join(_traceback(error)).rstrip("\n")
    return _masked(text, _LONGEST_TRACEBACK if size is None else size)


def log_exception(
    logger: logging.Logger,
    message: str,
    error: BaseException,
    *args: object,
    level: int = logging.ERROR,
    stacklevel: int = 1,
) -> None:
    """Log an error with its traceback, in place of `logger.exception`: secrets are masked.

    The record holds the traceback as text (`exc_text`), never the exception itself, which a handler
    would format anew. Never raises.

    :param message: with places for `args`, as `logging` has them.

    Example::

        except Exception as error:
            log_exception(logger, "the sweep of %r failed", error, store)
    """
    try:
        if not logger.isEnabledFor(level):
            return
        try:
            text = message % args if args else message
        except BaseException:
            text = message
        path, line, function, _ = logger.findCaller(stacklevel=stacklevel + 1)
        shown = _masked(text, MESSAGE_SIZE)
        record = logger.makeRecord(logger.name, level, path, line, shown, (), None, function)
        record.exc_text = traceback_of(error, MESSAGE_SIZE)
        logger.handle(record)
    except Exception:  # a handler or filter of the application
        return


def type_name(error: BaseException) -> str:
    """The name of an error's class, with its module unless it is built in; never raises."""
    kind = type(error)
    # As `type` has them: a metaclass may answer otherwise, or not at all.
    module, name = _of_class(kind, "__module__"), _of_class(kind, "__qualname__")
    return name if module == "builtins" else f"{module}.{name}"


def _of_class(kind: type, attribute: str) -> str:
    try:
        return _exact(type.__dict__[attribute].__get__(kind))
    except BaseException:
        return "?"


def _exact(text: object) -> str:
    # A subclass of str may bring methods of its own.
    if not issubclass(type(text), str):
        raise TypeError
    return str.__getitem__(cast(str, text), slice(None)) + ""


def _text(error: BaseException) -> str:
    try:
        return _exact(str(error))
    except BaseException:
        return f"(the message of this {type_name(error)} cannot be shown)"


def _traceback_of(error: BaseException) -> TracebackType | None:
    found: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return found


def _traceback(error: BaseException) -> list[str]:
    try:
        return [_exact(line) for line in traceback.format_exception(error)]
    except BaseException:  # a broken __str__ somewhere in the chain
        pass
    try:
        return [*traceback.format_tb(_traceback_of(error)), f"{type_name(error)}: {_text(error)}"]
    except BaseException:  # source lines that cannot be read, a loader that fails
        return [f"{type_name(error)}: {_text(error)}"]


def _masked(text: str, size: int) -> str:
    """The two ends of a text, secrets masked. Cut first: masking takes time."""
    return mask_url(text, size=size)
