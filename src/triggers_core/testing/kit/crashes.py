"""A process that dies at an operation that the test chooses, and another one that takes over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from triggers_core.application import Application
from triggers_core.running.messages import Message
from triggers_core.storages.base import Store
from triggers_core.testing.faults.store import Crash, CrashingStore, CrashPoints
from triggers_core.testing.kit.exchange import Resolve, exchanged
from triggers_core.testing.kit.runner import KitRunner

if TYPE_CHECKING:
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager


class _CrashingRunner(KitRunner):
    """Counts each dispatch as two crash points: before it, and after it."""

    def __init__(self, points: CrashPoints, app: Application) -> None:
        super().__init__(app)
        self.points = points

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self.points.reach("before dispatch")
        super().dispatch(manager, message, task)
        self.points.reach("after dispatch")

    def stop(self) -> None:
        if not self.points.dead:
            self.work()
        self.shutdown()


@contextmanager
def crashing(
    app: Application, store: Store, resolve: Resolve, points: CrashPoints
) -> Iterator[CrashPoints]:
    """Let the process die at a crash point within the block; after it, another one goes on.

    What the dead one had dispatched and not begun is lost, as with threads.
    """
    dying = CrashingStore(store, points)
    runner = partial(_CrashingRunner, points)
    with (
        suppress(Crash),  # also that of a body which dies with its worker
        exchanged(app, dying, runner, resolve, None, guard=False),
    ):
        yield points
