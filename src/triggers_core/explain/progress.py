"""Progress: what an instance has of its condition and what that needs, as a tree of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from triggers_core import payloads
from triggers_core.engine.conditions import Group, Leaf, Reference
from triggers_core.engine.records import Event, Header, Instance, Status
from triggers_core.engine.rule import Rule
from triggers_core.engine.standing import (
    count_of,
    events_that_count,
    has_room,
    holding,
    lacking,
    latest_event,
    on_record,
    record_of,
)
from triggers_core.engine.where import look_up, usable_count, usable_moment
from triggers_core.explain.data import FailedTest, Part, Seen, Unusable
from triggers_core.explain.rules import failing_part, said_where, shown_value

Events = Mapping[int, Event]
"""Event number → event: those of `numbers_shown`, or more."""


def numbers_shown(rule: Rule, instance: Instance, header: Header) -> Iterator[int]:
    """The numbers of the events that an explanation of an instance tells of; of some, -1."""
    for numbers in (*instance.taken.values(), *instance.noted.values()):
        yield numbers[0]
    yield instance.scheduled_by
    if rule.plain:
        return
    yield instance.created_by
    for extent in instance.extents.values():
        yield extent.last
    if not _open(instance) and not instance.late and instance.moment is None:
        return
    held = holding(rule, instance, header)
    for leaf in rule.leaves.values():
        if leaf.key in held and not (rule.until and leaf.key == rule.until.key and not leaf.own):
            continue
        yield latest_event(leaf, header)
        if leaf.where is not None:
            yield header.latest.get(leaf.trigger, -1)


class Progress:
    """What one instance has, and needs.

    :ivar condition: the required one; `unless`: the other, None where there is none. What they say
        of events that did not count is said of the leaves that the condition lacks.
    """

    def __init__(self, rule: Rule, instance: Instance, header: Header, events: Events) -> None:
        self._rule, self._instance, self._header, self._events = rule, instance, header, events
        self._held = holding(rule, instance, header)
        self._matters = {
            leaf.key
            for condition in (rule.required, rule.unless)
            if condition is not None and (missing := condition.missing(self._held)) is not None
            for leaf in missing.leaves
            if has_room(rule, leaf, instance)
        }
        lacks = _open(instance) or instance.late
        self._lacks_until = (
            lacks
            and rule.required.holds(self._held)
            and lacking(rule, instance, header) is not None
        )

    @property
    def condition(self) -> Part:
        members = self._rule.required.members
        return self._part(members[0] if len(members) == 1 else self._rule.required)

    @property
    def unless(self) -> Part | None:
        unless = self._rule.unless
        if unless is None:
            return None
        return self._part(unless.members[0] if len(unless.members) == 1 else unless)

    def _part(self, condition: Leaf | Group) -> Part:
        if isinstance(condition, Leaf):
            return self._leaf(condition)
        parts = [self._part(each) for each in condition.members]
        has = sum(each.holds for each in parts)
        return Part(holds=has >= condition.least, has=has, needs=condition.least, of=parts)

    def _leaf(self, leaf: Leaf) -> Part:
        instance, header = self._instance, self._header
        counted = leaf.keep == "count"
        holds, matters = leaf.key in self._held, leaf.key in self._matters
        until = self._rule.until
        unusable = None
        if counted and isinstance(leaf.count, Reference) and leaf.key not in instance.counts:
            unusable = self._unusable(leaf.count)
        elif self._lacks_until and until is not None and leaf.key == until.key:
            unusable, holds = self._unusable(until), False
        return Part(
            holds=holds,
            has=self._amount(leaf),
            needs=count_of(leaf, instance) if counted else 1,
            trigger=leaf.trigger,
            key="" if leaf.key == leaf.trigger else leaf.key,
            where=said_where(leaf),
            keep=leaf.keep,
            since=self._since(leaf),
            failed=self._failed(leaf) if matters else None,
            unusable=unusable,
            too_late=self.too_late(leaf) if matters else None,
            begins_with=begins_with(leaf, header) if matters else 0,
        )

    def _amount(self, leaf: Leaf) -> int:
        """How many events it has; of those that no number has been named for, all on record."""
        instance, header = self._instance, self._header
        if leaf.keep == "count" and count_of(leaf, instance) is None and _open(instance):
            return max(0, on_record(leaf, instance, header))
        return events_that_count(leaf, instance, header)

    def _since(self, leaf: Leaf) -> float | None:
        instance = self._instance
        taken = instance.taken.get(leaf.key) or instance.noted.get(leaf.key)
        if taken:
            return self._time(taken[0])
        extent = instance.extents.get(leaf.key)
        if extent is not None:
            # Where more events have passed than it counts, the last that counts is not at hand.
            return self._time(extent.last) if extent.amount and leaf.keep != "count" else None
        if leaf.own or not _open(instance) or not self._amount(leaf):
            return None
        count = count_of(leaf, instance) if leaf.keep == "count" else None
        if count is not None and on_record(leaf, instance, self._header) > count:
            return None
        return record_of(leaf, self._header).latest_at

    def _time(self, number: int) -> float | None:
        event = self._events.get(number)
        return None if event is None else event.at

    def _failed(self, leaf: Leaf) -> FailedTest | None:
        """The test that the latest event of its trigger failed, if that did not pass."""
        number = self._header.latest.get(leaf.trigger, -1)
        event = self._events.get(number)
        floor = self._instance.floor if leaf.required else 0
        return None if event is None or number < max(0, floor) else failed_test(leaf, event)

    def _unusable(self, reference: Reference) -> Unusable | None:
        """What the current event of a reference says; None while there is no such event."""
        leaf = self._rule.leaves[reference.key]
        taken = self._instance.taken.get(leaf.key)
        number = taken[0] if taken else -1
        if not leaf.own and on_record(leaf, self._instance, self._header):
            number = record_of(leaf, self._header).latest
        event = self._events.get(number)
        if event is None:
            return None
        given, found = look_up(_kwargs(event), reference.path)
        return Unusable(
            trigger=leaf.trigger,
            event=number,
            path=reference.path,
            given=given,
            found=shown_value(reference.path, found) if given else "",
        )

    def too_late(self, leaf: Leaf) -> Seen | None:
        """The latest event that passes a leaf, if it came when the instance's time was up."""
        instance = self._instance
        if instance.moment is None or instance.parent:
            return None
        number = latest_event(leaf, self._header)
        event = self._events.get(number)
        if event is None or number < instance.left:
            return None
        return Seen(
            trigger=event.trigger,
            event=number,
            at=event.at,
            key="" if leaf.key == event.trigger else leaf.key,
        )


