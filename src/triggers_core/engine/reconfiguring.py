"""Reconfiguring: what another configuration does to a session, its past and what waits in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.configuration import Configuration, Task, untested_triggers
from triggers_core.engine.fire_rule import apply, keep
from triggers_core.engine.leaf_records import count_event, keep_records, see_latest
from triggers_core.engine.leaving import look, nth_time, passing
from triggers_core.engine.machine import Draft, check_plugins
from triggers_core.engine.moments import decide
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.records import Event, Instance, LeafRecord, Round
from triggers_core.engine.standing import hold_end, own_times


def configure(
    draft: Draft,
    configuration: Configuration,
    requires: Iterable[str],
    events: Sequence[Event] = (),
    past: bool = False,
) -> list[str]:
    """Give the session a configuration.

    :param events: all that is recorded, if this is the first configuration, if `past`, or if any
        task that is new or replaced, before or after, says more than `Rule.plain`; then the
        unstarted instances of all replaced tasks and of those whose records change are loaded.
    :param past: apply the recorded events to the tasks that are new; the first configuration does.
    :returns: the names of the unstarted instances of replaced tasks that have moved.
    """
    before, header = draft.configuration, draft.header
    exact = past or not header.config
    changed = configuration.changed_since(before)
    fresh = [task for task in changed if task.name not in before.tasks]
    replaced = [task for task in changed if task.name in before.tasks]
    for task in replaced:
        old = before.tasks[task.name]
        for instance in draft.unstarted(task.name):
            draft.touch(instance, old)
            if instance.met and not instance.parent:  # as stored, it may lag behind the records
                instance.not_before = hold_end(old.rule, instance, header)
    draft.configuration = draft.stored_configuration = configuration
    header.config = configuration.hash
    header.config_version += 1
    header.requires = tuple(sorted({*requires, *configuration.requires}))
    check_plugins(header.requires, draft.rules.plugins)
    draft.floor = draft.at
    draft.numbered |= {event.number: event for event in events}
    _note_begins(draft, before, fresh if exact else [])
    reread = _renew_records(draft, fresh if exact else [], events)
    # Those that stay as they are and read records that now hold more are looked at as well.
    settled = {task.name for task in changed}
    readers = [
        task
        for name, task in configuration.tasks.items()
        if name not in settled and any(leaf.record in reread for leaf in task.rule.shared)
    ]
    again = [*replaced, *readers]
    standings = {
        instance.name: _standing(instance)
        for task in again
        for instance in draft.unstarted(task.name)
    }
    for task in again:
        old = before.tasks[task.name]
        for instance in draft.unstarted(task.name):
            draft.touch(instance, old)
            _replace(draft, old, task, instance, events, moves=task.name in settled)
        _count_rounds(draft, task, events)
    order = configuration.order
    for task in sorted(again, key=lambda each: order[each.name]):
        for instance in list(draft.unstarted(task.name)):
            _look_again(draft, task, instance)
    if exact and events:
        _apply_past(draft, fresh, events)
    return [
        name
        for name, was in standings.items()
        if _standing(draft.instance(*split_instance_name(name))) != was
    ]


def _standing(instance: Instance) -> tuple[Any, ...]:
    """What a configuration may change of an instance."""
    events = {**instance.taken, **instance.noted}
    return instance.status, instance.due_at, dict(sorted(events.items())), instance.met


def _look_again(draft: Draft, task: Task, instance: Instance) -> None:
    if not instance.parent or task.rule.unless is not None:
        look(draft, task, instance, None)
    if instance.resolved or instance.attempt:
        # As far as events go, the last one that it has seen decided it.
        seen = [n for ns in (*instance.taken.values(), *instance.noted.values()) for n in ns]
        instance.scheduled_by = max(seen, default=-1)


# -- records ---------------------------------------------------------------------------------------


def _note_begins(draft: Draft, before: Configuration, exact: Sequence[Task]) -> None:
    """Note since when the configuration names which triggers, wherever it tests no kwargs."""
    header = draft.header
    if not header.events:
        return
    known, now = before.untested, draft.configuration.untested
    for trigger in [each for each in header.since if each not in now]:
        del header.since[trigger]
    for trigger in sorted(now - known):
        header.since[trigger] = header.events
    for trigger in untested_triggers(exact):
        header.since.pop(trigger, None)


def _renew_records(draft: Draft, exact: Sequence[Task], events: Sequence[Event]) -> set[str]:
    """Begin the records that the configuration needs, and end those that it does not.

    :param exact: tasks whose records have to hold everything from the first event on.
    :returns: the addresses of records that others read already and that now hold more.
    """
    header, configuration = draft.header, draft.configuration
    wanted = configuration.records
    whole = {leaf.record for task in exact for leaf in task.rule.leaves.values() if leaf.record}
    untested = untested_triggers(exact)
    reread = set()
    for address, leaf in wanted.items():
        known = header.records.get(address)
        if address in whole or (leaf.where is None and leaf.trigger in untested):
            if known is not None and known.since:
                reread.add(address)
            header.records[address] = _record_from(draft, leaf, events, 0)
        elif known is None:
            tested = leaf.where is not None
            since = header.events if tested else header.since.get(leaf.trigger, 0)
            header.records[address] = _record_from(draft, leaf, events, since)
        elif (
            set(known.until) != set(configuration.read_paths.get(address, ()))
            and known.latest in draft.numbered
        ):
            see_latest(draft, known, leaf, draft.event(known.latest))
    for address in [each for each in header.records if each not in wanted]:
        del header.records[address]
    return reread


def _record_from(draft: Draft, leaf: Leaf, events: Sequence[Event], since: int) -> LeafRecord:
    """A record of what passes a leaf from event number `since` on.

    The latest event of a trigger is known from the start, where no test is needed to know it.
    """
    record = LeafRecord(since=since)
    for event in passing(draft, leaf, events):
        if event.number >= since:
            count_event(draft, record, leaf, event)
        elif leaf.where is None:
            see_latest(draft, record, leaf, event)
    return record


# -- replaced tasks --------------------------------------------------------------------------------


def _replace(
    draft: Draft,
    old: Task,
    task: Task,
    instance: Instance,
    events: Sequence[Event],
    *,
    moves: bool,
) -> None:
    """Give an unstarted instance of a replaced task what it keeps, and what follows from that.

    :param moves: whether an event may move to another leaf that is about the same; not in a task
        that stays as it is, and is only looked at again.
    """
    rule = task.rule
    kept = {**instance.noted, **instance.taken}
    if not instance.parent:
        instance.taken = {}
    instance.noted = {}
    instance.began = instance.latest_at = instance.until = None
    instance.counts, instance.watched = {}, []
    if not instance.parent:
        instance.due_at = None
        instance.not_before = instance.not_before if instance.met else None
    for leaf in rule.leaves.values():
        if not leaf.own:
            continue
        equal = [
            each
            for each in old.rule.leaves.values()
            if each.own
            and each.key in kept
            and (each.same(leaf) if moves else each.key == leaf.key)
        ]
        if equal:
            best = min(equal, key=lambda each: each.key != leaf.key)
            number = kept[best.key][0]
            if instance.parent:
                if leaf.unless:
                    instance.noted[leaf.key] = [number]
            else:
                keep(draft, rule, instance, leaf, number, None)
    instance.bases = _bases(draft, task, instance.floor, events) if instance.floor else {}
    if instance.parent:
        return
    if rule.counts_time and not rule.every:
        instance.began = _began(draft, task, instance, events)
    if rule.waiting is not None and rule.shared:
        met, instance.met = instance.met, False  # so that counted leaves tell their times
        times = own_times(rule, instance, draft.header, math.inf, partial(nth_time, draft))
        instance.met, instance.latest_at = met, max(times, default=None)


def _bases(draft: Draft, task: Task, floor: int, events: Sequence[Event]) -> dict[str, int]:
    """How many events of each record that a task's required leaves read lie below a number."""
    found = {}
    for leaf in task.rule.shared:
        since = draft.header.records[leaf.record].since
        amount = sum(1 for _ in passing(draft, leaf, events[since:floor]))
        if leaf.required and amount:
            found[leaf.record] = amount
    return found


