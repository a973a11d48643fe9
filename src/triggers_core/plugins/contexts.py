"""Context managers of plugins around one thing: entered in order, and all of them left."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from triggers_core.exceptions import ends_the_program


class Contexts:
    """What plugins answered to a hook, as one context manager; a subclass enters them.

    Leaving raises nothing but what interrupts the program: errors are told, and what was raised
    within goes on whatever they say to it.
    """

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[tuple[str, AbstractContextManager[Any]]] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entered:
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        interruption: BaseException | None = None
        while self._entered:
            plugin, context = self._entered.pop()
            try:
                if error is None:
                    context.__exit__(None, None, None)
                else:
                    context.__exit__(type(error), error, error.__traceback__)
            except BaseException as problem:
                if problem is error:
                    continue  # it passed it on itself
                if self._interrupts(problem):
                    interruption = problem
                    continue
                self._failed_after(plugin, problem)
        if interruption is not None:
            raise interruption

    def _interrupts(self, problem: BaseException) -> bool:
        """Whether what one raised on being left is no error of its own."""
        return ends_the_program(problem)

    def _failed_after(self, plugin: str, problem: BaseException) -> None:
        """Tell of an error on leaving."""
        raise NotImplementedError


def no_context_manager(plugin: str, hook: str, answer: object, consequence: str = "") -> str:
    """What is said of an answer that cannot be entered."""
    return (
        f"plugin {plugin!r}: its {hook} answered a {type(answer).__name__}{consequence}: it has to"
        " answer a context manager (with __enter__ and __exit__), or None"
    )
