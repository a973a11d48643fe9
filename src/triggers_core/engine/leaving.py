"""What becomes of an unstarted instance now: called off, late, scheduled, or held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from triggers_core import payloads
from triggers_core.engine.conditions import CALLED_OFF, LATE, Leaf
from triggers_core.engine.configuration import Task
from triggers_core.engine.machine import ABANDONED, SCHEDULED, Draft, fired_by
from triggers_core.engine.records import Event, Instance, Round, Status
from triggers_core.engine.standing import (
    come_to_hold,
    deadline_of,
    hold_end,
    holding,
    keep_shared,
    keys_with_events,
    own_times,
    record_of,
    until_of,
    watch,
)
from triggers_core.limits import Limits

_ANY_SIZE: Final = Limits(kwargs_bytes=1 << 30)  # bounded by the configuration


def look(draft: Draft, task: Task, instance: Instance, event: Event | None) -> None:
    """Call an unstarted instance off, end it as late, schedule it, or hold it: whatever is so now.

    :param event: what it has seen; None when its task has been replaced.
    """
    rule, header = task.rule, draft.header
    if rule.plain:
        if rule.unless is not None and rule.unless.holds(instance.noted):
            leave(draft, task, instance, ABANDONED, event)
        elif not instance.parent and rule.required.holds(instance.taken):
            leave(draft, task, instance, SCHEDULED, event)
        return
    held = holding(rule, instance, header)
    if rule.unless is not None and rule.unless.holds(held):
        return leave(draft, task, instance, ABANDONED, event)
    if not instance.parent:
        deadline = deadline_of(rule, instance, header)
        if deadline is not None and deadline <= draft.at:
            return leave(draft, task, instance, ABANDONED, event, late=True)
        if come_to_hold(rule, instance, header, held) or (
            instance.met and rule.until is not None and rule.required.holds(held)
        ):
            end = _hold(draft, task, instance)
            if end is None or end <= draft.at:
                return leave(draft, task, instance, SCHEDULED, event)
            if draft.past:
                draft.change(instance, due_at=None, not_before=end)
            else:
                draft.wake(instance, end, held=True)
        elif deadline is not None:
            draft.wake(instance, deadline, held=False)
        elif instance.met and instance.due_at is not None:
            draft.change(instance, due_at=None, not_before=None)
        if event is not None and event.chain > instance.chain:
            draft.change(instance, chain=event.chain)
    if rule.shared:
        draft.change(instance, watched=watch(rule, instance, header, held))
    return None


def _hold(draft: Draft, task: Task, instance: Instance) -> float | None:
    """Note that a condition has come to hold; returns until when its instance is held back."""
    rule, header = task.rule, draft.header
    if rule.until is None and rule.waiting is None:
        return None
    time_of = partial(nth_time, draft)
    end = hold_end(rule, instance, header, draft.at, time_of)
    if rule.waiting is not None:
        # Only now can counted leaves tell when they got what they hold: the record goes on.
        times = own_times(rule, instance, header, draft.at, time_of)
        draft.change(instance, latest_at=max(times, default=None))
    draft.change(instance, met=True)
    return end


def nth_time(draft: Draft, leaf: Leaf, count: int, floor: int) -> float:
    """The time of the `count`-th event that passes a leaf, from a number on; all are loaded."""
    first = max(floor, record_of(leaf, draft.header).since)
    events = (draft.event(number) for number in range(first, draft.position))
    return next(islice(passing(draft, leaf, events), count - 1, None)).at


def passing(draft: Draft, leaf: Leaf, events: Iterable[Event]) -> Iterator[Event]:
    """Those events, of whatever triggers, that pass a leaf."""
    for event in events:
        if event.trigger == leaf.trigger and draft.passes(leaf, event):
            yield event


def leave(
    draft: Draft,
    task: Task,
    instance: Instance,
    status: Status,
    event: Event | None,
    *,
    late: bool = False,
    moment: float | None = None,
) -> None:
    """Move an unstarted instance on, for good: scheduled, or abandoned.

    :param event: what completed or abandoned it; None when a moment or a configuration did.
    :param late: abandoned because its deadline had passed, and not called off.
    :param moment: when, if not now.
    """
    rule = task.rule
    draft.touch(instance, task)
    instance.not_before = None
    if rule.shared and not instance.parent:
        keep_shared(rule, instance, draft.header)
    if rule.until is not None and not instance.parent:
        instance.until = until_of(rule, instance, draft.header)
    if event is not None:
        instance.scheduled_by, instance.chain = event.number, event.chain
    else:
        instance.moment = draft.at if moment is None else moment
        instance.left = draft.position
    if rule.every_time and not instance.parent:
        _end_round(draft, task, instance)
    if not rule.plain:
        instance.watched, instance.bases = [], {}
    if status is SCHEDULED:
        draft.schedule(instance)
        return
    draft.set_status(instance, ABANDONED)
    instance.late = late
    otherwise(draft, task, instance, LATE if late else CALLED_OFF)


def _end_round(draft: Draft, task: Task, instance: Instance) -> None:
    """The next instance of an `everyTime` task begins with what comes after this one."""
    header = draft.header
    current = header.rounds.setdefault(task.name, Round())
    current.waiting -= 1
    if not instance.number:
        current.first_waits = False
    if draft.position >= current.left:
        current.left = draft.position
        current.bases = {
            leaf.record: record_of(leaf, header).amount
            for leaf in task.rule.shared
            if leaf.required and record_of(leaf, header).amount
        }


def otherwise(draft: Draft, task: Task, instance: Instance, why: str) -> None:
    """Fire a task's otherwise-trigger for an instance that came to no success, if it has one.

    It is recorded with this change, after every task has seen what is recorded now.
    """
    rule = task.rule
    trigger = rule.otherwise.get(why)
    if trigger is None or instance.told:
        return
    has = keys_with_events(rule, instance, draft.header)
    if why == CALLED_OFF and not has:
        return
    instance.told = True
    held = holding(rule, instance, draft.header)
    missing = rule.required.missing(held)
    lacking = [] if missing is None else [leaf.key for leaf in missing.leaves]
    if not lacking and rule.until is not None and instance.until is None:
        lacking = [rule.until.key]
    kwargs = {
        "task": task.name,
        "instance": instance.name,
        "why": why,
        "has": has,
        "missing": lacking,
    }
    draft.fired.append(fired_by(instance, trigger, payloads.encode(kwargs, _ANY_SIZE)))
