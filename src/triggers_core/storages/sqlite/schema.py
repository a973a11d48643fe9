"""The tables of the storage `sqlite`, and how a file becomes one."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import suppress
from typing import Final

from triggers_core.engine.missing import error_type
from triggers_core.engine.records import decode_header, decode_instance
from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_core.storages.groups import failed_at

APPLICATION_ID: Final = 0x54524947  # "TRIG": marks the file as ours
VERSION: Final = 3

# What a commit costs is the pages that it touches (each is one WAL frame) and the statements. So:
# one b-tree a table, and no index that a fire would have to keep unless it needs it.
# WITHOUT ROWID is for short rows only (SQLite advises below a twentieth of a page: longer ones make
# the tree deep), so events have an integer key instead, of the session and the event's number.
_TABLES: Final = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    header BLOB NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    waiting_since REAL
);
CREATE INDEX sessions_failed ON sessions (failed) WHERE failed > 0;
CREATE INDEX sessions_waiting ON sessions (waiting_since) WHERE waiting_since IS NOT NULL;
CREATE TABLE configurations (hash TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (key INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE event_ids (
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (session, id)
) WITHOUT ROWID;
CREATE TABLE instances (
    session INTEGER NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    status TEXT NOT NULL,
    logs INTEGER NOT NULL,
    due_at REAL,
    record BLOB NOT NULL,
    PRIMARY KEY (session, task, number)
) WITHOUT ROWID;
CREATE INDEX instances_due ON instances (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX instances_failed ON instances (session, task, number) WHERE status = 'failed';
CREATE INDEX instances_logs ON instances (session, task, number) WHERE logs = 1;
CREATE TABLE waits (
    session INTEGER NOT NULL,
    trigger TEXT NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (session, trigger, task, number)
) WITHOUT ROWID;
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""
# Which session uses which configuration, so that one goes with the last session that has it; how
# long a lease was asked for, so that one that a wrong clock wrote is recognised. Processes of
# version 1 that run on while the file is upgraded know nothing of the former: their inserts would
# lack it. The trigger refuses them: every session that gets a configuration inserts that first.
_ADDED_IN_2: Final = """
ALTER TABLE sessions ADD COLUMN config INTEGER;
CREATE INDEX sessions_config ON sessions (config) WHERE config IS NOT NULL;
ALTER TABLE configurations ADD COLUMN kept INTEGER;
ALTER TABLE leases ADD COLUMN seconds REAL;
CREATE TRIGGER configurations_by_version_1 BEFORE INSERT ON configurations WHEN NEW.kept IS NULL
BEGIN
    SELECT RAISE(
        ABORT, 'a newer triggers-core has upgraded this file: restart this process with it'
    );
END;
"""
# What the fleet is grouped by: what waiting sessions lack (a fire that leaves it as it was does not
# name the column, and so leaves its index alone), what instances failed of. What falls due by
# itself; events by an application's id, in whatever session; and the sessions of a configuration,
# page by page.
_ADDED_IN_3: Final = """
ALTER TABLE sessions ADD COLUMN missing TEXT NOT NULL DEFAULT '';
CREATE INDEX sessions_missing ON sessions (missing, waiting_since) WHERE waiting_since IS NOT NULL;
CREATE INDEX instances_coming ON instances (due_at)
    WHERE due_at IS NOT NULL AND status = 'unstarted';
ALTER TABLE instances ADD COLUMN error TEXT;
ALTER TABLE instances ADD COLUMN failed_at REAL;
CREATE INDEX instances_errors ON instances (task, error, failed_at) WHERE status = 'failed';
CREATE INDEX instances_failed_at ON instances (failed_at) WHERE status = 'failed';
CREATE INDEX event_ids_id ON event_ids (id);
DROP INDEX sessions_config;
CREATE INDEX sessions_config ON sessions (config, uid) WHERE config IS NOT NULL;
"""
EVENT_BITS: Final = 32
"""Bits of an event's key that hold its number; those above hold the session's id. Room for four
thousand million events in a session, and two thousand million sessions in a file."""


# Of one moment: another process may be making the tables. (It also reads a page, and so opens the
# files beside the database.)
_MARKS: Final = (
    "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)"
    " FROM pragma_user_version, pragma_application_id"
)


def is_prepared(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file has the tables of this version.

    :raises StorageError: the file holds another application's database.
    :raises UnknownSchema: a newer version of Triggers wrote it.
    """
    version, application, tables = connection.execute(_MARKS).fetchall()[0]
    if application == APPLICATION_ID and version > VERSION:
        raise UnknownSchema(
            f"{path} was written in schema {version}, this version of Triggers reads up to"
            f" {VERSION}: upgrade triggers-core in this process"
        )
    if application != APPLICATION_ID and (application or version or tables):
        raise StorageError(f"{path} is the SQLite database of another application: name a new file")
    return bool(application == APPLICATION_ID and version == VERSION)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in an empty file, or bring those of an earlier version up to date.

    The caller keeps other processes out meanwhile: concurrent switches to WAL fail as "locked".
    """
    if is_prepared(connection, path):
        return  # another process was faster
    version, application, _ = connection.execute(_MARKS).fetchall()[0]
    if application == APPLICATION_ID:
        _upgrade(connection, version)
        return
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    # One transaction: a crash leaves an empty file or a whole schema, which the marks below state.
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} {_ADDED_IN_2} {_ADDED_IN_3}"
        f" PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """From an earlier version, in one transaction."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        if version < 2:
            _run(connection, _ADDED_IN_2)
            _note_configurations(connection)
        _run(connection, _ADDED_IN_3)
        _note_groups(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.rollback()


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run several statements; unlike `executescript`, within the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _note_configurations(connection: sqlite3.Connection) -> None:
    """Which session uses which configuration."""
    for session, header in connection.execute("SELECT id, header FROM sessions").fetchall():
        try:
            address = decode_header(header).config
        except UnknownSchema:
            # Nobody can tell which one it needs: all of today's are kept for good.
            connection.execute("UPDATE configurations SET kept = 1")
            continue
        if address:
            values = (address_key(address), session)
            connection.execute("UPDATE sessions SET config = ? WHERE id = ?", values)


def _note_groups(connection: sqlite3.Connection) -> None:
    """What failed instances failed of. What sessions lack, their next change tells."""
    select = "SELECT session, task, number, record FROM instances WHERE status = 'failed'"
    for session, task, number, record in connection.execute(select).fetchall():
        with suppress(UnknownSchema):
            instance = decode_instance(record)
            values = (error_type(instance), failed_at(instance), session, task, number)
            connection.execute(
                "UPDATE instances SET error = ?, failed_at = ?"
                " WHERE session = ? AND task = ? AND number = ?",
                values,
            )


def address_key(address: str) -> int:
    """What `sessions.config` holds of a configuration's address.

    Short, and unique enough to tell whether a configuration is in use. (Of two that share it, one
    stays a little longer.)
    """
    return int.from_bytes(hashlib.blake2b(address.encode(), digest_size=7).digest(), "big")
