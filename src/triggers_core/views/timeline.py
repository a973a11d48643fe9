"""A session's events as plain data: who fired each, who took it, and what it led to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from triggers_core.engine.by_hand import CLOSED, CONFIGURED, LOGS, noted
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Event, Header, Instance
from triggers_core.exceptions import SessionNotFound
from triggers_core.explain.arrivals import Arrivals, origin
from triggers_core.storages.arguments import check_limit
from triggers_core.storages.session import SessionStorage
from triggers_core.texts import iso
from triggers_core.views.session import event_data

EVENTS: Final = 200
"""Events that a timeline shows, unless it is asked for more or fewer."""
_KWARGS: Final = 4_000
"""Bytes of kwargs up to which an event shows them."""
_FURTHER: Final = 1_000
"""Events before those shown that are read, at most, to know which of many an instance counts."""


def timeline(
    storage: SessionStorage,
    *,
    before: int | None = None,
    limit: int = EVENTS,
    secrets: bool = False,
) -> dict[str, Any]:
    """The latest events of a session, the newest first, each followed by the cascades it led to.

    What it costs grows with `limit` and the session's instances, not with its events.

    :param before: only events before this number: for reading on from `earlier`.
    :param limit: events to show at most.
    :param secrets: do not mask kwargs.
    :returns: ``total``; ``earlier``: where the next page begins, or None; ``events``: as
        `session.event_data` has them, with ``level`` (how many of the events above led to it),
        ``led_by`` (the number of the one above it) and ``arrivals`` (``what``, ``text``, ``task``,
        ``instance``); ``kwargs`` is None where they are large: ``size`` says how many bytes;
        ``acts``: what is known to have been done by hand meanwhile, the latest first (``what``,
        ``instance`` or None, ``by``, ``at``; ``above``: the number of the first event below it),
        `limit` of them at most; ``more_acts``: how many that leaves out.
    :raises SessionNotFound: nothing has been stored under the uid.

    Example::

        timeline(manager.storage)["events"][0]["arrivals"][0]["text"]  # "taken by t_ship#0"
    """
    store, uid = storage.store, storage.uid
    check_limit(limit)
    snapshot = store.load(uid, Query())
    header = snapshot.header
    if header is None:
        raise SessionNotFound(f"there is no session {uid!r}: nothing has been fired yet")
    end = header.events if before is None else max(0, min(before, header.events))
    start = max(0, end - limit)
    instances = store.instances(uid)
    by_name = {each.name: each for each in instances}
    first = _first_read(instances, start)
    read = store.events(uid, first, end - first) if end > first else []
    known = {each.number: each for each in read}
    arrivals = Arrivals(snapshot.configuration, header, instances, known)
    shown = [each for each in read if each.number >= start]
    nested = _nested(shown, by_name)
    acts = _acts(header, instances)
    if start:
        acts = [each for each in acts if shown and each[0] >= shown[0].at]
    if end < header.events:
        newer = store.events_by_number(uid, [end])
        if not newer:  # somebody has deleted it since
            raise SessionNotFound(f"there is no session {uid!r} any more")
        acts = [each for each in acts if each[0] < newer[end].at]
    return {
        "uid": uid,
        "total": header.events,
        "earlier": start or None,
        "events": [
            {
                **_event(event, secrets),
                "level": level,
                "led_by": led_by if led_by >= 0 else None,
                "arrivals": [msgspec.to_builtins(each) for each in arrivals.of(event)],
            }
            for event, level, led_by in nested
        ],
        "acts": [
            {
                "what": what,
                "instance": name or None,
                "by": by,
                "at": iso(at),
                "above": next(
                    (e.number for e, level, _ in nested if not level and e.at <= at), None
                ),
            }
            for at, what, name, by in acts[:limit]
        ],
        "more_acts": max(0, len(acts) - limit),
    }


def _acts(header: Header, instances: list[Instance]) -> list[tuple[float, str, str, str]]:
    """Moment, what, instance (if any) and who, of what was done by hand; the latest first."""
    found: list[tuple[float, str, str, str]] = []
    for what in (CONFIGURED, CLOSED):
        if hand := noted(header, what):
            found.append((hand.at, what, "", hand.by))
    for each in instances:
        if each.acted_by and each.ended_at is not None:
            found.append((each.ended_at, each.status.value, each.name, each.acted_by))
        if hand := noted(each, LOGS):
            found.append((hand.at, LOGS, each.name, hand.by))
    return sorted(found, reverse=True)


def _first_read(instances: list[Instance], start: int) -> int:
    """The first event to read: instances count from there, if that is not too far back."""
    firsts = [
        extent.first
        for each in instances
        for extent in each.extents.values()
        if extent.amount and start - _FURTHER <= extent.first < start <= extent.last
    ]
    return min(firsts, default=start)


def _event(event: Event, secrets: bool) -> dict[str, Any]:
    size = len(bytes(event.payload))
    if size <= _KWARGS:
        return {**event_data(event, secrets), "size": size}
    small = msgspec.structs.replace(event, payload=msgspec.Raw(b"{}"))
    return {**event_data(small), "kwargs": None, "size": size}


def _nested(events: list[Event], instances: Mapping[str, Instance]) -> list[tuple[Event, int, int]]:
    """The newest first; behind each, one level deeper, what it led to, the oldest first."""
    below: dict[int, list[Event]] = {}
    origins = {each.number: origin(each, instances) for each in events}
    tops = [each for each in events if origins[each.number] not in origins]
    for each in events:
        below.setdefault(origins[each.number], []).append(each)
    found: list[tuple[Event, int, int]] = []
    left = [(each, 0) for each in tops]  # the last, which is the newest, comes first
    while left:
        event, level = left.pop()
        found.append((event, level, origins[event.number]))
        left += [(each, level + 1) for each in reversed(below.get(event.number, []))]
    return found
