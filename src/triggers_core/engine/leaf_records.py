"""What a session keeps of the events that pass a leaf: how many, the first, the latest."""

from __future__ import annotations

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.machine import Draft
from triggers_core.engine.records import Event, LeafRecord
from triggers_core.engine.where import look_up, usable_moment


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
