"""The hook `body_context`: context managers around a body, entered in order, all of them left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from triggers_core.exceptions import BodyInterrupted, PluginError
from triggers_core.failures import log_exception
from triggers_core.plugins.contexts import Contexts, no_context_manager
from triggers_core.plugins.pluggy_manager import Call, noted

if TYPE_CHECKING:
    from triggers_core.tasks.context import TaskContext

logger: logging.Logger = logging.getLogger(__name__)

_HOOK = "body_context"


class BodyContexts(Contexts):
    """The context managers of all plugins for one body, as one.

    :raises Exception: on entering, what an implementation or its `__enter__` raised, with a note
        that names the plugin. Those that were entered have been left then.
    :raises PluginError: on entering, an answer that is no context manager.
    """

    def __init__(self, calls: Sequence[tuple[str, Call]], context: TaskContext) -> None:
        super().__init__()
        self._calls, self._context = calls, context

    def __enter__(self) -> None:
        try:
            for plugin, call in self._calls:
                manager = noted(plugin, _HOOK, call, self._context)
                if manager is None:
                    continue
                if not isinstance(manager, AbstractContextManager):
                    raise PluginError(no_context_manager(plugin, _HOOK, manager))
                noted(plugin, _HOOK, manager.__enter__)
                self._entered.append((plugin, manager))
        except BaseException as error:
            self._leave(error)
            raise

    def _interrupts(self, problem: BaseException) -> bool:
        return isinstance(problem, BodyInterrupted) or super()._interrupts(problem)

    def _failed_after(self, plugin: str, problem: BaseException) -> None:
        log_exception(
            logger,
            "plugin %r: its body_context failed after the body of %s; the outcome stays",
            problem,
            plugin,
            self._context.instance.name,
        )
