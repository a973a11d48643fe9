"""Attempts in the firing thread: where no other one would see what they are about."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from triggers_core.failures import log_exception
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.worker import claim, run_claimed

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager
    from triggers_core.running.messages import Message


logger: logging.Logger = logging.getLogger(__name__)


class _NoHeartbeats(Heartbeats):
    """Renews nothing: no other thread would see the lease, and nobody could take it."""

    def revive(self) -> None:
        """Start no thread."""


class InlineQueue(threading.local):
    """Makes attempts at once, in this thread, one after the other: cascades queue up behind.

    Time limits are not enforced: that takes another thread.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[TriggerManager, Message]] = deque()
        self._busy = False

    def run(self, manager: TriggerManager, message: Message, holder: str) -> None:
        """Make an attempt, and those that it leads to; within a body, when that has ended."""
        self._waiting.append((manager, message))
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                _attempt(*self._waiting.popleft(), holder)
        finally:
            self._waiting.clear()
            self._busy = False


def _attempt(manager: TriggerManager, message: Message, holder: str) -> None:
    heartbeats = _NoHeartbeats(manager.app.rules.timing.heartbeat)
    try:
        claimed = claim(manager, message, holder)
        if claimed is not None:
            run_claimed(manager, claimed, heartbeats, limits=(None, None), passes_on=False)
    except Exception as error:
        log_exception(
            logger,
            "%s %s: the attempt could not be made in this thread",
            error,
            *(message.uid, message.instance),
        )