def failed_test(leaf: Leaf, event: Event) -> FailedTest | None:
    """The first test of a leaf that an event of its trigger fails; None if it passes."""
    if leaf.where is None:
        return None
    kwargs = _kwargs(event)
    for test in leaf.where.tests:
        if not test.holds(kwargs):
            given, found = test.found(kwargs)
            return FailedTest(
                event=event.number,
                at=event.at,
                path=test.path,
                given=given,
                found=shown_value(test.path, found) if given else "",
                expected=failing_part(test, kwargs),
            )
    return None


def begins_with(leaf: Leaf, header: Header) -> int:
    """The number of the first event that can count for a leaf; 0 where none is left out."""
    if not leaf.record or leaf.trigger not in header.latest:
        return 0
    if leaf.keep == "latest" and leaf.where is None:
        return 0  # the latest one is known from the start
    record = header.records.get(leaf.record)
    return 0 if record is None else record.since


def note_facts(rule: Rule, instance: Instance, events: Events) -> None:
    """Note in an instance that is not stored what its events name: counts, until when to wait."""

    def named(reference: Reference) -> Any:
        taken = instance.taken.get(reference.key)
        event = events.get(taken[0]) if taken else None
        return None if event is None else look_up(_kwargs(event), reference.path)[1]

    for leaf in rule.counted:
        assert isinstance(leaf.count, Reference)
        amount = usable_count(named(leaf.count))
        if amount is not None:
            instance.counts[leaf.key] = amount
    if rule.until is not None:
        instance.until = usable_moment(named(rule.until))


def _open(instance: Instance) -> bool:
    return instance.status is Status.UNSTARTED


def _kwargs(event: Event) -> dict[str, Any]:
    return payloads.decode(bytes(event.payload))
