"""A scenario in which time decides: deadlines, holds and counts, with a fault, and compared.

A task runs late and another one compensates, a hold ends and another one is called off, a burst of
events is one, a count completes, more falls due at a time than one commit works off, and tasks come
later that catch up on the past. Events of the application have times of their own, so all that they
decide does, too: at what moment, whoever looks, and when. Only bodies may run later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.records import Event, Instance, Source
from triggers_core.engine.recovery import Recover
from triggers_core.running.sweep import recover
from triggers_core.storages.base import Store
from triggers_core.tasks import trigger_task
from triggers_core.tasks.context import TaskContext
from triggers_core.testing.crash_scenario import UID, Facts, Fault, Outcome, Process
from triggers_core.testing.faults.delivery import InlineRunner

_ROUNDS: Final = 200  # of the sweep, up to an event; far above what any run needs


@trigger_task(name=f"{__name__}.Plain")
def _plain(context: TaskContext) -> dict[str, Any]:
    _begin(context)
    return {"with": sorted(context.trigger_kwargs)}


@trigger_task(name=f"{__name__}.Broken")
def _broken(context: TaskContext) -> dict[str, Any]:
    _begin(context)
    raise ValueError("broken for good")


def _begin(context: TaskContext) -> None:
    runner = context.manager.app.runner()
    assert isinstance(runner, InlineRunner)
    runner.body(context.instance.name)


def _task(run: Any = _plain, **directives: Any) -> dict[str, Any]:
    return {**directives, "run": run.name}


FIRST: Final[dict[str, dict[str, Any]]] = {
    "t_ship": _task(after=["placed", "paid"], within=600, otherwise={"late": "ship_late"}),
    "t_refund": _task(after=["placed", "ship_late"]),
    "t_remind": _task(
        after=["placed"], unless=[{"anyOf": ["paid", "cancelled"]}], waiting="5 minutes"
    ),
    "t_watch": _task(
        after=["placed"],
        unless=["cancelled"],
        waiting="20 minutes",
        otherwise={"calledOff": "watch_off"},
    ),
    "t_save": _task(after=["edited"], keeping="latest", waiting=60, everyTime=True),
    "t_batch": _task(after=[{"atLeast": 2, "of": "edited"}], everyTime=True),
    "t_item": _task(
        andEvery="item", after=["packed"], within=50, otherwise={"late": "item_missing"}
    ),
    "t_missing": _task(after=[{"atLeast": 5, "of": "item_missing"}]),
    "t_broken": _task(_broken, after=["placed"], otherwise="broken"),
    "t_repair": _task(after=["broken"]),
}

LATER: Final[dict[str, dict[str, Any]]] = {
    "t_audit": _task(after=["placed", "audited"], within=700, otherwise={"late": "not_audited"}),
    "t_thank": _task(after=["edited"], keeping="all", waiting=1_200),
    "t_report": _task(after=["not_audited"]),
}

EVENTS: Final = (
    (0, "placed"),
    (10, "edited"),
    (40, "edited"),
    (90, "edited"),
    *((150 + n, "item") for n in range(5)),
    (250, "edited"),  # finds all that was due before it, if no sweep does
    (310, "edited"),  # at the very moment that a hold ends
    (590, "item"),
    (800, "configure"),
    (900, "cancelled"),
    (2_000, "end"),
)
"""Seconds from the start → what happens then."""


class TimedProcess(Process):
    """One life of an application that goes by the clock."""

    def run(self) -> None:
        """Each event at its time, or as soon after it as the process lives."""
        manager, start = self.app.manager(UID), 1_000_000_000.0
        manager.update_configuration(FIRST)
        for number, (seconds, trigger) in enumerate(EVENTS):
            self.pass_time(start + seconds)
            if trigger == "configure":
                manager.update_configuration(LATER, past=True)
            else:
                manager.fire(trigger, {"number": number}, event_id=f"event {number}")
            self.runner.work()
        self.settle()

    def pass_time(self, until: float) -> None:
        """Let time pass up to an event; the sweep looks whenever something is due."""
        for _ in range(_ROUNDS):
            self.runner.work()
            due = self.store.next_due()
            if due is None or self.clock.now + due >= until:
                break
            self.clock.advance(max(due, 0.0))
            self.sweep()
        else:
            raise AssertionError(f"after {_ROUNDS} sweeps something is due: {self.store.due()}")
        self.clock.advance(max(until - self.clock.now, 0.0))

    def sweep(self) -> None:
        """Look after what is due."""
        recover(self.store, self.app.manager)

    @staticmethod
    def facts(store: Store) -> Facts:
        """Instances by what decided them, and when; events, but for when a body made them."""
        found: Facts = Counter()
        events = store.events(UID)
        for each in store.instances(UID):
            numbers = sorted(n for taken in each.taken.values() for n in taken)
            taken = [f"{events[n].trigger} at {_at(events[n])}" for n in numbers]
            amounts = [f"{key}: {extent.amount}" for key, extent in each.extents.items()]
            facts = (each.status, str(each.why), _moment(each, events), *taken, *amounts)
            found["instance", each.name, *facts] += 1
        for event in events:
            words = [f"{k}={v}" for k, v in sorted(payloads.decode(bytes(event.payload)).items())]
            found["event", event.trigger, event.cause, _at(event), *words] += 1
        return found


def _at(event: Event) -> str:
    """The time of an event, unless a body decides it, which may run later."""
    by_body = event.source is Source.INSTANCE and (
        event.trigger == split_instance_name(event.cause)[0] or event.trigger == "broken"
    )
    return "later" if by_body else f"{event.at:.6f}"


def _moment(instance: Instance, events: list[Event]) -> str:
    if instance.moment is not None:
        return f"{instance.moment:.6f}"
    return "never" if instance.scheduled_by < 0 else _at(events[instance.scheduled_by])


class SweptSeldom(TimedProcess):
    """Nobody sweeps between two events: each of them finds what is due."""

    def pass_time(self, until: float) -> None:
        self.runner.work()
        self.clock.advance(max(until - self.clock.now, 0.0))


class SweptBackwards(TimedProcess):
    """Each sweep looks at all instances but the one that is due first, the last ones first."""

    def sweep(self) -> None:
        names = [each.instance for each in self.store.due() if each.uid == UID]
        chosen = tuple(reversed(names[1:])) or tuple(names)
        self.app.manager(UID).commit(Recover(instances=chosen))


def every_decision(expected: Outcome) -> Iterator[Fault]:
    """Each crash point at a commit that may work off what is due, but for those of workers."""
    for number, point in enumerate(expected.points, 1):
        if point.split()[-1] in ("Fire", "Configure", "Recover"):
            yield Fault(crash_at=number)
