"""Taken events: those that count for an instance, by the key of its leaves, and their kwargs.

What they are read from is there for good once the instance has left `unstarted`: the numbers that
it took, and the extents of its shared leaves. Whoever calls has loaded the events within its spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from triggers_core import payloads
from triggers_core.engine.records import NOTHING, Event, Extent, Instance, Source
from triggers_core.engine.where import Where

KwargsByTrigger = dict[str, Any]
"""Key of a leaf (mostly its trigger's name) → kwargs, as a body gets them: a dict, or a list of
dicts for a leaf of several events."""

Events = Mapping[int, Event]
"""Event number → event."""


class TakenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a body sees it (`TaskContext.events`). `at` is in seconds since 1970."""

    number: int
    trigger: str
    kwargs: dict[str, Any]
    """As they were fired, without the task's `withParams`."""
    at: float
    id: str
    source: Source
    """Who fired it: the application, an instance or a plugin…"""
    cause: str
    """…and which one; empty for the application."""


def seen_events(instance: Instance, key: str, events: Events) -> list[TakenEvent]:
    """The events of a required leaf, in order, as the body sees them; empty when it has none.

    :param events: the events within the instance's spans, or more.
    """
    extent = instance.extents.get(key)
    if key not in instance.taken and (extent is None or extent.unless):
        return []
    return [
        TakenEvent(
            number=event.number,
            trigger=event.trigger,
            kwargs=payloads.decode(bytes(event.payload)),
            at=event.at,
            id=event.id,
            source=event.source,
            cause=event.cause,
        )
        for event in events_of(instance, key, events)
    ]


def events_of(instance: Instance, key: str, events: Events) -> list[Event]:
    """The events that count for a leaf, in order; of `unless`, too. Empty when there are none.

    :param events: the events within the instance's spans, or more.
    """
    extent = instance.extents.get(key)
    if extent is not None:
        return [event for event, _ in _within(extent, events)]
    numbers = instance.taken.get(key) or instance.noted.get(key) or ()
    return [events[number] for number in numbers]


def taken_events(instance: Instance, events: Events, limit: int) -> list[Event]:
    """The records of the events of all its required leaves, each once, by number.

    :param events: the events within the instance's spans, or more.
    :param limit: how many at most; of a leaf of more, its first ones.
    """
    found: dict[int, Event] = {}
    for key in instance.taken:
        found.update((each.number, each) for each in events_of(instance, key, events))
    for extent in instance.extents.values():
        if not extent.unless and len(found) < limit:
            within = (event for event, _ in _within(extent, events))
            found.update((each.number, each) for each in islice(within, limit))
    return [found[number] for number in sorted(found)[:limit]]


def kwargs_of(instance: Instance, events: Events) -> KwargsByTrigger:
    """What the events of its required leaves say: kwargs, a list of them for an extent.

    :param events: the events within the instance's spans, or more.
    """
    kwargs: KwargsByTrigger = {
        key: payloads.decode(bytes(events[numbers[0]].payload))
        for key, numbers in instance.taken.items()
    }
    for key, extent in instance.extents.items():
        if not extent.unless:
            kwargs[key] = [
                payloads.decode(bytes(event.payload)) if read is None else read
                for event, read in _within(extent, events)
            ]
    return kwargs


def recorded_kwargs(instance: Instance, events: Events) -> KwargsByTrigger:
    """The kwargs that an instance has recorded, or those that a replay put in their place."""
    if instance.replaced is not NOTHING:
        return payloads.decode(bytes(instance.replaced))
    return kwargs_of(instance, events)


def merge_params(under: Mapping[str, Any], recorded: KwargsByTrigger) -> KwargsByTrigger:
    """Put a task's `withParams` under recorded kwargs; of a list, under each of its members."""
    lists = {key: value for key, value in recorded.items() if isinstance(value, list)}
    if not lists:
        return payloads.merge(under, recorded)
    plain = {key: value for key, value in recorded.items() if key not in lists}
    merged = payloads.merge({k: v for k, v in under.items() if k not in lists}, plain)
    for key, members in lists.items():
        below = under.get(key) or {}
        merged[key] = [payloads.merge(below, member) for member in members]
    return merged


def _within(extent: Extent, events: Events) -> Iterator[tuple[Event, dict[str, Any] | None]]:
    """The events of an extent, with their kwargs if those had to be read for its tests."""
    left, where = extent.amount, _compiled(bytes(extent.where))
    for number in range(extent.first, extent.last + 1) if left > 0 else ():
        event = events.get(number)
        if event is None or event.trigger != extent.trigger:
            continue
        kwargs = None
        if where is not None:
            kwargs = payloads.decode(bytes(event.payload))
            if not where.passes(kwargs):
                continue
        yield event, kwargs
        left -= 1
        if not left:
            return


@lru_cache(256)
def _compiled(written: bytes) -> Where | None:
    return Where(payloads.decode(written)) if written else None
