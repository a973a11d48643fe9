"""The same commits, made one after the other without disturbance: they have to come to the same."""

from __future__ import annotations

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Rules
from triggers_core.storages.base import Store
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.simulation.ledger import Ledger
from triggers_core.testing.simulation.optimistic import OptimisticStore


def check_order(
    ledger: Ledger, store: Store, rules: Rules, known: dict[str, Configuration]
) -> None:
    """Make every commit of a run again, in the order of commits, and compare what is stored."""
    clock = VirtualClock(0.0)
    times = [0.0]

    def set_time(step: str) -> None:
        if step == "write":
            clock.now = times[0]

    again = OptimisticStore(clock, set_time, known)
    assert ledger.commits is not None
    for commit in ledger.commits:
        clock.now, times[0] = commit.decided, commit.written
        try:
            again.commit(commit.uid, commit.command, rules)
        except Exception as error:
            ledger.problem(f"{commit.uid}: in order, {commit.command} is refused: {error}")
            return
    for uid in ledger.sessions:
        if again.events(uid) != store.events(uid):
            ledger.problem(f"{uid}: the same commits in order record other events")
        elif again.instances(uid) != store.instances(uid):
            ledger.problem(f"{uid}: the same commits in order lead to other instances")
