"""Parts of an application: each made on first use, by one thread, and kept until `reset`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from triggers_core.exceptions import WrongState

if TYPE_CHECKING:
    from triggers_core.application import Application

T = TypeVar("T")


class built(Generic[T]):
    """A part of an application, made on first use, by one thread; kept until `reset`."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, app: None, owner: type) -> Self: ...
    @overload
    def __get__(self, app: Application, owner: type) -> T: ...
    def __get__(self, app: Application | None, owner: type) -> T | Self:
        if app is None:
            return self
        parts, name = app._parts, self._name
        known: Any = parts.get(name)
        if known is not None:
            found: T = known
            return found
        with building(app):
            if name in parts:
                found = parts[name]
                return found
            if app._making.get(name) == threading.get_ident():
                raise WrongState(
                    f"{app!r} is being set up, and its {name} cannot be used before that is"
                    " done: a module or plugin that it loads uses it while it is imported"
                )
            app._making[name] = threading.get_ident()
            try:
                made = self._make(app)
            finally:
                app._making.pop(name, None)
            found = parts.setdefault(name, made)
            return found


@contextmanager
def building(app: Application) -> Iterator[None]:
    """One thread at a time sets an application up; others wait.

    But for one that is in the middle of an import while another one builds: that one may wait
    for the very module.
    """
    builder = app._builder
    if builder not in (None, threading.get_ident()) and _is_importing():
        yield
        return
    with app._lock:
        before, app._builder = app._builder, threading.get_ident()
        try:
            yield
        finally:
            app._builder = before


def _is_importing() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
