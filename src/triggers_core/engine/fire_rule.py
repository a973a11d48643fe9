"""The fire rule: what one event does to the instances of a session.

In configuration order, for every task that listens: what each unstarted instance takes, whether one
is created, and what becomes of those that it touched.
"""

from __future__ import annotations

from collections.abc import Container

from triggers_core.engine.conditions import Leaf, Reference
from triggers_core.engine.configuration import Task
from triggers_core.engine.leaf_records import keep_records
from triggers_core.engine.leaving import look, passing
from triggers_core.engine.machine import Draft
from triggers_core.engine.names import generated_id
from triggers_core.engine.records import Event, Instance, Round
from triggers_core.engine.rooms import has_room
from triggers_core.engine.rule import Rule
from triggers_core.engine.standing import holding, later, record_of
from triggers_core.engine.waits import waits_for
from triggers_core.engine.where import look_up, usable_count, usable_moment
from triggers_core.exceptions import CascadeTooDeep, LimitExceeded


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
