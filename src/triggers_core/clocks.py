"""Times that no right clock can have written, and how the sweep notices that a clock was set.

A clock that was ahead for a moment leaves leases and due times behind that lie far in the future.
Nobody would look at them until then. Pure, but for the `Drift` of two clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from triggers_core.protocol import Timing
from triggers_core.records import Instance, Status

_SLACK: Final = 1.0  # seconds by which clocks of several machines may differ, and nobody minds


def shortest_reach(timing: Timing) -> float:
    """Seconds ahead up to which every due time can be right; beyond, `is_misdated` decides."""
    return min(timing.lease, timing.redispatch_in(0)) + _SLACK


def is_misdated(instance: Instance, now: float, timing: Timing) -> bool:
    """Whether what an instance waits for lies further ahead than anybody can have asked for."""
    if instance.due_at is None:
        return False
    ahead = instance.due_at - now - _SLACK
    if instance.status is Status.RUNNING:
        return ahead > timing.lease
    if instance.status is Status.SCHEDULED:
        return ahead > timing.redispatch_in(instance.redispatches)
    # A hold begins when its instance is created.
    return instance.not_before is not None and instance.created_at - _SLACK > now


class Drift:
    """Notices that a clock was set: it and the monotonic one have gone different ways.

    Example::

        drift = Drift()
        if drift.noticed(store.now()):
            look_at_what_is_far_ahead()
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._offset: float | None = None

    def noticed(self, now: float) -> bool:
        """Whether the clock was set since the last call; True the first time."""
        offset, known = now - self._steady(), self._offset
        if known is not None and abs(offset - known) <= _SLACK:
            return False
        self._offset = offset
        return True
