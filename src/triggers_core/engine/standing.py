"""Standings: what an instance has of each leaf, and from when to when it may wait. Pure functions.

Own leaves are in the instance. What a shared leaf of an unstarted instance holds is read off the
session's record of it; what it held when the instance left `unstarted` is in the instance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable

import msgspec

from triggers_core.engine.conditions import Leaf, Missing
from triggers_core.engine.records import NOTHING, Extent, Header, Instance, LeafRecord, Status
from triggers_core.engine.rule import Rule

UNSTARTED = Status.UNSTARTED
NO_RECORD = LeafRecord()

TimeOf = Callable[[Leaf, int, int], float]
"""The time of the so-manieth event (from 1) that passes a leaf, from an event's number on."""


def later(at: float, micros: int) -> float:
    """A moment so many microseconds after another one, in seconds since 1970."""
    return (round(at * 1_000_000) + micros) / 1_000_000


def record_of(leaf: Leaf, header: Header) -> LeafRecord:
    """What the session knows of the events that pass a leaf that has a record."""
    return header.records.get(leaf.record, NO_RECORD)


def latest_event(leaf: Leaf, header: Header) -> int:
    """The number of the latest event on record that passes a leaf; -1 when there is none."""
    if leaf.record:
        return record_of(leaf, header).latest
    return header.latest.get(leaf.trigger, -1)


def on_record(leaf: Leaf, instance: Instance, header: Header) -> int:
    """How many events a shared leaf of an unstarted instance may see."""
    record = record_of(leaf, header)
    if leaf.keep == "latest":
        return int(record.latest >= (instance.floor if leaf.required else 0))
    return record.amount - (instance.bases.get(leaf.record, 0) if leaf.required else 0)


def count_of(leaf: Leaf, instance: Instance) -> int | None:
    """How many events a counted leaf takes; None while no event has named the number."""
    return leaf.count if isinstance(leaf.count, int) else instance.counts.get(leaf.key)


def events_that_count(leaf: Leaf, instance: Instance, header: Header) -> int:
    """How many events an instance has in a leaf."""
    if leaf.own or instance.status is not UNSTARTED:
        if leaf.key in instance.extents:
            return instance.extents[leaf.key].amount
        return int(leaf.key in instance.taken or leaf.key in instance.noted)
    seen = on_record(leaf, instance, header)
    if leaf.keep != "count":
        return seen
    count = count_of(leaf, instance)
    return 0 if count is None else min(seen, count)


def leaf_holds(leaf: Leaf, instance: Instance, header: Header) -> bool:
    """Whether a leaf of an instance holds."""
    amount = events_that_count(leaf, instance, header)
    if leaf.keep != "count":
        return amount > 0
    count = count_of(leaf, instance)
    return count is not None and amount >= count


def holding(rule: Rule, instance: Instance, header: Header) -> Container[str]:
    """The keys of the leaves that hold."""
    if not rule.shared and not instance.extents:
        return instance.taken.keys() | instance.noted.keys() if instance.noted else instance.taken
    return {leaf.key for leaf in rule.leaves.values() if leaf_holds(leaf, instance, header)}


def keys_with_events(rule: Rule, instance: Instance, header: Header) -> list[str]:
    """The keys of the required leaves in which an instance has an event that counts."""
    return [
        leaf.key
        for leaf in rule.leaves.values()
        if leaf.required and events_that_count(leaf, instance, header)
    ]


def keep_shared(rule: Rule, instance: Instance, header: Header) -> None:
    """Write into an unstarted instance what its shared leaves hold now."""
    extents: dict[str, Extent] = {}
    for leaf in rule.shared:
        amount, record = events_that_count(leaf, instance, header), record_of(leaf, header)
        if leaf.keep == "latest":
            if amount:
                instance.taken[leaf.key] = [record.latest]
            continue
        floor = instance.floor if leaf.required else 0
        extents[leaf.key] = Extent(
            amount=amount,
            first=max(floor, record.first) if amount else 0,
            last=record.latest if amount else -1,
            trigger=leaf.trigger,
            where=NOTHING if leaf.where is None else msgspec.Raw(leaf.where.encoded),
            unless=not leaf.required,
        )
    instance.extents = extents


def prospect(name: str, rule: Rule, header: Header) -> Instance:
    """The instance that a task without any would begin with, as far as records tell what it has.

    It belongs to no session, and knows no count that an event names.

    :param name: the task's.
    """
    instance = Instance(task=name, number=0)
    last = max((latest_event(leaf, header) for leaf in rule.every), default=-1)
    for leaf in rule.leaves.values():
        number = latest_event(leaf, header)
        if leaf.own and number >= 0 and (not leaf.every or number == last):
            (instance.taken if leaf.required else instance.noted)[leaf.key] = [number]
    return instance


def lacking(rule: Rule, instance: Instance, header: Header) -> Missing | None:
    """What keeps an instance's condition from having come to hold; None when nothing does.

    Where the condition holds, and an event does not say until when to wait: that event's leaf.
    """
    missing = rule.required.missing(holding(rule, instance, header))
    if missing is None and rule.until is not None and not instance.met:
        waits = instance.status is UNSTARTED
        if (until_of(rule, instance, header) if waits else instance.until) is None:
            return Missing(1, (rule.leaves[rule.until.key],))
    return missing


def has_room(rule: Rule, leaf: Leaf, instance: Instance) -> bool:
    """Whether an event may still change what a required leaf that does not hold has."""
    return not (leaf.every and any(each.key in instance.taken for each in rule.every))


