"""How a session's rows are written, on a connection: what a plan changes, and the end of them."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any, Final

from triggers_core.engine.protocol import Plan
from triggers_core.engine.records import Header, Status, decode_header, encode_record
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.groups import failed_at, group_text
from triggers_core.storages.sqlite.reading import Found, key_of
from triggers_core.storages.sqlite.schema import address_key

_SET_HEADER: Final = "UPDATE sessions SET header = ? WHERE id = ?"
_SET_GROUP: Final = "UPDATE sessions SET header = ?, missing = ? WHERE id = ?"
_SET_SESSION: Final = (
    "UPDATE sessions SET header = ?, missing = ?, failed = ?, waiting_since = ? WHERE id = ?"
)
_CONFIG_OF: Final = "SELECT id, config, header FROM sessions WHERE uid = ?"
_SET_CONFIG: Final = "UPDATE sessions SET config = ? WHERE id = ?"
_DROP_CONFIG: Final = (
    "DELETE FROM configurations WHERE hash = ? AND coalesce(kept, 0) = 0"
    " AND NOT EXISTS (SELECT 1 FROM sessions WHERE config = ?)"
)
_ADD_SESSION: Final = (
    "INSERT INTO sessions (header, missing, failed, waiting_since, uid) VALUES (?, ?, ?, ?, ?)"
)
_ADD_EVENT_ID: Final = "INSERT INTO event_ids (session, id, number) VALUES (?, ?, ?)"
_ADD_EVENT: Final = "INSERT INTO events (key, record) VALUES (?, ?)"
_ADD_INSTANCE: Final = (
    "INSERT INTO instances (status, logs, due_at, record, session, task, number)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SET_INSTANCE: Final = (
    "UPDATE instances SET status = ?, logs = ?, due_at = ?, record = ?"
    " WHERE session = ? AND task = ? AND number = ?"
)
_SET_FAILED: Final = (
    "UPDATE instances SET error = ?, failed_at = ? WHERE session = ? AND task = ? AND number = ?"
)
_ADD_WAIT: Final = "INSERT INTO waits (session, trigger, task, number) VALUES (?, ?, ?, ?)"
_DROP_WAIT: Final = (
    "DELETE FROM waits WHERE session = ? AND trigger = ? AND task = ? AND number = ?"
)


def save(connection: sqlite3.Connection, uid: str, plan: Plan[Any], found: Found) -> None:
    """Write a plan; a session that is new gets a row."""
    execute, header, session = connection.execute, plan.header, found.session
    if plan.configuration is not None:
        insert = "INSERT OR IGNORE INTO configurations (hash, body, kept) VALUES (?, ?, 0)"
        execute(insert, (plan.configuration.hash, plan.configuration.encoded))
    if header is not None:
        session = _save_header(connection, uid, plan, header, session)
        if header.config != found.config:
            execute(_SET_CONFIG, (address_key(header.config), session))
            if found.config:
                execute(_DROP_CONFIG, (found.config, address_key(found.config)))
    assert session is not None
    for event in plan.events:
        execute(_ADD_EVENT, (key_of(session, event.number), encode_record(event)))
        if event.id[:1] != "~":  # those that Triggers generates hold the event's number
            execute(_ADD_EVENT_ID, (session, event.id, event.number))
    for change in plan.changes:
        instance = change.instance
        task, number = instance.task, instance.number
        row = (
            instance.status.value,
            instance.has_open_logs,
            instance.due_at,
            encode_record(instance),
            session,
            task,
            number,
        )
        execute(_ADD_INSTANCE if change.before is None else _SET_INSTANCE, row)
        if instance.status is Status.FAILED and change.before is not Status.FAILED:
            key = (session, task, number)
            execute(_SET_FAILED, (instance.error, failed_at(instance), *key))
        for trigger in change.waits_before - change.waits_after:
            execute(_DROP_WAIT, (session, trigger, task, number))
        for trigger in change.waits_after - change.waits_before:
            execute(_ADD_WAIT, (session, trigger, task, number))


def _save_header(
    connection: sqlite3.Connection,
    uid: str,
    plan: Plan[Any],
    header: Header,
    session: int | None,
) -> int:
    values = (encode_record(header), group_text(header.missing))
    if session is not None and not plan.fleet_changed:
        if header.missing == (plan.group_before or ()):  # its index is left alone
            connection.execute(_SET_HEADER, (values[0], session))
        else:
            connection.execute(_SET_GROUP, (*values, session))
        return session
    index = (header.total(Status.FAILED), header.waiting_since)
    if session is not None:
        connection.execute(_SET_SESSION, (*values, *index, session))
        return session
    added = connection.execute(_ADD_SESSION, (*values, *index, uid)).lastrowid
    assert added is not None
    return added


def delete(connection: sqlite3.Connection, uid: str) -> bool:
    """Erase a session; whether there was one."""
    # By columns alone: a session whose records nobody can read can be erased.
    row = connection.execute(_CONFIG_OF, (uid,)).fetchone()
    if row is None:
        return False
    session, key, header = row
    for table in ("event_ids", "instances", "waits"):
        connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
    keys = key_of(session, 0), key_of(session + 1, 0) - 1
    connection.execute("DELETE FROM events WHERE key BETWEEN ? AND ?", keys)
    connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
    if key is not None:
        with suppress(UnknownSchema):  # which one it had, nobody can tell then; it stays
            connection.execute(_DROP_CONFIG, (decode_header(header).config, key))
    return True
