"""A worker that freezes: a paused container, a laptop whose lid was closed, a long collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_core.engine.attempts import AttemptResult, Claimed
from triggers_core.running.messages import Message
from triggers_core.running.worker import claim, run_claimed
from triggers_core.testing.faults.delivery import CalledHeartbeats

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager


class FrozenWorker:
    """Claims an instance and stops there: no heartbeat, no body, until it is thawed.

    By then its lease may have run out and others may have done its work. It does not know, and goes
    on: its body runs, and what it wants to store is refused.

    :param manager: of the session.
    :param message: the attempt to make.

    Example::

        zombie = FrozenWorker(manager, runner.messages[0])
        clock.advance(61)
        manager.recover()  # attempt 2 follows
        runner.work()
        assert zombie.thaw() is None  # attempt 1 is told that it lost its lease
    """

    def __init__(self, manager: TriggerManager, message: Message) -> None:
        self.manager = manager
        self.claimed: Claimed | None = claim(manager, message)

    def thaw(self) -> AttemptResult | None:
        """Go on; how the attempt ended, None if its outcome was refused or nothing was claimed."""
        if self.claimed is None:
            return None
        heartbeats = CalledHeartbeats(self.manager.app.rules.timing.heartbeat)
        return run_claimed(self.manager, self.claimed, heartbeats)
