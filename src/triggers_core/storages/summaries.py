"""The fleet index: what a listing makes of a session's header, and in which order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from triggers_core.engine.records import (
    Header,
    Instance,
    SessionState,
    Status,
    decode_header,
    decode_instance,
)
from triggers_core.exceptions import UnknownSchema

logger: logging.Logger = logging.getLogger(__name__)


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the fleet index. Times are in seconds since 1970."""

    uid: str
    generation: str
    state: SessionState
    failed: int
    """Instances that failed and were neither replayed nor skipped."""
    unstarted: int
    under_way: int
    events: int
    created_at: float
    updated_at: float
    waiting_since: float | None
    """When the session began to wait for events, with nothing under way."""
    counts: dict[str, list[int]] = {}
    """Task → its instances by status, in the order of `records.STATUSES`."""
    idle: int = 0
    """How many of the unstarted ones merely wait for the next time (`everyTime`)."""
    missing: tuple[str, ...] = ()
    """The triggers that a waiting session waits for, as far as its header tells."""


def summarise(uid: str, header: Header) -> SessionSummary:
    """The fleet index's line for a session."""
    return SessionSummary(
        uid=uid,
        generation=header.generation,
        state=header.state,
        failed=header.total(Status.FAILED),
        unstarted=header.total(Status.UNSTARTED),
        under_way=header.total(Status.SCHEDULED, Status.RUNNING),
        events=header.events,
        created_at=header.created_at,
        updated_at=header.updated_at,
        waiting_since=header.waiting_since,
        counts=header.counts,
        idle=header.idle,
        missing=header.missing,
    )


def readable_header(uid: str, record: bytes) -> Header | None:
    """A session's header, for listings; None, and a warning, when it cannot be read.

    Sessions of a newer version, and damaged ones, must not hide the others.
    """
    try:
        return decode_header(record)
    except UnknownSchema as error:
        logger.warning("%s", error.of(uid))
        return None


def readable_summaries(rows: Iterable[tuple[str, bytes]]) -> dict[str, SessionSummary]:
    """Uid → the fleet index's line, of uids and headers as stored; see `readable_header`."""
    headers = ((uid, readable_header(uid, record)) for uid, record in rows)
    return {uid: summarise(uid, header) for uid, header in headers if header is not None}


def comes(instance: Instance, now: float, within: float) -> bool:
    """Whether an instance falls due by itself from now on, within so many seconds."""
    return (
        instance.status is Status.UNSTARTED
        and instance.due_at is not None
        and now < instance.due_at <= now + within
    )


def in_coming_order(found: Iterable[tuple[str, Instance]]) -> list[tuple[str, Instance]]:
    """Unstarted instances as `Store.coming` lists them: by moment, uid and name."""
    return sorted(found, key=lambda each: (each[1].due_at or 0.0, each[0], each[1].name))


def readable_coming(rows: Iterable[tuple[str, bytes]]) -> list[tuple[str, Instance]]:
    """Uids and instances, of uids and records as stored; without those that cannot be read."""
    found = list[tuple[str, Instance]]()
    for uid, record in rows:
        try:
            found.append((uid, decode_instance(bytes(record))))
        except UnknownSchema as error:
            logger.warning("%s", error.of(uid))
    return in_coming_order(found)


def prunable(header: Header, before: float, resolved_only: bool) -> bool:
    """Whether `Store.prune` may erase a session."""
    if header.updated_at > before:
        return False
    unresolved = header.total(Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING, Status.FAILED)
    return not (resolved_only and unresolved)


def fleet_order(
    summaries: Sequence[SessionSummary], failed: bool, waiting: bool, limit: int | None
) -> list[SessionSummary]:
    """Filter and sort summaries the way `Store.sessions` promises."""
    chosen = [
        each
        for each in summaries
        if not (failed or waiting)
        or (failed and each.failed)
        or (waiting and each.waiting_since is not None)
    ]

    def position(each: SessionSummary) -> tuple[Any, ...]:
        if not (failed or waiting):
            return (each.uid,)
        since = each.waiting_since if waiting and each.waiting_since is not None else float("inf")
        return (-each.failed if failed else 0, since, each.uid)

    return sorted(chosen, key=position)[:limit]
