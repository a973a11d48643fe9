"""Due times that are special to sweeps: those so soon that they are to be told of, and wrong ones.

A clock that was ahead for a moment leaves leases and due times behind that lie far in the future.
Nobody would look at them until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.records import Instance, Status
from triggers_core.engine.waits import moment_key
from triggers_core.limits import Timing

if TYPE_CHECKING:
    from triggers_core.engine.protocol import Change, Plan

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
    # The cooldown of a replay begins when that is created.
    return bool(instance.parent) and instance.created_at - _TOLERANCE > now


def due_soon(plan: Plan[Any], timing: Timing, now: float) -> float | None:
    """When a plan's next instance falls due, if that is before sweeps would look by themselves.

    What the protocol watches over, a dispatch or a lease, is none of that, as it lies farther ahead
    than that: so fires that schedule something, claims and heartbeats answer None.

    :param now: when the plan was stamped.
    :returns: seconds since 1970; None: nobody need be told.
    """
    soonest: float | None = None
    for change in plan.changes:
        at = change.instance.due_at
        if (
            at is not None
            and at < now + timing.sweep
            and (soonest is None or at < soonest)
            and _is_news(change, timing)
        ):
            soonest = at
    return soonest


def _is_news(change: Change, timing: Timing) -> bool:
    status = change.instance.status
    if status is Status.UNSTARTED:  # held, or before a deadline: unless it was so before
        at = change.instance.due_at
        return at is not None and moment_key(at) not in change.waits_before
    # What is scheduled for less is to be tried elsewhere, such as a task that is unknown here.
    return (
        status is Status.SCHEDULED
        and change.due_in is not None
        and change.due_in < timing.redispatch_after
    )