def is_idle(rule: Rule, instance: Instance) -> bool:
    """Whether an instance merely waits for the next time, so that nobody has to wait for it."""
    return (
        rule.every_time
        and instance.number > 0
        and not instance.parent
        and instance.status is UNSTARTED
    )


# -- time ------------------------------------------------------------------------------------------


def until_of(rule: Rule, instance: Instance, header: Header) -> float | None:
    """The moment that the current event of `waiting.until` names; None: nothing usable."""
    assert rule.until is not None
    leaf = rule.leaves[rule.until.key]
    if leaf.own:
        return instance.until
    if not on_record(leaf, instance, header):
        return None
    return record_of(leaf, header).until.get(rule.until.path)


def come_to_hold(rule: Rule, instance: Instance, header: Header, held: Container[str]) -> bool:
    """Whether the condition holds, and says until when to wait, if it has to."""
    if not rule.required.holds(held):
        return False
    return rule.until is None or until_of(rule, instance, header) is not None


def deadline_of(rule: Rule, instance: Instance, header: Header) -> float | None:
    """When a condition that has not come to hold is too late; None: no such moment is known."""
    if rule.within is None or instance.met:
        return None
    if rule.within_of is None:
        return None if instance.began is None else later(instance.began, rule.within)
    leaf = rule.leaves[rule.within_of]
    if leaf.own:
        return instance.due_at  # known since it took the event
    if not on_record(leaf, instance, header):
        return None
    return later(record_of(leaf, header).latest_at, rule.within)


def hold_end(
    rule: Rule, instance: Instance, header: Header, now: float = 0.0, time_of: TimeOf | None = None
) -> float | None:
    """Until when an instance is held back whose condition has come to hold; None: not at all.

    :param now: when it has come to hold; with `time_of`, needed until the instance is `met`.
    """
    if rule.until is not None:
        end = until_of(rule, instance, header)
        return instance.not_before if end is None else end
    if rule.waiting is None:
        return None
    times = own_times(rule, instance, header, now, time_of) + _latest_times(rule, instance, header)
    if not times:
        return None
    end = later(max(times), rule.waiting)
    if rule.at_most is not None and instance.began is not None:
        end = min(end, later(instance.began, rule.at_most))
    return end


def own_times(
    rule: Rule, instance: Instance, header: Header, now: float, time_of: TimeOf | None
) -> list[float]:
    """When the events came that an instance has in own leaves, and the last one in counted leaves.

    Once the condition has come to hold, `latest_at` has the times of counted leaves that were
    complete, and the others are watched: the record itself goes on.
    """
    times = [] if instance.latest_at is None else [instance.latest_at]
    full: list[tuple[Leaf, int]] = []
    for leaf in rule.shared:
        if leaf.required and leaf.keep == "count":
            seen, count = on_record(leaf, instance, header), count_of(leaf, instance)
            if not seen or not count:
                continue
            if seen <= count:
                times.append(record_of(leaf, header).latest_at)
            elif not instance.met:
                full.append((leaf, count))
    # What came now is the latest of all; else it was not an event that made it hold.
    if full and max(times + _latest_times(rule, instance, header), default=-math.inf) < now:
        assert time_of is not None
        times += [time_of(leaf, count, instance.floor) for leaf, count in full]
    return times


def _latest_times(rule: Rule, instance: Instance, header: Header) -> list[float]:
    """When the latest event of each leaf came that keeps the latest, or all."""
    return [
        record_of(leaf, header).latest_at
        for leaf in rule.shared
        if leaf.required and leaf.keep != "count" and on_record(leaf, instance, header)
    ]


# -- what to watch ---------------------------------------------------------------------------------


def watch(rule: Rule, instance: Instance, header: Header, held: Container[str]) -> list[str]:
    """The triggers of shared leaves of which an unstarted instance has to see the next event.

    None of a leaf that could not decide anything by itself: what an instance lacks in its own
    leaves comes first, and brings the instance along.
    """
    found: dict[str, None] = {}

    def missed(leaves: Iterable[Leaf]) -> None:
        found.update(dict.fromkeys(leaf.trigger for leaf in leaves if not leaf.own))

    might = _Might(rule, instance, held)
    if rule.unless is not None and rule.unless.holds(might):
        missed([leaf for leaf in rule.unless.leaves if leaf.key not in held])
    if instance.parent:
        return list(found)
    shared = [leaf for leaf in rule.shared if leaf.required]
    if rule.required.holds(might):
        for member in rule.required.members:
            lacking = member.missing(held)
            if lacking is not None:
                missed([lacking] if isinstance(lacking, Leaf) else lacking.leaves)
                break
        if rule.until is not None:
            missed([rule.leaves[rule.until.key]])
    if instance.met:
        if rule.waiting is not None:
            missed([leaf for leaf in shared if leaf.keep == "count" and leaf.key not in held])
    elif rule.within_of is not None and instance.due_at is None:
        missed([rule.leaves[rule.within_of]])
    # Its deadline is lifted for good once it was met, what `atMost` says is not: its task may have
    # been replaced since.
    begins = rule.at_most is not None if instance.met else rule.counts_time
    if begins and instance.began is None:
        missed(shared)
    return list(found)


class _Might:
    """The keys of the leaves that hold, or will once enough events have passed them."""

    def __init__(self, rule: Rule, instance: Instance, held: Container[str]) -> None:
        self._rule, self._instance, self._held = rule, instance, held

    def __contains__(self, key: object) -> bool:
        if key in self._held:
            return True
        leaf = self._rule.leaves[str(key)]
        return not leaf.own and (leaf.keep != "count" or count_of(leaf, self._instance) is not None)
