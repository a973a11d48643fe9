"""Moments: what falls due by itself, worked off before every change, and otherwise-triggers.

Deadlines, ends of holds and cooldowns are moments of the session. Whoever changes it first works
off what is due, moment by moment, so that a change decides the same whether a sweep has run or not.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterable
from typing import Final

from triggers_core.engine.configuration import Task
from triggers_core.engine.fire_rule import fire, named_values, note_values
from triggers_core.engine.leaving import leave
from triggers_core.engine.machine import ABANDONED, SCHEDULED, UNSTARTED, Draft
from triggers_core.engine.metadata import add_metadata
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import Query, Snapshot
from triggers_core.engine.records import Event, Instance
from triggers_core.engine.standing import deadline_of, hold_end, on_record

DROPPED: Final = "otherwise_dropped"
"""Where an instance's metadata tells that its otherwise-trigger could not fire."""


class MoreDue(Exception):
    """More is due than one commit works off: what the draft has comes first, the change anew."""


def work_off(draft: Draft, overdue: Iterable[str] = ()) -> Generator[Query, Snapshot, None]:
    """Work off everything that is due by the time of a draft.

    :param overdue: loaded instances that may be due although the header does not know.
    :raises MoreDue: it is too much for one commit.
    """
    header, now = draft.header, draft.at
    forgotten = [
        instance
        for instance in (draft.instance(*split_instance_name(name)) for name in overdue)
        if instance.status is UNSTARTED and instance.due_at is not None and instance.due_at <= now
    ]
    if (header.next_moment is None or header.next_moment > now) and not forgotten:
        return
    snapshot = yield Query(moments=now)
    draft.absorb(snapshot)
    rest = snapshot.next_moment
    more = rest is not None and rest <= now
    draft.awake = []
    for name in dict.fromkeys((*snapshot.instances, *(each.name for each in forgotten))):
        instance = draft.instance(*split_instance_name(name))
        if instance.status is UNSTARTED and instance.due_at is not None:
            draft.listen(instance)
    while draft.awake and draft.awake[0][0] <= now:
        when = draft.awake[0][0]
        if more and rest is not None and when >= rest:
            break
        draft.at = max(when, draft.floor)
        if decide(draft, when):
            draft.floor = max(draft.floor, when)
            yield from fire_otherwise(draft)
    pending = [when for when, *_ in draft.awake]
    header.next_moment = min(pending if rest is None else [*pending, rest], default=None)
    draft.awake, draft.at = None, max(now, draft.floor)
    if more:
        raise MoreDue


def decide(draft: Draft, when: float) -> bool:
    """Decide everything that is due by a moment; whether there was anything."""
    assert draft.awake is not None
    before = len(draft.worked_off)
    while draft.awake and draft.awake[0][0] <= when:
        due_at, _, number, name = heapq.heappop(draft.awake)
        instance, task = draft.instance(name, number), draft.configuration.tasks.get(name)
        if task is None or instance.status is not UNSTARTED or instance.due_at != due_at:
            continue  # it has moved on since
        if _fall_due(draft, task, instance, due_at):
            draft.worked_off.append(instance.name)
    return len(draft.worked_off) > before


def _fall_due(draft: Draft, task: Task, instance: Instance, when: float) -> bool:
    """A moment of an instance has come; False when a later event has moved it on."""
    rule, header = task.rule, draft.header
    if instance.parent:  # the cooldown of a retry
        draft.touch(instance, task)
        instance.moment, instance.not_before = when, None
        draft.schedule(instance)
        return True
    end = hold_end(rule, instance, header) if instance.met else deadline_of(rule, instance, header)
    if end is not None and end > when:
        draft.wake(instance, end, held=instance.met)
        return False
    if instance.met:
        leave(draft, task, instance, SCHEDULED, None, moment=when)
    else:
        leave(draft, task, instance, ABANDONED, None, late=True, moment=when)
    return True


# -- recording events ------------------------------------------------------------------------------


