"""Due times that no right clock can have written.

A clock that was ahead for a moment leaves leases and due times behind that lie far in the future.
Nobody would look at them until then.
"""

from __future__ import annotations

from typing import Final

from triggers_core.engine.records import Instance, Status
from triggers_core.limits import Timing

_TOLERANCE: Final = 1.0  # seconds by which clocks of several machines may differ, and nobody minds


def shortest_reach(timing: Timing) -> float:
    """Seconds ahead up to which every due time can be right; beyond, `is_misdated` decides."""
    return min(timing.lease, timing.redispatch_in(0)) + _TOLERANCE


def is_misdated(instance: Instance, now: float, timing: Timing) -> bool:
    """Whether what an instance waits for lies further ahead than anybody can have asked for."""
    if instance.due_at is None:
        return False
    ahead = instance.due_at - now - _TOLERANCE
    if instance.status is Status.RUNNING:
        return ahead > timing.lease
    if instance.status is Status.SCHEDULED:
        return ahead > timing.redispatch_in(instance.redispatches)
    # A hold begins when its instance is created.
    return instance.not_before is not None and instance.created_at - _TOLERANCE > now
