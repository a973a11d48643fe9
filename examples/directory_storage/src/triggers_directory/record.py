"""A session in one file: its records as they are, and indexes for what is looked up."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Plan, Query, Snapshot
from triggers_core.engine.records import (
    Event,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.engine.waits import event_spans, is_moment
from triggers_core.storages.driving import add_due

configuration_of = lru_cache(256)(Configuration.decoded)
"""Decoding one of many tasks takes long, and nobody changes it: so those in use are kept."""


class SessionFile(msgspec.Struct):
    """What the file of a session holds, as JSON."""

    uid: str
    header: msgspec.Raw = msgspec.Raw(b"{}")
    configuration: msgspec.Raw = msgspec.Raw(b"{}")
    events: list[msgspec.Raw] = []
    instances: dict[str, msgspec.Raw] = {}
    ids: dict[str, int] = {}
    """Event id → number."""
    waits: dict[str, list[str]] = {}
    """Unstarted instance → the triggers and moments that it waits for."""
    due: dict[str, float] = {}
    """Instance → when the sweep should look after it, in seconds since 1970."""

    def event(self, number: int) -> Event:
        """Decode an event."""
        return decode_event(bytes(self.events[number]))

    def instance(self, name: str) -> Instance:
        """Decode an instance."""
        return decode_instance(bytes(self.instances[name]))


def apply(plan: Plan[Any], session: SessionFile) -> None:
    """Write a stamped plan into a session."""
    if plan.header is not None:
        session.header = msgspec.Raw(encode_record(plan.header))
    if plan.configuration is not None:
        session.configuration = msgspec.Raw(plan.configuration.encoded)
    for event in plan.events:
        session.events.append(msgspec.Raw(encode_record(event)))
        session.ids[event.id] = event.number
    for change in plan.changes:
        instance = change.instance
        session.instances[instance.name] = msgspec.Raw(encode_record(instance))
        session.waits.pop(instance.name, None)
        if change.waits_after:
            session.waits[instance.name] = sorted(change.waits_after)
        session.due.pop(instance.name, None)
        if instance.due_at is not None:
            session.due[instance.name] = instance.due_at


def snapshot(session: SessionFile | None, query: Query, now: float) -> Snapshot:
    """Answer a query. Everything is decoded anew, so whoever gets it may change it."""
    if session is None:
        return Snapshot(now=now)
    instances = {name: session.instance(name) for name in wanted(session, query)}
    numbers = set(query.numbers)
    if query.payloads:
        taken = (instances[name] for name in query.instances if name in instances)
        spans = (span for instance in taken for span in event_spans(instance))
        numbers.update(number for first, last in spans for number in range(first, last + 1))
    answer = Snapshot(
        now=now,
        header=decode_header(bytes(session.header)),
        configuration=configuration_of(bytes(session.configuration)),
        instances=instances,
        known={i: session.event(session.ids[i]) for i in query.event_ids if i in session.ids},
        events=[session.event(n) for n in range(len(session.events))] if query.all_events else [],
        numbered={n: session.event(n) for n in numbers if 0 <= n < len(session.events)},
    )
    if query.moments is not None:
        keys = ((key, name) for name, waits in session.waits.items() for key in waits)
        moments = sorted((key, name) for key, name in keys if is_moment(key))
        add_due(answer, ((key, session.instance(name)) for key, name in moments), query.moments)
    return answer


def wanted(session: SessionFile, query: Query) -> Iterator[str]:
    """Names of the instances that a query wants, but for those that fall due."""
    yield from (name for name in query.instances if name in session.instances)
    for name, waits in session.waits.items():
        if not set(waits).isdisjoint(query.triggers):
            yield name
    for name in session.instances if query.unstarted else ():
        instance = session.instance(name)
        if instance.task in query.unstarted and instance.status is Status.UNSTARTED:
            yield name
