"""Whether an error is one of those that a configuration names. Nothing is imported for it."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Iterable
from typing import Any, Final

from triggers_core.exceptions import SoftTimeLimitExceeded, TaskFailure, TimeLimitExceeded


def check_class_name(name: str) -> None:
    """Raise `ValueError` unless `name` could be a class's, with or without its module."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            "expected the name of an exception class such as 'ConnectionError' or"
            f" 'requests.Timeout', got {name!r}"
        )


def named(error: BaseException, names: Iterable[str]) -> str | None:
    """Return the first of `names` that names the error's class or one of its base classes.

    A bare name is that of a class in any module. A dotted one is either where the class is defined
    or any place where a module has it, such as `requests.Timeout`, which is defined in
    `requests.exceptions`. Modules that are not loaded cannot have raised the error: they are left
    alone.

    What the core itself raises to end an attempt (`TaskFailure`: no retries left, a result or
    kwargs that do not fit) would only happen again. It counts as no `Exception` here, and as none
    of the built-in classes: name it by its own name. A time limit that was exceeded is an ordinary
    error.

    Libraries have errors that are no `Exception` so that nobody catches them by accident
    (`gevent.Timeout`, a panic of pyo3). They count as one here, but for those with which Python
    ends things: `SystemExit`, `KeyboardInterrupt`, `GeneratorExit`, `asyncio.CancelledError`.

    Example::

        named(FileNotFoundError(), ["ValueError", "OSError"])  # 'OSError'
    """
    classes = _classes(error)
    return next((name for name in names if any(_is(name, each) for each in classes)), None)


def _classes(error: BaseException) -> list[type[Any]]:
    classes: list[type[Any]] = list(type(error).__mro__)
    if issubclass(type(error), TaskFailure) and not issubclass(type(error), _ORDINARY):
        return [each for each in classes if issubclass(each, TaskFailure)]
    if Exception not in classes and not issubclass(type(error), _ENDINGS):
        classes.append(Exception)
    return classes


_ORDINARY: Final = (TimeLimitExceeded, SoftTimeLimitExceeded)
_ENDINGS: Final = (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError)


def _is(name: str, kind: type[Any]) -> bool:
    module, _, attribute = name.rpartition(".")
    if not module:
        return name == kind.__name__
    if name == f"{kind.__module__}.{kind.__qualname__}":
        return True
    # Looked up in the module's own dictionary: `getattr` could make a module import something.
    return module in sys.modules and vars(sys.modules[module]).get(attribute) is kind
