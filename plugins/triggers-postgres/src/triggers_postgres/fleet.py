"""Listings of a session and of all of them, leases, and pruning: in steps, as in `steps`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from triggers_core.engine.records import (
    Event,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
)
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import MOST, check_limit, check_window
from triggers_core.storages.base import Due
from triggers_core.storages.groups import (
    MOST_COUNTED,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
    failed_in_order,
    group_text,
    group_triggers,
    in_order,
    in_use,
    waiting_group,
)
from triggers_core.storages.summaries import (
    SessionSummary,
    fleet_order,
    prunable,
    readable_coming,
    readable_header,
    readable_summaries,
)
from triggers_postgres.sql import Rows, Statement
from triggers_postgres.steps import Last, Steps, Tables, erase_steps

# -- one session -----------------------------------------------------------------------------------


def instances_steps(
    tables: Tables,
    uid: str,
    statuses: Collection[Status] | None = None,
    task: str | None = None,
    unresolved_logs: bool = False,
) -> Steps[list[Instance]]:
    """As `Store.instances`."""
    text, values = tables.sql.instances, [uid]
    if unresolved_logs:
        text += " AND i.logs"
    if statuses is not None:
        # As constants, so that the partial indexes are of use; they are our own words.
        chosen = sorted(f"'{status.value}'" for status in set(statuses))
        text += f" AND i.status IN ({', '.join(chosen) or 'NULL'})"
    if task is not None:
        text += " AND i.task = %s"
        values.append(task)
    (rows,) = yield [(f"{text} ORDER BY i.task, i.number", tuple(values))]
    try:
        return [decode_instance(bytes(record)) for (record,) in rows]
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__


def events_steps(
    tables: Tables, uid: str, start: int = 0, limit: int | None = None
) -> Steps[list[Event]]:
    """As `Store.events`."""
    start, limit = check_window(start, limit)
    (rows,) = yield [(tables.sql.events, (uid, start, limit))]
    return _events(uid, rows)


def events_by_number_steps(
    tables: Tables, uid: str, numbers: Iterable[int]
) -> Steps[dict[int, Event]]:
    """As `Store.events_by_number`."""
    wanted = sorted({each for each in numbers if 0 <= each < MOST})
    (rows,) = yield [(tables.sql.events_by_number, (uid, wanted))]
    return {event.number: event for event in _events(uid, rows)}


def _events(uid: str, rows: Rows) -> list[Event]:
    try:
        return [decode_event(bytes(record)) for (record,) in rows]
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__


# -- all sessions ----------------------------------------------------------------------------------


def now_steps(tables: Tables) -> Steps[float]:
    """The time, in seconds since 1970."""
    now = tables.now
    if now is not None:
        return now
    (rows,) = yield [(tables.sql.clock, ())]
    return float(rows[0][0])


def due_steps(tables: Tables, limit: int | None = 100, within: float = 0.0) -> Steps[list[Due]]:
    """As `Store.due`, but for sessions that somebody has locked.

    Whoever has is changing it now, and an application may keep it for as long as it likes; the
    sweep does not wait for that, it comes again.
    """
    (rows,) = yield [(tables.sql.due, (tables.now, within, check_limit(limit)))]
    return _due(rows)


def coming_steps(
    tables: Tables, within: float, limit: int | None
) -> Steps[list[tuple[str, Instance]]]:
    """As `Store.coming`."""
    values = (tables.now, tables.now, within, check_limit(limit))
    (rows,) = yield [(tables.sql.coming, values)]
    return readable_coming((uid, bytes(record)) for uid, record in rows)


def due_ahead_steps(tables: Tables, seconds: float, limit: int | None = 100) -> Steps[list[Due]]:
    """As `Store.due_ahead`."""
    (rows,) = yield [(tables.sql.due_ahead, (tables.now, seconds, check_limit(limit)))]
    return _due(rows)


def _due(rows: Rows) -> list[Due]:
    return [Due(uid, f"{task}#{number}") for uid, task, number in rows]


def next_due_steps(tables: Tables) -> Steps[float | None]:
    """As `Store.next_due`."""
    (rows,) = yield [(tables.sql.next_due, (tables.now,))]
    return None if rows[0][0] is None else float(rows[0][0])


def sessions_steps(
    tables: Tables,
    failed: bool = False,
    waiting: bool = False,
    limit: int | None = None,
    after: str = "",
) -> Steps[list[SessionSummary]]:
    """As `Store.sessions`."""
    limit = check_limit(limit)
    queries = []
    if failed:
        since = "waiting_since NULLS LAST, " if waiting else ""
        queries.append(f"failed > 0 AND uid > %s ORDER BY failed DESC, {since}uid")
    if waiting:
        queries.append("waiting_since IS NOT NULL AND uid > %s ORDER BY waiting_since, uid")
    found: dict[str, SessionSummary] = {}
    for query in queries or ["uid > %s ORDER BY uid"]:
        found |= yield from _summaries(f"{tables.sql.sessions}{query}", (after,), limit)
    return fleet_order(list(found.values()), failed, waiting, limit)


def _summaries(
    select: str, values: tuple[str | float, ...], limit: int | None
) -> Steps[dict[str, SessionSummary]]:
    found: dict[str, SessionSummary] = {}
    seen = 0
    while limit is None or len(found) < limit:
        amount = None if limit is None else limit - len(found)
        (rows,) = yield [(f"{select} LIMIT %s OFFSET %s", (*values, amount, seen))]
        found |= readable_summaries((uid, bytes(record)) for uid, record in rows)
        seen += len(rows)
        if amount is None or len(rows) < amount:
            break
    return found


# -- groups ----------------------------------------------------------------------------------------


def waiting_groups_steps(tables: Tables, limit: int | None, most: int) -> Steps[list[WaitingGroup]]:
    """As `Store.waiting_groups`."""
    amount = check_limit(limit)
    (rows,) = yield [(tables.sql.waiting_groups, (most + 1, MOST_COUNTED))]
    return in_order(
        waiting_group(group_triggers(text), int(count), float(since), most)
        for text, count, since in rows
    )[:amount]


def waiting_for_steps(
    tables: Tables, missing: Sequence[str], limit: int | None, after: float
) -> Steps[list[SessionSummary]]:
    """As `Store.waiting_for`."""
    values = (group_text(missing), float(after))
    found = yield from _summaries(tables.sql.waiting_for, values, check_limit(limit))
    return list(found.values())


def failed_groups_steps(tables: Tables, limit: int | None) -> Steps[list[FailedGroup]]:
    """As `Store.failed_groups`."""
    amount = check_limit(limit)
    (rows,) = yield [(tables.sql.failed_groups, ())]
    return failed_in_order(
        FailedGroup(task=task, error=error, instances=int(count), since=float(since))
        for task, error, count, since in rows
    )[:amount]


def failed_instances_steps(
    tables: Tables,
    task: str | None,
    error: str | None,
    limit: int | None,
    after: FailedInstance | None,
) -> Steps[list[FailedInstance]]:
    """As `Store.failed_instances`."""
    amount, text = check_limit(limit), tables.sql.failed_instances
    values: list[str | float | int | None] = []
    for column, value in (("task", task), ("error", error)):
        if value is not None:
            text += f" AND i.{column} = %s"
            values.append(value)
    if after is not None:
        text += tables.sql.after_failed
        values += [after.at, *after.position]
    text += " ORDER BY i.failed_at, s.uid, (i.task || '#' || i.number) COLLATE \"C\" LIMIT %s"
    (rows,) = yield [(text, (*values, amount))]
    return [
        FailedInstance(uid=uid, instance=instance, error=error_type, at=float(at))
        for uid, instance, error_type, at in rows
    ]


def find_event_steps(
    tables: Tables, event_id: str, limit: int | None
) -> Steps[list[tuple[str, int]]]:
    """As `Store.find_event`."""
    (rows,) = yield [(tables.sql.find_event, (event_id, check_limit(limit)))]
    return [(uid, int(number)) for uid, number in rows]


def configurations_steps(
    tables: Tables, limit: int | None, after: str, most: int
) -> Steps[list[ConfigurationInUse]]:
    """As `Store.configurations_in_use`."""
    values = (most + 1, after, check_limit(limit))
    (rows,) = yield [(tables.sql.configurations_in_use, values)]
    return [in_use(address, int(amount), most, first) for address, amount, first in rows]


def sessions_with_steps(
    tables: Tables, address: str, limit: int | None, after: str
) -> Steps[list[SessionSummary]]:
    """As `Store.sessions_with`."""
    select = f"{tables.sql.sessions}config = %s AND uid > %s ORDER BY uid"
    found = yield from _summaries(select, (address, after), check_limit(limit))
    return list(found.values())


def old_sessions_steps(
    tables: Tables, before: float, resolved_only: bool, after: str, amount: int
) -> Steps[tuple[list[str], str | None]]:
    """A page of sessions, in the order of their uids: which of them `Store.prune` erases.

    :returns: those, and the last uid that was looked at; None at the end.
    """
    select = f"{tables.sql.sessions}uid > %s ORDER BY uid LIMIT %s"
    (rows,) = yield [(select, (after, amount))]
    headers = ((uid, readable_header(uid, bytes(record))) for uid, record in rows)
    old = [
        uid
        for uid, header in headers
        if header is not None and prunable(header, before, resolved_only)
    ]
    return old, rows[-1][0] if len(rows) == amount else None


def prune_steps(
    tables: Tables, uid: str, before: float, resolved_only: bool, sent: list[int] | None = None
) -> Steps[bool]:
    """Erase a session if it still is so old; whether it was.

    :param sent: as in `steps.delete_steps`.
    """
    (locked,) = yield [(tables.sql.lock, (uid,))]
    if not locked or (sent and locked[0][0] not in sent):
        return bool(sent)
    session, record = locked[0]
    try:
        if not prunable(decode_header(bytes(record)), before, resolved_only):
            return False
    except UnknownSchema:
        return False  # a newer version has written to it since
    return (yield from erase_steps(tables, session, sent=sent))


def collect_steps(tables: Tables) -> Steps[None]:
    """Erase the configurations that no session has any more."""
    (rows,) = yield [(tables.sql.lock_all_unused, ())]
    if rows:
        yield Last([(tables.sql.drop_all_unused, ([hash_ for (hash_,) in rows],))])


# -- leases ----------------------------------------------------------------------------------------


def acquire_lease_steps(tables: Tables, name: str, owner: str, seconds: float) -> Steps[bool]:
    """As `Store.acquire_lease`."""
    (rows,) = yield [(tables.sql.acquire_lease, (name, owner, seconds, tables.now))]
    return bool(rows)


def release_lease_steps(tables: Tables, name: str, owner: str) -> Steps[None]:
    """As `Store.release_lease`."""
    statement: Statement = (tables.sql.release_lease, (name, owner))
    yield [statement]
