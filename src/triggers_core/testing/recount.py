"""What a session keeps for the language of conditions, recounted from its events.

Records, rounds, counts, deadlines and the keys under which instances wait are kept so that a fire
need not read history; here history is read, and they are compared with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.conditions import Leaf, Reference
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.moments import DROPPED
from triggers_core.engine.records import Event, Header, Instance, Source, Status
from triggers_core.engine.where import look_up, usable_count, usable_moment

_TOLD: Final = {"task", "instance", "why", "has", "missing"}
"""The kwargs of an otherwise-trigger."""


def check_words(
    uid: str,
    header: Header,
    configuration: Configuration,
    instances: Sequence[Instance],
    events: Sequence[Event],
) -> None:
    """Compare what is kept for the language with what its events say.

    :raises AssertionError: says what disagrees.
    """
    history = _History(events)
    _check_records(uid, header, configuration, history)
    _check_next_moment(uid, header, instances)
    for name, task in configuration.tasks.items():
        own = [each for each in instances if each.task == name]
        _check_rounds(uid, header, task, own, history)
        for instance in own:
            if instance.status is Status.UNSTARTED:
                _check_unstarted(f"{uid} {instance.name}", header, task, instance, history)
    _check_told(uid, header, configuration, instances, history)


def idle(task: Task, instances: Sequence[Instance]) -> int:
    """How many instances of a task merely wait for the next time: nobody has to wait for them."""
    return sum(
        task.rule.every_time
        and each.task == task.name
        and each.status is Status.UNSTARTED
        and not each.parent
        and each.number > 0
        for each in instances
    )


class _History:
    """All events of a session, and what they say."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self._kwargs: dict[int, dict[str, Any]] = {}

    def kwargs(self, event: Event) -> dict[str, Any]:
        """An event's kwargs, decoded once."""
        if event.number not in self._kwargs:
            self._kwargs[event.number] = payloads.decode(bytes(event.payload))
        return self._kwargs[event.number]

    def passing(self, leaf: Leaf, first: int = 0, end: int | None = None) -> list[Event]:
        """The events that pass a leaf, from one number on, up to another one."""
        return [
            event
            for event in self.events[first:end]
            if event.trigger == leaf.trigger
            and (leaf.where is None or leaf.where.passes(self.kwargs(event)))
        ]

    def named(self, number: int, path: str) -> Any:
        """The value that an event has at a path; None when it has none."""
        return look_up(self.kwargs(self.events[number]), path)[1]


def _check_records(
    uid: str, header: Header, configuration: Configuration, history: _History
) -> None:
    wanted, kept = configuration.records, header.records
    assert kept.keys() == wanted.keys(), f"{uid}: records of {sorted(kept)}, not {sorted(wanted)}"
    for address, leaf in wanted.items():
        record = kept[address]
        where = f"{uid}: the record of {leaf.plain!r}"
        counted = history.passing(leaf, record.since)
        assert record.amount == len(counted), f"{where} counts {record.amount}: {len(counted)}"
        if counted:
            first = counted[0].number, counted[0].at
            assert (record.first, record.first_at) == first, f"{where}: first {record.first}"
        known = history.passing(leaf) if leaf.where is None else counted
        latest = (known[-1].number, known[-1].at) if known else (-1, 0.0)
        assert (record.latest, record.latest_at) == latest, f"{where}: latest {record.latest}"
        if known:
            paths = configuration.read_paths.get(address, ())
            until = {path: usable_moment(history.named(known[-1].number, path)) for path in paths}
            assert record.until == until, f"{where}: until {record.until}, it is {until}"


def _check_next_moment(uid: str, header: Header, instances: Sequence[Instance]) -> None:
    moments = [
        each.due_at
        for each in instances
        if each.status is Status.UNSTARTED and each.due_at is not None
    ]
    soonest, bound = min(moments, default=None), header.next_moment
    if soonest is not None:
        assert bound is not None, f"{uid}: no next moment is known, it is {soonest}"
        assert bound <= soonest, f"{uid}: the next moment should be {bound} or later: {soonest}"


def _check_rounds(
    uid: str, header: Header, task: Task, instances: list[Instance], history: _History
) -> None:
    current, where = header.rounds.get(task.name), f"{uid}: the round of {task.name}"
    if not task.rule.every_time:
        assert current is None, f"{where}: it has none"
        return
    originals = [each for each in instances if not each.parent]
    waiting = [each for each in originals if each.status is Status.UNSTARTED]
    if current is None:
        assert not originals, f"{where} is missing"
        return
    assert current.waiting == len(waiting), f"{where}: {current.waiting} waiting: {len(waiting)}"
    assert current.first_waits == any(not each.number for each in waiting), where
    left = max(
        (
            each.left if each.left >= 0 else each.scheduled_by + 1
            for each in originals
            if each.status is not Status.UNSTARTED
        ),
        default=0,
    )
    assert current.left == left, f"{where} begins at {current.left}, not {left}"
    below = _bases(header, task, left, history)
    assert current.bases == below, f"{where}: {current.bases} below {left}, not {below}"


def _bases(header: Header, task: Task, floor: int, history: _History) -> dict[str, int]:
    """Address → how many events of a record that a task requires lie below a number."""
    found = {}
    for leaf in task.rule.shared:
        since = header.records[leaf.record].since
        amount = len(history.passing(leaf, since, max(since, floor)))
        if leaf.required and amount:
            found[leaf.record] = amount
    return found