def record(draft: Draft, event: Event) -> Generator[Query, Snapshot, Event]:
    """Record an event, with all otherwise-triggers that it leads to.

    The instances that want it must have been loaded.

    :raises CascadeTooDeep, LimitExceeded: as `fire`.
    """
    if event.trigger in draft.configuration.with_facts:
        yield from load_facts(draft, event)
    fire(draft, event)
    if draft.fired:
        yield from fire_otherwise(draft)
    return event


def fire_otherwise(draft: Draft) -> Generator[Query, Snapshot, None]:
    """Record the otherwise-triggers of a change, first in, first out.

    One that cannot be recorded is dropped: its instance ends all the same.
    """
    while draft.fired:
        event = draft.fired.popleft()
        problem = _why_not(draft, event)
        if problem:
            instance = draft.instance(*split_instance_name(event.cause))
            draft.touch(instance)
            add_metadata(draft, instance, {DROPPED: {"trigger": event.trigger, "why": problem}})
            draft.notes.append(f"{event.cause}: {event.trigger!r} is not fired: {problem}")
            continue
        draft.absorb((yield Query(triggers=(event.trigger,))))
        if event.trigger in draft.configuration.with_facts:
            yield from load_facts(draft, event)
        fire(draft, event)


def _why_not(draft: Draft, event: Event) -> str:
    limits, header = draft.rules.limits, draft.header
    if event.chain > limits.cascade_depth:
        return (
            f"{event.chain} cascades in a row go back to one event, the limit is"
            f" {limits.cascade_depth} (Limits.cascade_depth): look for a cycle in the configuration"
        )
    for task in draft.configuration.listeners.get(event.trigger, ()):
        if header.created(task.name) >= limits.instances and (
            task.rule.every or task.rule.every_time
        ):
            return (
                f"{task.name} has {limits.instances:,} instances in this session, the limit"
                " (Limits.instances)"
            )
    return ""


def load_facts(draft: Draft, event: Event) -> Generator[Query, Snapshot, None]:
    """Load the earlier events whose time or kwargs a new instance has to know."""
    wanted: set[int] = set()
    every_event = False
    for task in draft.configuration.with_facts[event.trigger]:
        rule, created = task.rule, draft.header.created(task.name)
        if created and not rule.every and not rule.every_time:
            continue
        for leaf in rule.leaves.values():
            if leaf.own and leaf.required:
                wanted.add(draft.latest(leaf))
        if rule.waiting is not None:
            every_event = every_event or any(
                leaf.required
                and leaf.keep == "count"
                and on_record(leaf, _NOBODY, draft.header)
                >= (leaf.count if isinstance(leaf.count, int) else 1)
                for leaf in rule.shared
            )
    if every_event:
        snapshot = yield Query(all_events=True)
        draft.numbered |= {each.number: each for each in snapshot.events}
    else:
        yield from _load_events(draft, wanted)


def load_values(draft: Draft, task: Task, instance: Instance) -> Generator[Query, Snapshot, None]:
    """Read what the events of an instance say to its task, which may be another one by now."""
    rule = task.rule
    keys = {reference.key for reference in named_values(rule)}
    numbers = {key: instance.taken[key][0] for key in keys if key in instance.taken}
    for key in keys & instance.extents.keys():  # of the task that it had
        extent = instance.extents[key]
        if extent.amount and not extent.unless:
            numbers[key] = extent.first
    yield from _load_events(draft, set(numbers.values()))
    for key, number in numbers.items():
        event = draft.event(number)
        if event.trigger == rule.leaves[key].trigger:
            note_values(draft, rule, instance, key, event)


def _load_events(draft: Draft, numbers: set[int]) -> Generator[Query, Snapshot, None]:
    """Load those of some events that are not at hand; -1 stands for none."""
    lacking = tuple(number for number in sorted(numbers) if number >= 0 and draft.lacks(number))
    if lacking:
        draft.absorb((yield Query(numbers=lacking)))


_NOBODY: Final = Instance(task="", number=0)
