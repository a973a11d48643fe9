"""What became of each event of a session: who took it, who did not and why."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.records import Event, Header, Instance, Source, Status
from triggers_core.engine.standing import keep_shared
from triggers_core.engine.taken_events import events_of
from triggers_core.explain.data import Unheard
from triggers_core.explain.progress import failed_test
from triggers_core.explain.unheard import said_unheard, unheard_event
from triggers_core.texts import count, names

MOST: Final = 20
"""Arrivals of one event that are told of one by one; the rest is counted."""

_TAKEN: Final = {"taken": "taken", "counted": "counted", "noted": "noted, against its unless,"}


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """What an event was for an instance or a task, or for nobody."""

    what: str
    """``taken``, ``counted`` or ``noted``; ``completed`` or ``calledOff`` if that was the last that
    it took. Of what was not taken: ``tooLate``, ``after``, ``full``, ``replaced``, ``failedTest``,
    ``before``, ``unheard``, ``unconfigured``. ``more`` counts those that are left out."""
    text: str
    """The same in words, after the name of the trigger."""
    task: str = ""
    instance: str = ""


class Arrivals:
    """Tells of the events of a session.

    :param instances: all of the session's.
    :param events: by number: those to be told of, and, as far as possible, those before them that
        instances with leaves of several events have counted.
    """

    def __init__(
        self,
        configuration: Configuration,
        header: Header,
        instances: Iterable[Instance],
        events: Mapping[int, Event],
    ) -> None:
        self._configuration, self._events = configuration, events
        self._instances: dict[str, list[Instance]] = {}
        self._took: dict[int, dict[str, str]] = {}
        """Event → instance → ``taken``, ``counted`` or ``noted``."""
        self._by_name: dict[str, Instance] = {}
        self._unheard: dict[str, Unheard | None] = {}
        for instance in instances:
            if instance.parent:
                continue  # its events are its parent's
            self._by_name[instance.name] = instance
            self._instances.setdefault(instance.task, []).append(instance)
            self._note(_with_shared(configuration, header, instance))

    def _note(self, instance: Instance) -> None:
        for how, leaves in (("noted", instance.noted), ("taken", instance.taken)):
            for numbers in leaves.values():
                for number in numbers:
                    self._took.setdefault(number, {})[instance.name] = how
        for key, extent in instance.extents.items():
            how = "noted" if extent.unless else "counted"
            if extent.amount and extent.first in self._events:
                for event in events_of(instance, key, self._events):
                    self._took.setdefault(event.number, {}).setdefault(instance.name, how)

    def of(self, event: Event) -> list[Arrival]:
        """What became of one of the events; empty when it was nothing, and should be."""
        found = []
        took = self._took.get(event.number, {})
        for name, how in took.items():
            found.append(_taken(self._by_name[name], event, how))
            if len(found) == MOST and len(took) > MOST:
                left = count(len(took) - MOST, "more instance")
                found.append(Arrival(what="more", text=f"and by {left}"))
                break
        tasks = {self._by_name[name].task for name in took}
        for task in self._configuration.listeners.get(event.trigger, ()):
            if task.name not in tasks:
                arrival = self._not_taken(task, event)
                if arrival is not None:
                    found.append(arrival)
        return found or list(self._nobody(event))

    def _not_taken(self, task: Task, event: Event) -> Arrival | None:
        leaves = task.rule.by_trigger[event.trigger]
        failed = [failed_test(leaf, event) for leaf in leaves]
        if all(failed):
            text = f"not what {names([task.name])} waits for: it came {failed[0]}"
            return Arrival(what="failedTest", text=text, task=task.name)
        passed = [leaf for leaf, test in zip(leaves, failed, strict=True) if test is None]
        begun = [each for each in self._instances.get(task.name, ()) if _began(each, event)]
        over = [each for each in begun if _left_before(each, event)]
        if over:
            return _after(task, over[-1], passed, event)
        if begun:
            return self._full(task, begun[-1], passed)
        text = f"fired before {names([task.name])} waited for it"
        return Arrival(what="before", text=text, task=task.name)

    def _full(self, task: Task, instance: Instance, passed: list[Leaf]) -> Arrival | None:
        """What an instance that still waited did not take, or gave up for a later one."""
        name = names([instance.name])
        for leaf in passed:
            what, text = "", ""
            has = instance.taken.get(leaf.key) or instance.noted.get(leaf.key)
            if leaf.keep == "latest":
                what, text = "replaced", f"taken by {name}, until a later one came"
            elif leaf.own and has:
                what, text = "full", f"not taken by {name}, which has event {has[0]:,}"
            if what:
                return Arrival(what=what, text=text, task=task.name, instance=instance.name)
        return None  # one of many, and nobody knows whether it is among those that count

    def _nobody(self, event: Event) -> Iterator[Arrival]:
        if not self._configuration.tasks:
            text = "the first configuration will look at it"
            yield Arrival(what="unconfigured", text=text)
            return
        if event.trigger not in self._unheard:
            self._unheard[event.trigger] = unheard_event(self._configuration, event)
        unheard = self._unheard[event.trigger]
        if unheard is not None:
            yield Arrival(what="unheard", text=said_unheard(unheard).rstrip("."))


def _taken(instance: Instance, event: Event, how: str) -> Arrival:
    what, name = how, names([instance.name])
    remarks = ["which began"] if instance.created_by == event.number and how == "taken" else []
    text = f"{_TAKEN[how]} by {name}"
    if instance.scheduled_by == event.number and not instance.late:
        if instance.status is Status.ABANDONED:
            what, text, remarks = "calledOff", f"called {name} off", []
        elif instance.status is not Status.UNSTARTED:
            what = "completed"
            remarks.append("which then had all that it waited for")
    if remarks:
        text += f", {' and '.join(remarks)}"
    return Arrival(what=what, text=text, task=instance.task, instance=instance.name)


def _after(task: Task, instance: Instance, passed: list[Leaf], event: Event) -> Arrival:
    """What came when an instance had left `unstarted`."""
    name, what = names([instance.name]), "after"
    calls_off = task.rule.unless is not None and any(leaf.unless for leaf in passed)
    if instance.late:
        what, text = "tooLate", f"came too late for {name}"
    elif instance.status is Status.ABANDONED:
        text = f"came when {name} had been called off"
    elif calls_off:
        what, text = "tooLate", f"came too late to call {name} off"
    else:
        text = f"came when {name} had all that it waited for"
    return Arrival(what=what, text=text, task=task.name, instance=instance.name)


def _began(instance: Instance, event: Event) -> bool:
    return instance.created_by <= event.number


def _left_before(instance: Instance, event: Event) -> bool:
    """Whether an instance had left `unstarted` when an event was recorded."""
    if instance.status is Status.UNSTARTED:
        return False
    left = instance.left if instance.left >= 0 else instance.scheduled_by + 1
    return left <= event.number


def _with_shared(configuration: Configuration, header: Header, instance: Instance) -> Instance:
    """An instance; while it is unstarted, with what the session knows of shared leaves now."""
    task = configuration.tasks.get(instance.task)
    if instance.status is not Status.UNSTARTED or task is None or not task.rule.shared:
        return instance
    known = copy.copy(instance)
    known.taken = dict(instance.taken)
    keep_shared(task.rule, known, header)
    return known


def origin(event: Event, instances: Mapping[str, Instance]) -> int:
    """The number of the event that led to the instance which fired this one; -1: none is known."""
    if event.source is not Source.INSTANCE:
        return -1
    instance = instances.get(event.cause)
    if instance is None or instance.scheduled_by >= event.number:
        return -1
    return instance.scheduled_by
