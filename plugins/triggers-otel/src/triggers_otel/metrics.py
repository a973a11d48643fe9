"""The metrics: what commits did, when attempts began and how they ended.

No label holds what an event or a session says: names of triggers and tasks, outcomes, sources.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.metrics import Meter

from triggers_core.engine.attempts import Claimed
from triggers_core.engine.protocol import Change, Plan
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.engine.recovery import Recovered
from triggers_core.engine.taken_events import taken_events
from triggers_otel.tallies import Bounded, Tally

FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
"""Bounds in seconds, for what computers take."""

LONG: Final = (
    0.1,
    1,
    10,
    60,
    300,
    1_800,
    3_600,
    14_400,
    43_200,
    86_400,
    259_200,
    604_800,
    2_592_000,
)
"""Bounds in seconds, for what people take: up to a month."""

OUTCOMES: Final = {
    Status.FINISHED: "finished",
    Status.FAILED: "failed",
    Status.SKIPPED: "skipped",
    Status.REPLAYED: "retried",
}
"""Status of an instance after its attempt → outcome of the attempt. Besides: ``lost``, its worker
is gone. (An attempt that a worker leaves to others, as it does not know the task, is none.)"""

_EVENTS: Final = 1_000  # events of one instance that are looked at

_RUNNING, _SCHEDULED = Status.RUNNING, Status.SCHEDULED


class Instruments:
    """What counts and measures, on a meter."""

    def __init__(self, meter: Meter) -> None:
        self.events = Tally(("messaging.destination.name", "triggers.source"))
        self.attempts = Tally(("triggers.task", "triggers.outcome"))
        self.lost = Tally(("triggers.task",))
        self._tasks, self._outcomes, self._waits = Bounded(), Bounded(), Bounded()
        meter.create_observable_counter(
            "triggers.events",
            [self.events.observe],
            unit="{event}",
            description="Events recorded, by trigger and by who fired them",
        )
        meter.create_observable_counter(
            "triggers.attempts",
            [self.attempts.observe],
            unit="{attempt}",
            description="Attempts that ended, by task and outcome",
        )
        meter.create_observable_counter(
            "triggers.leases.lost",
            [self.lost.observe],
            unit="{lease}",
            description="Leases that ran out: the worker died, hung or could not reach the store",
        )
        self.duration = meter.create_histogram(
            "triggers.attempt.duration",
            unit="s",
            description="From claim to outcome, by task and outcome",
            explicit_bucket_boundaries_advisory=FAST,
        )
        self.delay = meter.create_histogram(
            "triggers.start.delay",
            unit="s",
            description="From the last event that an instance waited for to its first attempt",
            explicit_bucket_boundaries_advisory=FAST,
        )
        self.wait = meter.create_histogram(
            "triggers.trigger.wait",
            unit="s",
            description="From an instance's first event to the one of this trigger",
            explicit_bucket_boundaries_advisory=LONG,
        )

    def see(self, plan: Plan[Any]) -> None:
        """Count and measure what one commit did."""
        for event in plan.events:
            self.events.add((event.trigger, event.source._value_))  # `.value` takes thrice the time
        swept = isinstance(plan.outcome, Recovered)
        for change in plan.changes:
            if change.before is _RUNNING:
                if not swept:  # else its worker is lost
                    self._see_end(change)
            elif change.before is _SCHEDULED and change.instance.status is _RUNNING:
                self._see_start(change.instance, plan.outcome)
        if swept:
            for name, _, _ in plan.outcome.lost:
                task = (name.rpartition("#")[0],)
                self.lost.add(task)
                self.attempts.add((*task, "lost"))

    def _see_end(self, change: Change) -> None:
        instance = change.instance
        outcome = OUTCOMES.get(instance.status)
        if outcome is None:
            return  # a heartbeat, or its worker passes it on
        self.attempts.add((instance.task, outcome))
        if instance.started_at is not None and instance.ended_at is not None:
            task, ended = self._outcomes((instance.task, outcome))
            took = max(0.0, instance.ended_at - instance.started_at)
            self.duration.record(took, {"triggers.task": task, "triggers.outcome": ended})

    def _see_start(self, instance: Instance, claimed: object) -> None:
        first = instance.attempt == 1 and not instance.parent
        if not first or instance.started_at is None or not isinstance(claimed, Claimed):
            return
        events = taken_events(instance, claimed.events, _EVENTS)
        if not events:
            return
        latest = max(event.at for event in events)
        (task,) = self._tasks((instance.task,))
        self.delay.record(max(0.0, instance.started_at - latest), {"triggers.task": task})
        self._see_waits(instance.task, events)

    def _see_waits(self, task: str, events: list[Event]) -> None:
        began = min(event.at for event in events)
        came = {event.trigger: event.at for event in events}  # of several, the last
        for trigger, at in came.items():
            shown, by = self._waits((task, trigger))
            labels = {"triggers.task": shown, "messaging.destination.name": by}
            self.wait.record(at - began, labels)
