"""The fire rule: what one event does to the instances of a session.

In configuration order, for every task that listens: what each unstarted instance takes, whether one
is created, and what becomes of those that it touched.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.conditions import CALLED_OFF, LATE, Leaf, Reference
from triggers_core.engine.configuration import Task
from triggers_core.engine.machine import ABANDONED, SCHEDULED, Draft, fired_by
from triggers_core.engine.records import (
    Event,
    Instance,
    LeafRecord,
    Round,
    Status,
    generated_id,
)
from triggers_core.engine.rooms import has_room
from triggers_core.engine.rule import Rule
from triggers_core.engine.standing import (
    come_to_hold,
    deadline_of,
    hold_end,
    holding,
    keep_shared,
    keys_with_events,
    later,
    own_times,
    record_of,
    until_of,
    watch,
)
from triggers_core.engine.waits import waits_for
from triggers_core.engine.where import look_up, usable_count, usable_moment
from triggers_core.exceptions import CascadeTooDeep, LimitExceeded
from triggers_core.limits import Limits

_ANY_SIZE: Final = Limits(kwargs_bytes=1 << 30)  # bounded by the configuration


def fire(draft: Draft, event: Event) -> Event:
    """Record an event and apply it. Its trigger's instances must have been loaded.

    :raises CascadeTooDeep: the chain of cascades behind it is too long.
    :raises LimitExceeded: a task would get too many instances, the session too many names.
    """
    header, limits = draft.header, draft.rules.limits
    if event.chain > limits.cascade_depth:
        raise CascadeTooDeep(
            f"{event.cause or event.trigger}: {event.chain} cascades in a row go back to one"
            f" event, the limit is {limits.cascade_depth} (Limits.cascade_depth):"
            " look for a cycle in the configuration"
        )
    if event.trigger not in header.latest and len(header.latest) >= limits.trigger_names:
        _check_new_name(draft, event.trigger)
    event.number = header.events
    event.at = draft.floor = draft.at
    if not event.id:
        event.id = generated_id(event.number)
    if draft.carrier is not None:
        event.carrier = draft.carrier
    header.events += 1
    draft.events.append(event)
    leaves = draft.configuration.recorded.get(event.trigger)
    if leaves:
        keep_records(draft, event, leaves)
    apply(draft, event)
    return event


def _check_new_name(draft: Draft, trigger: str) -> None:
    configuration, limits = draft.configuration, draft.rules.limits
    if trigger in configuration.listeners or trigger in configuration.tasks:
        return  # there are no more of those than the configuration holds
    raise LimitExceeded(
        f"{trigger!r} would be trigger name {len(draft.header.latest) + 1:,} of this session,"
        f" the limit is {limits.trigger_names:,} (Limits.trigger_names): every fire"
        " reads them all. Put what varies, such as an id, into the kwargs"
    )


def keep_records(draft: Draft, event: Event, leaves: tuple[Leaf, ...]) -> None:
    """Count an event in the session's records of the leaves that it passes.

    :param leaves: one for each record that is about the event's trigger.
    """
    records = draft.header.records
    for leaf in leaves:
        if draft.passes(leaf, event):
            record = records.get(leaf.record)
            if record is None:
                record = records[leaf.record] = LeafRecord(since=event.number)
            count_event(draft, record, leaf, event)


def count_event(draft: Draft, record: LeafRecord, leaf: Leaf, event: Event) -> None:
    """Count an event that passes a leaf in the record of it, as its latest."""
    if not record.amount:
        record.first, record.first_at = event.number, event.at
    record.amount += 1
    see_latest(draft, record, leaf, event)


def see_latest(draft: Draft, record: LeafRecord, leaf: Leaf, event: Event) -> None:
    """Note in a record which event is its latest."""
    record.latest, record.latest_at = event.number, event.at
    paths = draft.configuration.read_paths.get(leaf.record)
    if paths:
        kwargs = draft.kwargs_of(event)
        record.until = {path: usable_moment(look_up(kwargs, path)[1]) for path in paths}
    elif record.until:
        record.until = {}  # else a later configuration would take it for the latest event's


def apply(draft: Draft, event: Event, only: Container[str] | None = None) -> None:
    """Apply an event that is recorded: header and records know it already, but for `latest`.

    :param only: the tasks to apply it to; all of them when None.
    """
    header, trigger = draft.header, event.trigger
    header.latest[trigger] = event.number
    for task in draft.configuration.listeners.get(trigger, ()):
        if only is not None and task.name not in only:
            continue
        rule = task.rule
        hit = rule.by_trigger[trigger]
        if rule.selective:
            hit = tuple([leaf for leaf in hit if draft.passes(leaf, event)])
            if not hit:
                continue
        touched = []
        served = False
        if rule.plain:  # the same as below, for one leaf of which nothing need be noted
            [leaf] = hit
            for instance in draft.unstarted(task.name):
                if leaf.required:
                    if instance.parent or trigger in instance.taken:
                        continue
                    draft.touch(instance, task)
                    instance.taken[trigger] = [event.number]
                elif trigger in instance.noted:
                    continue
                else:
                    draft.touch(instance, task)
                if leaf.unless:
                    instance.noted[trigger] = [event.number]
                touched.append(instance)
            served = not leaf.every or bool(touched)
        else:
            shared = bool(rule.shared) and any(not leaf.own for leaf in hit)
            for instance in draft.unstarted(task.name):
                took = _take(draft, task, instance, hit, event)
                # A storage may have loaded more than was asked for: the rest stays as it is.
                if took or (shared and (draft.past or waits_for(task, instance, trigger))):
                    touched.append(instance)
                served = served or took > 1
            served = served or not any(leaf.every for leaf in hit)
        if (
            not served
            or not header.created(task.name)
            or (rule.every_time and _is_next_time(draft, task, hit))
        ):
            created = _create(draft, task, hit, event)
            if created is not None:
                touched.append(created)
        for instance in touched:
            look(draft, task, instance, event)


def _take(draft: Draft, task: Task, instance: Instance, hit: tuple[Leaf, ...], event: Event) -> int:
    """Let an instance take an event where it has room.

    :returns: whether it did; 2: in a leaf of `andEvery`.
    """
    rule = task.rule
    room = []
    served = 0
    for leaf in hit:
        if leaf.own and has_room(rule, leaf, instance):
            room.append(leaf)
            served = 2 if leaf.every else served or 1
    if room:
        draft.touch(instance, task)
        for leaf in room:
            keep(draft, rule, instance, leaf, event.number, event)
    if (
        rule.counts_time
        and instance.began is None
        and not rule.every
        and not instance.parent
        and any(leaf.required and (leaf in room or not leaf.own) for leaf in hit)
    ):
        draft.change(instance, began=event.at)
    return served


def keep(
    draft: Draft, rule: Rule, instance: Instance, leaf: Leaf, number: int, event: Event | None
) -> None:
    """Put an event into an own leaf of an instance, and note what the rule needs to know of it.

    :param event: the event of that number, if it is at hand; needed where the rule `has_facts`.
    """
    if leaf.unless:
        instance.noted[leaf.key] = [number]
    if not leaf.required:
        return
    instance.taken[leaf.key] = [number]
    if not rule.has_facts:
        return
    event = event or draft.event(number)
    if instance.latest_at is None or event.at > instance.latest_at:
        instance.latest_at = event.at if rule.waiting is not None else None
    if leaf.every and rule.counts_time and instance.began is None:
        instance.began = event.at
    if rule.within is not None and leaf.key == rule.within_of and not instance.met:
        instance.due_at = later(event.at, rule.within)
    note_values(draft, rule, instance, leaf.key, event)


def named_values(rule: Rule) -> list[Reference]:
    """The values that a rule takes from the events of its instances."""
    found = [leaf.count for leaf in rule.counted if isinstance(leaf.count, Reference)]
    return found if rule.until is None else [*found, rule.until]


def note_values(draft: Draft, rule: Rule, instance: Instance, key: str, event: Event) -> None:
    """Note the values that an event in a leaf names for the rule of its instance."""
    if rule.until is not None and key == rule.until.key:
        instance.until = usable_moment(look_up(draft.kwargs_of(event), rule.until.path)[1])
    for leaf in rule.counted:
        assert isinstance(leaf.count, Reference)
        if leaf.count.key == key:
            count = usable_count(look_up(draft.kwargs_of(event), leaf.count.path)[1])
            if count is None:
                instance.counts.pop(leaf.key, None)
            else:
                instance.counts[leaf.key] = count


def _is_next_time(draft: Draft, task: Task, hit: tuple[Leaf, ...]) -> bool:
    """Whether an event begins a task with `everyTime` anew, if `unless` does not hold."""
    current = draft.header.rounds.get(task.name)
    waiting = current is not None and current.waiting
    return not waiting and any(leaf.required for leaf in hit)


def _create(draft: Draft, task: Task, hit: tuple[Leaf, ...], event: Event) -> Instance | None:
    """A new instance, with the latest events on record, this one included.

    :returns: None when the task begins anew and its `unless` holds on record.
    """
    rule, header = task.rule, draft.header
    instance = draft.new_instance(task)
    instance.created_by = event.number
    if rule.every_time and instance.number:
        instance.floor, instance.bases = begin_after(draft, task)
    if rule.plain:
        latest_of = header.latest
        for leaf in rule.leaves.values():
            if leaf.trigger in latest_of:
                if leaf.required:
                    instance.taken[leaf.key] = [latest_of[leaf.trigger]]
                if leaf.unless:
                    instance.noted[leaf.key] = [latest_of[leaf.trigger]]
        draft.add(instance)
        return instance
    for leaf in rule.leaves.values():
        if leaf.own and not leaf.every:
            number = draft.latest(leaf)
            if number >= (instance.floor if leaf.required else 0):
                keep(draft, rule, instance, leaf, number, event if number == event.number else None)
    if rule.every:
        latest = max(draft.latest(leaf) for leaf in rule.every)
        for leaf in rule.every:
            if latest >= 0 and _passed(draft, leaf, latest):
                keep(draft, rule, instance, leaf, latest, event if latest == event.number else None)
    elif rule.counts_time and any(leaf.required for leaf in hit):
        instance.began = event.at
    if (
        rule.every_time
        and instance.number
        and rule.unless is not None
        and rule.unless.holds(holding(rule, instance, header))
    ):
        return None
    instance.chain = event.chain
    draft.add(instance)
    if rule.every_time:
        current = header.rounds.setdefault(task.name, Round())
        current.waiting += 1
        current.first_waits = current.first_waits or not instance.number
    return instance


def _passed(draft: Draft, leaf: Leaf, number: int) -> bool:
    """Whether an event passes a leaf, which is the latest that passes it or another one."""
    if draft.latest(leaf) == number:
        return True
    if not leaf.record or record_of(leaf, draft.header).since <= number:
        return False
    return any(passing(draft, leaf, [draft.event(number)]))  # from before the record began


def begin_after(draft: Draft, task: Task) -> tuple[int, dict[str, int]]:
    """From which event on the next instance of an `everyTime` task sees, and what lies before."""
    current = draft.header.rounds.get(task.name)
    return (0, {}) if current is None else (current.left, dict(current.bases))


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


def clone(
    draft: Draft,
    failed: Instance,
    *,
    replaced: bytes | None,
    retries: int,
    cooldown: float | None,
    honour_unless: bool,
) -> Instance:
    """Replay a failed instance: it becomes `replayed`, its clone is scheduled or held.

    :param replaced: encoded kwargs in place of the events' ones; None keeps those.
    :param cooldown: seconds to hold the clone; None or 0 schedules it now.
    :param honour_unless: let what has fired of `unless` meanwhile abandon it.
    """
    draft.set_status(failed, Status.REPLAYED)
    task = draft.configuration.tasks[failed.task]
    rule = task.rule
    clone = draft.new_instance(task)
    draft.add(clone)
    clone.taken = {key: list(numbers) for key, numbers in failed.taken.items()}
    clone.noted = {key: list(numbers) for key, numbers in failed.noted.items()}
    clone.extents, clone.counts = dict(failed.extents), dict(failed.counts)
    clone.until, clone.told = failed.until, failed.told
    clone.created_by, clone.left = failed.created_by, failed.left
    clone.scheduled_by, clone.chain = failed.scheduled_by, failed.chain
    clone.parent, clone.depth, clone.retries = failed.name, failed.depth + 1, retries
    failed.replayed_as = clone.name
    clone.replaced = failed.replaced
    if replaced is None:
        clone.key = failed.key
    else:
        clone.replaced = msgspec.Raw(replaced)
    if honour_unless and rule.unless is not None:
        for leaf in rule.unless.leaves:
            number = draft.latest(leaf)
            if leaf.own and number >= 0 and leaf.key not in clone.noted:
                clone.noted[leaf.key] = [number]
        if rule.unless.holds(holding(rule, clone, draft.header)):
            leave(draft, task, clone, ABANDONED, None)
            return clone
    if cooldown:
        draft.hold(clone, cooldown)
        if rule.shared:
            held = holding(rule, clone, draft.header)
            clone.watched = watch(rule, clone, draft.header, held)
    else:
        clone.moment = draft.at
        draft.schedule(clone)
    return clone
