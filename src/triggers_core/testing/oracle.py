"""What becomes of every instance of a log, worked out from the rules alone.

An independent statement of the fire rule: plain Python, nothing imported from the engine, nothing
indexed and nothing remembered but the events and the instances themselves. Slow on purpose. The
rule that it follows is that of the documentation ("How a fire decides"), for a log whose instances
all finish at once, first scheduled, first finished, before the log's next event.

Example::

    >>> found = instances({"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}}, [
    ...     {"session": "order:1", "trigger": "packed"},
    ...     {"session": "order:1", "trigger": "paid"},
    ... ])
    >>> found["order:1", "t_ship#0"]["status"], found["order:1", "t_ship#0"]["kwargs_from"]
    ('finished', {'packed': 0, 'paid': 1})
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Origin = int | str
"""An event: its place in the log, or ``task:`` and the instance whose cascade it is."""

Described = dict[tuple[str, str], dict[str, Any]]
"""(session, instance) → its status, the event of the log that decided it (`at_event`), which event
gave it each trigger's kwargs (`kwargs_from`) and which of its `unless` triggers it had seen."""


@dataclass
class _Instance:
    task: str
    number: int
    status: str = "unstarted"
    took: dict[str, Origin] = field(default_factory=dict)
    saw: set[str] = field(default_factory=set)
    decided_by: int | None = None

    @property
    def name(self) -> str:
        return f"{self.task}#{self.number}"


class _Session:
    def __init__(self, configuration: Mapping[str, Mapping[str, Any]]) -> None:
        self.configuration = configuration
        self.past: list[tuple[str, Origin]] = []
        self.instances: list[_Instance] = []

    def play(self, trigger: str, place: int) -> None:
        """One event of the log, and all cascades that follow from it."""
        fires: deque[tuple[str, Origin]] = deque([(trigger, place)])
        while fires:
            for ready in self.fire(*fires.popleft(), place):
                ready.status = "finished"
                fires.append((ready.task, f"task:{ready.name}"))

    def fire(self, trigger: str, origin: Origin, place: int) -> list[_Instance]:
        """The instances that it schedules."""
        scheduled = []
        for task, directives in self.configuration.items():
            every, unless = directives.get("andEvery"), set(directives.get("unless") or ())
            required = {*directives.get("after", ()), every} - {None}
            if trigger not in required | unless:
                continue
            of_task = [each for each in self.instances if each.task == task]
            open_ones = [each for each in of_task if each.status == "unstarted"]
            met = [_meets(each, trigger, origin, required, unless) for each in open_ones]
            if not of_task or (trigger == every and not any(met)):
                fresh = _Instance(task, len(of_task))
                for earlier, source in reversed(self.past):  # the latest of each comes first
                    if earlier != trigger:
                        _meets(fresh, earlier, source, required, unless)
                _meets(fresh, trigger, origin, required, unless)
                self.instances.append(fresh)
                open_ones.append(fresh)
            for each in open_ones:
                if unless and unless <= each.saw:
                    each.status, each.decided_by = "abandoned", place
                elif required <= each.took.keys():
                    each.status, each.decided_by = "scheduled", place
                    scheduled.append(each)
        self.past.append((trigger, origin))
        return scheduled


def _meets(
    instance: _Instance, trigger: str, origin: Origin, required: set[str], unless: set[str]
) -> bool:
    """Whether the instance had not met this trigger yet; then it takes and notes it."""
    takes = trigger in required and trigger not in instance.took
    notes = trigger in unless and trigger not in instance.saw
    if takes:
        instance.took[trigger] = origin
    if notes:
        instance.saw.add(trigger)
    return takes or notes


def instances(
    configuration: Mapping[str, Mapping[str, Any]], events: Iterable[Mapping[str, Any]]
) -> Described:
    """Every instance of every session of a log.

    :param configuration: the tasks, as `update_configuration` takes them, with lists of triggers.
    :param events: what happened, in order; `session` and `trigger` of each are read.
    """
    sessions: dict[str, _Session] = {}
    for place, event in enumerate(events):
        session = sessions.setdefault(event["session"], _Session(configuration))
        session.play(event["trigger"], place)
    return {
        (uid, each.name): {
            "status": each.status,
            "at_event": each.decided_by,
            "kwargs_from": each.took,
            "unless_seen": sorted(each.saw),
        }
        for uid, session in sessions.items()
        for each in session.instances
    }


def totals(
    configuration: Mapping[str, Mapping[str, Any]], events: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The sums of a log.

    :returns: `sessions`, `events_fired` and `cascades_fired`; `tasks`, how many instances of each
        `run`, are `abandoned` and `unstarted`; and `per_session` those three for each task of a
        session that has instances.
    """
    log = list(events)
    states = ("finished", "abandoned", "unstarted")
    per_session: dict[str, dict[str, list[int]]] = {}
    for (uid, name), each in instances(configuration, log).items():
        counts = per_session.setdefault(uid, {}).setdefault(name.rpartition("#")[0], [0, 0, 0])
        counts[states.index(each["status"])] += 1
    tasks = {task: {"run": 0, "abandoned": 0, "unstarted": 0} for task in configuration}
    for by_task in per_session.values():
        for task, (run, abandoned, unstarted) in by_task.items():
            tasks[task]["run"] += run
            tasks[task]["abandoned"] += abandoned
            tasks[task]["unstarted"] += unstarted
    return {
        "sessions": len({event["session"] for event in log}),
        "events_fired": len(log),
        "cascades_fired": sum(counts["run"] for counts in tasks.values()),
        "tasks": tasks,
        "per_session": per_session,
    }
