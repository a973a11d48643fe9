"""Faults on purpose: what goes wrong in production, where and when a test wants it.

- `CrashPoints`: a process that dies at the operation that you choose.
- `FaultPlan`: errors, lost replies and delays, at rates for each method, from a seed.
- `FaultyStore`: any store, with one of the two.
- `Broker`, `Delivery`: messages that are lost, repeated, reordered and late.
- `SkewedClock`: a clock that runs beside the others and is set, forwards and back.
- `FrozenWorker`: a worker that stops for a while and goes on as if nothing had happened.

Example::

    plan = FaultPlan(seed=7, errors={"commit": 0.1}, lost_replies={"commit": 0.1})
    app = Application("shop", store=FaultyStore(MemoryStore(), plan), runner=ManualRunner)
"""

from __future__ import annotations

from triggers_core.testing.faults.clocks import SkewedClock
from triggers_core.testing.faults.delivery import Broker, Delivery
from triggers_core.testing.faults.frozen import FrozenWorker
from triggers_core.testing.faults.store import (
    Crash,
    CrashingStore,
    CrashPoints,
    FaultPlan,
    Faults,
    FaultyStore,
    InjectedError,
    Journal,
)

__all__ = [
    "Broker",
    "Crash",
    "CrashPoints",
    "CrashingStore",
    "Delivery",
    "FaultPlan",
    "Faults",
    "FaultyStore",
    "FrozenWorker",
    "InjectedError",
    "Journal",
    "SkewedClock",
]
