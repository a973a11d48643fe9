"""The hook `body_context`: context managers around a body, entered in order, all of them left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from triggers_core.exceptions import BodyInterrupted, PluginError, ends_the_program
from triggers_core.failures import log_exception
from triggers_core.plugins.pluggy_manager import Call, noted

if TYPE_CHECKING:
    from triggers_core.tasks import TaskContext

logger: logging.Logger = logging.getLogger(__name__)

_HOOK = "body_context"


class BodyContexts:
    """The context managers of all plugins for one body, as one.

    :raises Exception: on entering, what an implementation or its `__enter__` raised, with a note
        that names the plugin. Those that were entered have been left then.
    :raises PluginError: on entering, an answer that is no context manager.

    Leaving raises nothing but what interrupts the program: errors are logged, and what the body
    raised goes on whatever they say to it.
    """

    def __init__(self, calls: Sequence[tuple[str, Call]], context: TaskContext) -> None:
        self._calls, self._context = calls, context
        self._entered: list[tuple[str, AbstractContextManager[Any]]] = []

    def __enter__(self) -> None:
        try:
            for plugin, call in self._calls:
                manager = noted(plugin, _HOOK, call, self._context)
                if manager is None:
                    continue
                if not isinstance(manager, AbstractContextManager):
                    raise PluginError(
                        f"plugin {plugin!r}: its {_HOOK} answered a {type(manager).__name__}: it"
                        " has to answer a context manager (with __enter__ and __exit__), or None"
                    )
                noted(plugin, _HOOK, manager.__enter__)
                self._entered.append((plugin, manager))
        except BaseException as error:
            self._leave(error)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        interruption: BaseException | None = None
        while self._entered:
            plugin, manager = self._entered.pop()
            try:
                if error is None:
                    manager.__exit__(None, None, None)
                else:
                    manager.__exit__(type(error), error, error.__traceback__)
            except BaseException as problem:
                if problem is error:
                    continue  # it passed it on itself
                if isinstance(problem, BodyInterrupted) or ends_the_program(problem):
                    interruption = problem
                    continue
                log_exception(
                    logger,
                    "plugin %r: its body_context failed after the body of %s; the outcome stays",
                    problem,
                    plugin,
                    self._context.instance.name,
                )
        if interruption is not None:
            raise interruption
