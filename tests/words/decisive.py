"""What decided something in a scenario: for a summary of what random scenarios are good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from words.scenarios import Scenario


def decisive(module: ModuleType, session: Any, scenario: Scenario) -> set[str]:
    """The words that decided something in a session of the oracle, and how."""
    found = {f"step {what}" for what, *_ in scenario.steps}
    for instance in session.instances:
        found.update(_of_instance(module, session, instance))
    found.update(_of_events(session))
    found.update(_of_configurations(session, scenario))
    return found


def _of_instance(module: ModuleType, session: Any, instance: Any) -> Iterator[str]:
    task, status = instance.task, instance.status
    ran = status not in ("unstarted", "abandoned")
    yield instance.why or status
    if status == "abandoned":
        held = instance.met
        if instance.why == "calledOff":
            yield "called off while held" if held else "called off while it waits"
        elif instance.by is not None:
            yield "late by an event: created after its deadline"
        elif instance.at in {each.at for each in session.events if each.source is None}:
            yield "late at the very moment of a fire"
        if task.within_of and instance.why == "late":
            yield "late within.of"
    if ran and instance.parent is None:
        yield from _of_run(module, session, instance)
    if instance.parent is not None:
        yield "replay"
    if status == "unstarted":
        if task.until and module.holds(instance, task.required) and not instance.met:
            yield "until: unusable"
        if instance.due is not None:
            yield "pending " + ("hold" if instance.met else "deadline")
    for leaf in task.leaves.values():
        amount = len(module.has(instance, leaf))
        if leaf.required and isinstance(leaf.count, tuple):
            count = module.count_of(instance, leaf)
            yield "count of an event: " + ("none" if count is None else "0" if not count else "n")
            named = module.value_of(instance, leaf.count)
            if count is None and module.has(instance, task.leaves[leaf.count[0]]):
                yield f"count of an event: unusable {type(named).__name__}"
        if leaf.keep in ("latest", "all") and amount:
            yield f"keeping {leaf.keep}"
            if leaf.keep == "all" and amount > 1:
                yield "keeping all: several"
            if leaf.keep == "latest" and len(module.seen(instance, leaf)) > 1:
                yield "keeping latest: not the first"
        if "unless" in leaf.roles and leaf.keep == "count" and instance.why == "calledOff":
            yield "called off by a counted leaf"
    if task.every_time and instance.parent is None and instance.number:
        yield "everyTime: another round" + (", run" if ran else "")
    if task.every and instance.number and instance.parent is None:
        yield "andEvery: another" + (", run" if ran else "")


def _of_run(module: ModuleType, session: Any, instance: Any) -> Iterator[str]:
    task = instance.task
    if instance.by is not None:
        yield "run by an event"
    elif task.waiting is not None or task.until is not None:
        kind = "until" if task.until else "atMost" if task.at_most else "a duration"
        yield f"run at the end of a hold: {kind}"
        if instance.at in {each.at for each in session.events if each.source is None}:
            yield "hold ends at the very moment of a fire"
        first = module.first_taken(instance)
        if task.at_most and first and instance.at == first.at + task.at_most:
            yield "hold ends by atMost"
        taken = [e for k in task.leaves.values() if k.required for e in module.has(instance, k)]
        if task.waiting and len({e.at for e in taken}) > 1:
            yield "hold with events at several times"
        if task.until and task.leaves[task.until[0]].keep == "latest":
            yield "until: of a latest leaf"
    if task.until and instance.by is not None:
        yield "until: past, no wait"
    missing = [k for k in task.leaves.values() if k.required and not module.holds(instance, k.key)]
    if missing:
        yield "run though leaves do not hold (anyOf, atLeast)"


def _of_events(session: Any) -> Iterator[str]:
    for event in session.events:
        if event.source is not None and event.trigger.startswith("x_"):
            yield f"otherwise {event.kwargs.get('why')}"
            for task in session.tasks.values():
                if any(leaf.trigger == event.trigger for leaf in task.leaves.values()):
                    yield "otherwise: another task waits for it"
        elif event.source is not None:
            yield "cascade"
    times = Counter(event.at for event in session.events if event.source is None)
    if any(amount > 1 for amount in times.values()):
        yield "fires at one moment"


def _of_configurations(session: Any, scenario: Scenario) -> Iterator[str]:
    seen: set[str] = set()
    fired = 0
    for what, _, *more in scenario.timed():
        if what == "fire":
            fired += 1
        elif what == "configure":
            tasks, past = more
            kind = "first" if not seen else "past" if past else "no past"
            if fired:
                yield f"configured after events: {kind}"
            if seen & set(tasks):
                yield "tasks replaced"
            if set(tasks) - seen and seen:
                yield f"tasks added: {kind}"
            seen |= set(tasks)
    for task in session.tasks.values() if session.tasks else ():
        yield from (f"word {word}" for word in task.c)
        if any(leaf.where for leaf in task.leaves.values()):
            yield "word where"
