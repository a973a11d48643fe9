"""What a session's rows hold, read on a connection: for a commit's decision, and for readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Final

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.names import number_in_id, split_instance_name
from triggers_core.engine.protocol import Query, Snapshot
from triggers_core.engine.records import Event, Header, decode_event, decode_header, decode_instance
from triggers_core.engine.waits import AFTER_MOMENTS, BEFORE_MOMENTS, event_spans
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.base import Clock
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.driving import add_due, may_wait
from triggers_core.storages.sqlite.schema import EVENT_BITS

_CHUNK: Final = 500  # bound parameters in one statement; SQLite's oldest limit is 999

HEADER: Final = "SELECT id, header FROM sessions WHERE uid = ?"
_WAITING: Final = (
    "SELECT i.record FROM waits w JOIN instances i"
    " ON i.session = w.session AND i.task = w.task AND i.number = w.number"
    " WHERE w.session = ? AND w.trigger = ?"
)
# CROSS: along the first index, in its order. Whoever reads it stops where it has enough.
_DUE: Final = (
    "SELECT w.trigger, i.record FROM waits w CROSS JOIN instances i"
    " ON i.session = w.session AND i.task = w.task AND i.number = w.number"
    " WHERE w.session = ? AND w.trigger > ? AND w.trigger < ? AND i.status = 'unstarted'"
    " ORDER BY w.trigger, w.task, w.number"
)
_INSTANCE: Final = "SELECT record FROM instances WHERE session = ? AND task = ? AND number = ?"
_UNSTARTED: Final = (
    "SELECT record FROM instances WHERE session = ? AND task = ? AND status = 'unstarted'"
)
_NUMBER_OF_ID: Final = "SELECT number FROM event_ids WHERE session = ? AND id = ?"
_EVENTS: Final = "SELECT record FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?"


class Found:
    """What a change has found of its session."""

    __slots__ = ("config", "session")

    def __init__(self) -> None:
        self.session: int | None = None
        self.config: str = ""


def load(
    connection: sqlite3.Connection,
    uid: str,
    query: Query,
    found: Found,
    configurations: ConfigurationCache,
    clock: Clock,
) -> Snapshot:
    """As `Store.load`; notes in `found` what a write needs to know."""
    row = connection.execute(HEADER, (uid,)).fetchone()
    if row is None:
        return Snapshot(now=clock())
    session, header = row[0], decode_header(row[1])
    found.session, found.config = session, header.config
    records: list[tuple[bytes]] = []
    configuration = _configuration(connection, header, configurations)
    snapshot = Snapshot(now=clock(), header=header, configuration=configuration)
    if query.moments is not None:
        moments = (session, BEFORE_MOMENTS, AFTER_MOMENTS)
        with closing(connection.execute(_DUE, moments)) as rows:
            index = ((key, decode_instance(record)) for key, record in rows)
            add_due(snapshot, index, query.moments)
    for trigger in query.triggers:
        if may_wait(header, configuration, trigger):
            records += connection.execute(_WAITING, (session, trigger)).fetchall()
    for name in query.instances:
        key = (session, *split_instance_name(name))
        records += connection.execute(_INSTANCE, key).fetchall()
    for task in query.unstarted:
        records += connection.execute(_UNSTARTED, (session, task)).fetchall()
    for (record,) in records:
        instance = decode_instance(record)
        snapshot.instances[instance.name] = instance
    for event_id in query.event_ids:
        event = _event(connection, session, event_id)
        if event is not None:
            snapshot.known[event_id] = event
    if query.all_events:
        snapshot.events = events(connection, session, 0, -1)
    if query.numbers:
        snapshot.numbered = numbered(connection, session, query.numbers)
    if query.payloads:
        asked = [snapshot.instances[n] for n in query.instances if n in snapshot.instances]
        spans = [span for instance in asked for span in event_spans(instance)]
        snapshot.numbered |= _within(connection, session, spans)
    return snapshot


def _event(connection: sqlite3.Connection, session: int, event_id: str) -> Event | None:
    number = number_in_id(event_id)
    if number is None:
        row = connection.execute(_NUMBER_OF_ID, (session, event_id)).fetchone()
        if row is None:
            return None
        number = row[0]
    found = events(connection, session, number, 1)
    return found[0] if found and found[0].id == event_id else None


def _configuration(
    connection: sqlite3.Connection, header: Header, cache: ConfigurationCache
) -> Configuration:
    if not header.config:
        return EMPTY
    configuration = cache.get(header.config)
    if configuration is None:
        select = "SELECT body FROM configurations WHERE hash = ?"
        row = connection.execute(select, (header.config,)).fetchone()
        if row is None:
            raise UnknownSchema(f"its configuration {header.config} is missing")
        configuration = Configuration.decoded(row[0])
        cache.put(header.config, configuration)
    return configuration


def events(connection: sqlite3.Connection, session: int, start: int, limit: int) -> list[Event]:
    """A session's events from number `start` on, in order; a negative limit: all."""
    keys = key_of(session, start), key_of(session + 1, 0) - 1
    rows = connection.execute(_EVENTS, (*keys, limit)).fetchall()
    return [decode_event(record) for (record,) in rows]


def numbered(
    connection: sqlite3.Connection, session: int, numbers: Iterable[int]
) -> dict[int, Event]:
    """Some of a session's events, by number; unknown numbers are left out."""
    found: dict[int, Event] = {}
    # A number out of range would be another session's key.
    keys = sorted({key_of(session, each) for each in numbers if 0 <= each < 1 << EVENT_BITS})
    for begin in range(0, len(keys), _CHUNK):
        chunk = keys[begin : begin + _CHUNK]
        select = f"SELECT record FROM events WHERE key IN ({', '.join('?' * len(chunk))})"
        for (record,) in connection.execute(select, chunk).fetchall():
            event = decode_event(record)
            found[event.number] = event
    return found


def _within(
    connection: sqlite3.Connection, session: int, spans: list[tuple[int, int]]
) -> dict[int, Event]:
    """The events of some spans: one statement for each, and one for all single numbers."""
    single = [first for first, last in spans if first == last]
    found = numbered(connection, session, single) if single else {}
    for first, last in spans:
        if first < last:
            keys = key_of(session, first), min(key_of(session, last), key_of(session + 1, 0) - 1)
            for (record,) in connection.execute(_EVENTS, (*keys, -1)).fetchall():
                event = decode_event(record)
                found[event.number] = event
    return found


def key_of(session: int, number: int) -> int:
    """The key of an event's row."""
    return (session << EVENT_BITS) + number
