"""The tables of the storage `sqlite`, and how a file becomes one."""

from __future__ import annotations

import sqlite3
from typing import Final

from triggers_core.exceptions import StorageError, UnknownSchema

APPLICATION_ID: Final = 0x54524947  # "TRIG": marks the file as ours
VERSION: Final = 1

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
EVENT_BITS: Final = 32
"""Bits of an event's key that hold its number; those above hold the session's id. Room for four
thousand million events in a session, and two thousand million sessions in a file."""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in an empty file, or check that the file is one of ours.

    The caller keeps other processes out meanwhile: concurrent switches to WAL fail as "locked".

    :raises StorageError: the file holds another application's database.
    :raises UnknownSchema: a newer version of Triggers wrote it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID and version == VERSION:
        return
    if application == APPLICATION_ID and version > VERSION:
        raise UnknownSchema(
            f"{path} was written in schema {version}, this version of Triggers reads up to"
            f" {VERSION}: upgrade triggers-core in this process"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise StorageError(f"{path} is the SQLite database of another application: name a new file")
    connection.execute("PRAGMA journal_mode = WAL")
    # One transaction: a crash leaves an empty file or a whole schema, which the marks below state.
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID};"
        f" PRAGMA user_version = {VERSION}; COMMIT;"
    )
