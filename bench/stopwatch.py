"""Where the time of an operation goes: parts that pause one another, so that they add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PartOf = Callable[..., str]
"""Gets the arguments of a call and says which part it counts as."""


class Stopwatch:
    """Adds up seconds by part. While a part runs, the one around it does not.

    :param rest: the name of what belongs to no other part.
    """

    def __init__(self, rest: str) -> None:
        self.spent: dict[str, float] = {}
        self._rest = rest
        self._parts: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what happens inside."""
        self.spent.clear()
        self._parts, self._since = [self._rest], time.perf_counter()
        try:
            yield
        finally:
            self._lap()
            self._parts = []

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._parts:
            part = self._parts[-1]
            self.spent[part] = self.spent.get(part, 0.0) + now - self._since
        self._since = now

    def timed(self, function: Callable[..., Any], part_of: PartOf) -> Callable[..., Any]:
        """The function, counted as a part."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._lap()
            self._parts.append(part_of(*arguments))
            try:
                return function(*arguments, **named)
            finally:
                self._lap()
                self._parts.pop()

        return call

    @contextmanager
    def patched(self, module: Any, name: str, part: str) -> Iterator[None]:
        """Time a function of a module meanwhile."""
        original = getattr(module, name)
        setattr(module, name, self.timed(original, lambda *_: part))
        try:
            yield
        finally:
            setattr(module, name, original)

    def proxy(self, target: Any, **methods: PartOf) -> Any:
        """An object like `target` some of whose methods are timed."""
        return _Proxy(
            target, {name: self.timed(getattr(target, name), of) for name, of in methods.items()}
        )


class _Proxy:
    def __init__(self, target: Any, timed: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(timed)
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)