def _began(draft: Draft, task: Task, instance: Instance, events: Sequence[Event]) -> float | None:
    """Time of the first event that an instance took itself in a required leaf."""
    first = max(instance.created_by, 0)
    numbers = [
        taken[0]
        for key, taken in instance.taken.items()
        if taken[0] >= first and key in task.rule.leaves
    ]
    for leaf in task.rule.shared:
        if not leaf.required:
            continue
        known = leaf.keep == "latest" and leaf.where is None
        since = 0 if known else draft.header.records[leaf.record].since
        begin = max(first, since, instance.floor)
        numbers += [event.number for event in islice(passing(draft, leaf, events[begin:]), 1)]
    return draft.event(min(numbers)).at if numbers else None


def _count_rounds(draft: Draft, task: Task, events: Sequence[Event]) -> None:
    """Where the instances of a replaced task stand that has `everyTime` now."""
    rounds = draft.header.rounds
    if not task.rule.every_time:
        rounds.pop(task.name, None)
        return
    current = rounds.get(task.name)
    if current is None:
        waiting = [each for each in draft.unstarted(task.name) if not each.parent]
        current = rounds[task.name] = Round(
            left=_last_left(draft, task),
            waiting=len(waiting),
            first_waits=any(not each.number for each in waiting),
        )
    current.bases = _bases(draft, task, current.left, events)


def _last_left(draft: Draft, task: Task) -> int:
    """How many events were recorded when the last of a task's instances left `unstarted`."""
    left = 0
    for number in range(draft.header.created(task.name)):
        instance = draft.instance(task.name, number)
        if instance.parent or instance.status == "unstarted":
            continue
        left = max(left, instance.left if instance.left >= 0 else instance.scheduled_by + 1)
    return left


# -- the past --------------------------------------------------------------------------------------


def _apply_past(draft: Draft, fresh: Sequence[Task], events: Sequence[Event]) -> None:
    """Apply the recorded events to new tasks, each at its own time. No hold ends meanwhile."""
    header, configuration, now = draft.header, draft.configuration, draft.at
    names = {task.name for task in fresh}
    addresses = {leaf.record for task in fresh for leaf in task.rule.leaves.values() if leaf.record}
    latest, header.latest = header.latest, {}
    records = {address: header.records[address] for address in addresses}
    for address in addresses:
        header.records[address] = LeafRecord()
    draft.past, draft.awake, draft.position = True, [], 0
    for event in events:
        _decide_past(draft, event.at)
        draft.at = event.at
        draft.position = event.number + 1
        leaves = configuration.recorded.get(event.trigger, ())
        keep_records(draft, event, tuple(each for each in leaves if each.record in addresses))
        apply(draft, event, only=names)
    _decide_past(draft, now)
    draft.past, draft.awake, draft.at = False, None, now
    draft.position = None
    header.latest = latest
    header.records.update(records)
    for task in fresh:
        for instance in list(draft.unstarted(task.name)):
            if not task.rule.plain:
                look(draft, task, instance, None)


def _decide_past(draft: Draft, until: float) -> None:
    """Decide what fell due in the past; the triggers that this fires come later."""
    assert draft.awake is not None
    while draft.awake and draft.awake[0][0] <= until:
        draft.at = draft.awake[0][0]
        decide(draft, draft.at)
