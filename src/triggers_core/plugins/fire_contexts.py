"""The hooks `fire_context` and `act_context`: context managers around what a manager does.

None of them stops it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from triggers_core.exceptions import ends_the_program, is_time_limit
from triggers_core.failures import log_exception
from triggers_core.plugins.contexts import Contexts, no_context_manager
from triggers_core.plugins.pluggy_manager import Call

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.methods.operations import FireResult

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Firing:
    """An application's fire from beginning to end, as `fire_context` hooks see it."""

    trigger: str
    """As the application gave it: nothing is checked yet."""
    event_id: str | None
    """The id that the application gave; that of the event is in `result`."""
    carrier: dict[str, str] = field(default_factory=dict)
    """What the event carries for tracers; empty at first, to be filled on entering."""
    result: FireResult | None = None
    """What became of it, on leaving; None when it was refused or could not be stored."""

    def __str__(self) -> str:
        return f"a fire of {self.trigger!r}"


@dataclass(eq=False, slots=True)
class Act:
    """A change of a session or instance by hand, as `act_context` hooks see it."""

    name: str
    """The method's name, such as ``replay_failed_instance``; without the ``a`` of its awaitable
    form."""
    instance: str | None = None
    """Name of the instance that it is about, as given: there may be none."""
    carrier: dict[str, str] = field(default_factory=dict)
    """What its events, and the clone of a replay, carry for tracers; to be filled on entering."""
    result: Any = None
    """What the method returns, on leaving; None when it returns nothing or was refused."""

    def __str__(self) -> str:
        return self.name


class FireContexts(Contexts):
    """The context managers of all plugins for one fire, as one. Their errors are logged."""

    __slots__ = ("_calls", "_manager", "_subject")

    hook: ClassVar[str] = "fire_context"

    def __init__(
        self, calls: Sequence[tuple[str, Call]], manager: TriggerManager, subject: Firing | Act
    ) -> None:
        self._entered = []  # a fire notices each call, that of the superclass too
        self._calls, self._manager, self._subject = calls, manager, subject

    def __enter__(self) -> None:
        for plugin, call in self._calls:
            try:
                context = call(self._manager, self._subject)
                if context is None:
                    continue
                if not isinstance(context, AbstractContextManager):
                    left_out = no_context_manager(plugin, self.hook, context, ", which is left out")
                    logger.error("%s", left_out)
                    continue
                context.__enter__()
            except BaseException as error:
                if self._interrupts(error):
                    self._leave(error)
                    raise
                self._log("failed before", plugin, error)
            else:
                self._entered.append((plugin, context))

    def _interrupts(self, problem: BaseException) -> bool:
        return ends_the_program(problem) or is_time_limit(problem)  # that of a body that fires

    def _failed_after(self, plugin: str, problem: BaseException) -> None:
        self._log("failed after", plugin, problem)

    def _log(self, what: str, plugin: str, error: BaseException) -> None:
        problem = "plugin %r: its %s %s %s, which goes on without it"
        log_exception(logger, problem, error, plugin, self.hook, what, self._subject)


class ActContexts(FireContexts):
    """The same for one act."""

    __slots__ = ()

    hook: ClassVar[str] = "act_context"