def _check_unstarted(
    where: str, header: Header, task: Task, instance: Instance, history: _History
) -> None:
    """What an instance has taken, where it has room, and what it notes of its events."""
    rule = task.rule
    for seen, role in ((instance.taken, "required"), (instance.noted, "unless")):
        for key, numbers in seen.items():
            if instance.parent and role == "required":
                continue  # its parent's events, of whatever task that had
            leaf = rule.leaves[key]
            assert leaf.own, f"{where} keeps an event for {key!r}, which is shared"
            assert getattr(leaf, role), f"{where} keeps {key!r} as {role}"
            (number,) = numbers
            passing = history.passing(leaf, number, number + 1)
            assert passing, f"{where}: event {number} does not pass {key!r}"
    room = _room(task, instance)
    assert task.open_triggers(instance) == room, f"{where} has room for {sorted(room)}"
    shared = {leaf.trigger for leaf in rule.shared}
    assert shared.issuperset(instance.watched), f"{where} watches {instance.watched}"
    if instance.parent:
        return
    if instance.floor:
        below = _bases(header, task, instance.floor, history)
        assert instance.bases == below, f"{where}: bases {instance.bases}, not {below}"
    counts = {}
    for leaf in rule.counted:
        assert isinstance(leaf.count, Reference)
        if leaf.count.key in instance.taken:
            number = instance.taken[leaf.count.key][0]
            count = usable_count(history.named(number, leaf.count.path))
            if count is not None:
                counts[leaf.key] = count
    assert instance.counts == counts, f"{where}: counts {instance.counts}, not {counts}"
    if rule.until is not None and rule.until.key in instance.taken:
        number = instance.taken[rule.until.key][0]
        until = usable_moment(history.named(number, rule.until.path))
        assert instance.until == until, f"{where}: until {instance.until}, not {until}"
    if instance.met:
        return
    deadline = _deadline(header, task, instance, history)
    moves = rule.within_of is not None and not rule.leaves[rule.within_of].own
    if not moves:
        assert instance.due_at == deadline, f"{where}: due at {instance.due_at}, not {deadline}"
    elif deadline is None:
        assert instance.due_at is None, f"{where}: due at {instance.due_at}, and has no deadline"
    else:  # it is looked at when the last deadline is over
        assert instance.due_at is not None, f"{where}: not due at {deadline}"
        assert instance.due_at <= deadline, f"{where}: due at {instance.due_at}, after {deadline}"


def _room(task: Task, instance: Instance) -> set[str]:
    """The triggers of which an unstarted instance would take an event in an own leaf."""
    every = any(leaf.key in instance.taken for leaf in task.rule.every)
    found = set()
    for leaf in task.rule.leaves.values():
        full = leaf.key in instance.taken if leaf.required else leaf.key in instance.noted
        full = full or (leaf.every and every) or (leaf.required and bool(instance.parent))
        if leaf.own and not full:
            found.add(leaf.trigger)
    return found


def _deadline(header: Header, task: Task, instance: Instance, history: _History) -> float | None:
    """When an instance whose condition has not come to hold is late, by its events."""
    rule = task.rule
    if rule.within is None:
        return None
    begin: Event | None = None
    if rule.within_of is not None:
        leaf = rule.leaves[rule.within_of]
        if leaf.own:
            begin = _of(instance, leaf, history)
        else:
            seen = history.passing(leaf, instance.floor)
            known = header.records[leaf.record].latest
            begin = seen[-1] if seen and seen[-1].number == known else None
    elif rule.every:
        begin = next((e for e in (_of(instance, leaf, history) for leaf in rule.every) if e), None)
    else:
        first = max(instance.created_by, 0)
        events = [
            event
            for leaf in rule.leaves.values()
            if leaf.own and leaf.required
            for event in [_of(instance, leaf, history)]
            if event is not None and event.number >= first
        ]
        for leaf in rule.shared:
            known = leaf.keep == "latest" and leaf.where is None
            since = 0 if known else header.records[leaf.record].since
            if leaf.required:
                events += history.passing(leaf, max(first, since, instance.floor))[:1]
        begin = min(events, key=lambda each: each.number, default=None)
    return None if begin is None else round(begin.at + rule.within / 1_000_000, 6)


def _of(instance: Instance, leaf: Leaf, history: _History) -> Event | None:
    numbers = instance.taken.get(leaf.key)
    return history.events[numbers[0]] if numbers else None


def _check_told(
    uid: str,
    header: Header,
    configuration: Configuration,
    instances: Sequence[Instance],
    history: _History,
) -> None:
    """An otherwise-trigger came with what it is about, once for an instance and its replays."""
    parents = {each.name: each.parent for each in instances}

    def first(name: str) -> str:
        while parents.get(name):
            name = parents[name]
        return name

    fired = Counter(
        first(event.cause)
        for event in history.events
        if event.source is Source.INSTANCE
        and history.kwargs(event).keys() == _TOLD
        and history.kwargs(event)["instance"] == event.cause
    )
    twice = [name for name, amount in fired.items() if amount > 1]
    assert not twice, f"{uid}: an otherwise-trigger fired more than once for {twice}"
    dropped = {first(each.name) for each in instances if DROPPED in read_metadata(each)}
    for instance in instances:
        root = first(instance.name)
        if instance.told:
            assert fired[root] + (root in dropped) == 1, f"{uid}: {instance.name} told nobody"
        task = configuration.tasks.get(instance.task)
        if task is None or header.config_version > 1 or instance.told:
            continue
        if instance.why in ("late", "skipped") and instance.why in task.rule.otherwise:
            raise AssertionError(f"{uid}: {instance.name} is {instance.why} and told nobody")
