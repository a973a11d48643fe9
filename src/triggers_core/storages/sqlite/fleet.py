"""Reading what concerns all sessions of a file: what is due, failed, waiting. All from indexes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from triggers_core.engine.records import Instance
from triggers_core.storages.arguments import check_limit
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
from triggers_core.storages.sqlite.file import SqliteFile
from triggers_core.storages.sqlite.schema import address_key
from triggers_core.storages.summaries import (
    SessionSummary,
    fleet_order,
    readable_coming,
    readable_summaries,
)


def _rows(file: SqliteFile, select: str, *values: Any) -> list[Any]:
    return file.read(lambda connection: connection.execute(select, values).fetchall())


def _amount(limit: int | None) -> int:
    """A limit as SQLite takes it."""
    amount = check_limit(limit)
    return -1 if amount is None else amount


# -- what is due -----------------------------------------------------------------------------------


def due(file: SqliteFile, until: float, limit: int | None) -> list[Due]:
    """What falls due up to a moment, earliest first."""
    select = (
        "SELECT s.uid, i.task, i.number FROM instances i JOIN sessions s ON s.id = i.session"
        " WHERE i.due_at <= ? ORDER BY i.due_at LIMIT ?"
    )
    return _due(file, select, until, limit)


def due_after(file: SqliteFile, moment: float, limit: int | None) -> list[Due]:
    """What falls due after a moment, farthest first."""
    select = (
        "SELECT s.uid, i.task, i.number FROM instances i JOIN sessions s ON s.id = i.session"
        " WHERE i.due_at > ? ORDER BY i.due_at DESC LIMIT ?"
    )
    return _due(file, select, moment, limit)


def _due(file: SqliteFile, select: str, at: float, limit: int | None) -> list[Due]:
    rows = _rows(file, select, at, _amount(limit))
    return [Due(uid, f"{task}#{number}") for uid, task, number in rows]


def coming(
    file: SqliteFile, after: float, until: float, limit: int | None
) -> list[tuple[str, Instance]]:
    """As `Store.coming`."""
    select = (
        "SELECT s.uid, i.record FROM instances i INDEXED BY instances_coming"
        " CROSS JOIN sessions s ON s.id = i.session"
        " WHERE i.status = 'unstarted' AND i.due_at > ? AND i.due_at <= ?"
        " ORDER BY i.due_at, s.uid, i.task || '#' || i.number LIMIT ?"
    )
    return readable_coming(_rows(file, select, after, until, _amount(limit)))


def first_due(file: SqliteFile) -> float | None:
    """When the next instance falls due."""
    select = "SELECT min(due_at) FROM instances WHERE due_at IS NOT NULL"
    ((due_at,),) = _rows(file, select)
    return None if due_at is None else float(due_at)


# -- sessions --------------------------------------------------------------------------------------


def sessions(
    file: SqliteFile, failed: bool, waiting: bool, limit: int | None, after: str
) -> list[SessionSummary]:
    """As `Store.sessions`."""
    limit = check_limit(limit)
    queries = []
    if failed:
        since = "waiting_since IS NULL, waiting_since, " if waiting else ""
        queries.append(f"failed > 0 AND uid > ? ORDER BY failed DESC, {since}uid")
    if waiting:
        queries.append("waiting_since IS NOT NULL AND uid > ? ORDER BY waiting_since, uid")
    found: dict[str, SessionSummary] = {}
    for query in queries or ["uid > ? ORDER BY uid"]:
        select = f"SELECT uid, header FROM sessions WHERE {query} LIMIT ? OFFSET ?"
        found |= _summaries(file, select, (after,), limit)
    return fleet_order(list(found.values()), failed, waiting, limit)


def _summaries(
    file: SqliteFile, select: str, values: tuple[Any, ...], limit: int | None
) -> dict[str, SessionSummary]:
    def work(connection: sqlite3.Connection) -> dict[str, SessionSummary]:
        found: dict[str, SessionSummary] = {}
        seen = 0
        while limit is None or len(found) < limit:
            amount = -1 if limit is None else limit - len(found)
            rows = connection.execute(select, (*values, amount, seen)).fetchall()
            found |= readable_summaries(rows)
            seen += len(rows)
            if amount < 0 or len(rows) < amount:
                break
        return found

    return file.read(work)


# -- groups ----------------------------------------------------------------------------------------


def waiting_groups(file: SqliteFile, limit: int | None, most: int) -> list[WaitingGroup]:
    """As `Store.waiting_groups`: from one group to the next, whatever lies between."""
    amount = check_limit(limit)
    waiting = "FROM sessions INDEXED BY sessions_missing WHERE waiting_since IS NOT NULL"
    first = f"SELECT missing, waiting_since {waiting} ORDER BY missing, waiting_since LIMIT 1"
    following = first.replace("NULL ORDER", "NULL AND missing > ? ORDER")
    counted = f"SELECT count(*) FROM (SELECT 1 {waiting} AND missing = ? LIMIT ?)"

    def work(connection: sqlite3.Connection) -> list[WaitingGroup]:
        found: list[WaitingGroup] = []
        row = connection.execute(first).fetchone()
        while row is not None and len(found) < MOST_COUNTED:
            text, since = row
            ((sessions,),) = connection.execute(counted, (text, most + 1)).fetchall()
            found.append(waiting_group(group_triggers(text), sessions, since, most))
            row = connection.execute(following, (text,)).fetchone()
        return found

    return in_order(file.read(work))[:amount]


def waiting_for(
    file: SqliteFile, missing: Sequence[str], limit: int | None, after: float
) -> list[SessionSummary]:
    """As `Store.waiting_for`."""
    select = (
        "SELECT uid, header FROM sessions INDEXED BY sessions_missing"
        " WHERE missing = ? AND waiting_since >= ?"
        " ORDER BY waiting_since, uid LIMIT ? OFFSET ?"
    )
    values = (group_text(missing), after)
    return list(_summaries(file, select, values, check_limit(limit)).values())


def failed_groups(file: SqliteFile, limit: int | None) -> list[FailedGroup]:
    """As `Store.failed_groups`."""
    amount = check_limit(limit)
    select = (
        "SELECT task, coalesce(error, ''), count(*), coalesce(min(failed_at), 0) FROM instances"
        " INDEXED BY instances_errors WHERE status = 'failed' GROUP BY task, error"
    )
    return failed_in_order(
        FailedGroup(task=task, error=error, instances=count, since=since)
        for task, error, count, since in _rows(file, select)
    )[:amount]


def failed_instances(
    file: SqliteFile,
    task: str | None,
    error: str | None,
    limit: int | None,
    after: FailedInstance | None,
) -> list[FailedInstance]:
    """As `Store.failed_instances`."""
    conditions = ["i.status = 'failed'"]
    values: list[Any] = []
    for column, value in (("task", task), ("error", error)):
        if value is not None:
            conditions.append(f"i.{column} = ?")
            values.append(value)
    name = "i.task || '#' || i.number"
    if after is not None:
        conditions += ["i.failed_at >= ?", f"(i.failed_at, s.uid, {name}) > (?, ?, ?)"]
        values += [after.at, *after.position]
    select = (
        f"SELECT s.uid, {name}, i.error, i.failed_at FROM instances i"
        f" JOIN sessions s ON s.id = i.session WHERE {' AND '.join(conditions)}"
        f" ORDER BY i.failed_at, s.uid, {name} LIMIT ?"
    )
    return [
        FailedInstance(uid=uid, instance=instance, error=error, at=at)
        for uid, instance, error, at in _rows(file, select, *values, _amount(limit))
    ]


def find_event(file: SqliteFile, event_id: str, limit: int | None) -> list[tuple[str, int]]:
    """As `Store.find_event`."""
    select = (
        "SELECT s.uid, e.number FROM event_ids e JOIN sessions s ON s.id = e.session"
        " WHERE e.id = ? ORDER BY s.uid LIMIT ?"
    )
    return [(uid, number) for uid, number in _rows(file, select, event_id, _amount(limit))]


# -- configurations --------------------------------------------------------------------------------


def configurations_in_use(
    file: SqliteFile, limit: int | None, after: str, most: int
) -> list[ConfigurationInUse]:
    """As `Store.configurations_in_use`."""
    wanted = check_limit(limit)
    addresses = "SELECT hash FROM configurations WHERE hash > ? ORDER BY hash"
    counted = (
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM sessions WHERE config = ?1 LIMIT ?2)),"
        " (SELECT uid FROM sessions WHERE config = ?1 ORDER BY uid LIMIT 1)"
    )

    def work(connection: sqlite3.Connection) -> list[ConfigurationInUse]:
        found: list[ConfigurationInUse] = []
        for (address,) in connection.execute(addresses, (after,)):
            if len(found) == wanted:
                break
            values = (address_key(address), most + 1)
            ((amount, first),) = connection.execute(counted, values).fetchall()
            if amount:  # else one that was kept, since nobody could tell who has it
                found.append(in_use(address, amount, most, first))
        return found

    return file.read(work)


def sessions_with(
    file: SqliteFile, address: str, limit: int | None, after: str
) -> list[SessionSummary]:
    """As `Store.sessions_with`."""
    select = (
        f"SELECT uid, header FROM sessions WHERE config = {address_key(address)} AND uid > ?"
        " ORDER BY uid LIMIT ? OFFSET ?"
    )
    return list(_summaries(file, select, (after,), check_limit(limit)).values())
