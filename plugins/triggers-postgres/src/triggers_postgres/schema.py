"""The tables of the storage `postgres`: how they come into a database, and into later versions."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_postgres.sql import (
    CLOCK,
    HEADER,
    INSTANCE,
    KNOWN,
    NOW,
    Statement,
    check_schema,
)
from triggers_postgres.steps import Last, Steps

VERSION: Final = 1

# Names sort and compare by code point ("C"), whatever the database's collation is: that is what
# Python does, and an index is of use for it. Pages of rows that are updated again and again keep
# room for their next version, so that no index has to be touched (HOT).
_TABLES: Final = """\
CREATE TABLE {at}schema_version (version integer NOT NULL);
CREATE TABLE {at}configurations (
    hash text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL
);
CREATE TABLE {at}sessions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid text COLLATE "C" NOT NULL UNIQUE,
    header bytea NOT NULL,
    config text COLLATE "C" REFERENCES {at}configurations,
    failed integer NOT NULL DEFAULT 0,
    waiting_since double precision,
    missing text COLLATE "C" NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE INDEX sessions_config ON {at}sessions (config, uid) WHERE config IS NOT NULL;
CREATE INDEX sessions_failed ON {at}sessions (failed DESC, uid) WHERE failed > 0;
CREATE INDEX sessions_waiting ON {at}sessions (waiting_since, uid)
    WHERE waiting_since IS NOT NULL;
CREATE INDEX sessions_missing ON {at}sessions (missing, waiting_since)
    WHERE waiting_since IS NOT NULL;
CREATE TABLE {at}events (
    session bigint NOT NULL,
    number integer NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (session, number)
);
CREATE TABLE {at}event_ids (
    session bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    PRIMARY KEY (session, id)
);
CREATE INDEX event_ids_id ON {at}event_ids (id);
CREATE TABLE {at}instances (
    session bigint NOT NULL,
    task text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    status text COLLATE "C" NOT NULL,
    logs boolean NOT NULL,
    due_at double precision,
    failed_at double precision,
    error text COLLATE "C",
    record bytea NOT NULL,
    PRIMARY KEY (session, task, number)
) WITH (fillfactor = 80);
CREATE INDEX instances_due ON {at}instances (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX instances_coming ON {at}instances (due_at)
    WHERE status = 'unstarted' AND due_at IS NOT NULL;
CREATE INDEX instances_unstarted ON {at}instances (session, task) WHERE status = 'unstarted';
CREATE INDEX instances_failed ON {at}instances (session, task, number) WHERE status = 'failed';
CREATE INDEX instances_errors ON {at}instances (task, error, failed_at) WHERE status = 'failed';
CREATE INDEX instances_failed_at ON {at}instances (failed_at) WHERE status = 'failed';
CREATE INDEX instances_logs ON {at}instances (session, task, number) WHERE logs;
CREATE TABLE {at}waits (
    session bigint NOT NULL,
    trigger text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    PRIMARY KEY (session, trigger, task, number)
);
CREATE TABLE {at}leases (
    name text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    until double precision NOT NULL,
    seconds double precision NOT NULL
);
"""
# What every change begins with, and what most end with: in one round trip each, whether or not the
# driver has pipelines, and planned once a connection. Each statement of a VOLATILE function sees
# what was committed before it began, so that what follows the lock is current. Plans are kept while
# tables grow: so no sequential scans, which are good for tables of a page; and a loop over arrays,
# for `= ANY` leaves the planner the choice to read, and filter, all that the session has.
_FUNCTIONS: Final = """\
CREATE FUNCTION {at}lock_session(
    session_uid text, triggers text[], tasks text[], numbers integer[], ids text[]
) RETURNS TABLE (part integer, name text, at double precision, record bytea)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $function$
DECLARE
    found_id bigint;
    found_header bytea;
    given text;
BEGIN
    SELECT s.id, s.header INTO found_id, found_header
        FROM {at}sessions s WHERE s.uid = session_uid FOR UPDATE;
    part := {NOW}; name := ''; at := {CLOCK}; record := '';
    RETURN NEXT;
    IF found_id IS NULL THEN RETURN; END IF;
    part := {HEADER}; at := found_id; record := found_header;
    RETURN NEXT;
    IF triggers IS NOT NULL THEN
        FOREACH given IN ARRAY triggers LOOP
            RETURN QUERY SELECT {INSTANCE}, ''::text, 0::double precision, (
                SELECT i.record FROM {at}instances i
                WHERE i.session = w.session AND i.task = w.task AND i.number = w.number
            ) FROM {at}waits w WHERE w.session = found_id AND w.trigger = given;
        END LOOP;
    END IF;
    IF tasks IS NOT NULL THEN
        RETURN QUERY SELECT {INSTANCE}, ''::text, 0::double precision, (
            SELECT i.record FROM {at}instances i
            WHERE i.session = found_id AND i.task = x.task AND i.number = x.number
        ) FROM unnest(tasks, numbers) AS x(task, number);
    END IF;
    IF ids IS NOT NULL THEN
        FOREACH given IN ARRAY ids LOOP
            RETURN QUERY SELECT {KNOWN}, n.id, 0::double precision, (
                SELECT e.record FROM {at}events e
                WHERE e.session = n.session AND e.number = n.number
            ) FROM {at}event_ids n WHERE n.session = found_id AND n.id = given;
        END LOOP;
    END IF;
END
$function$;
CREATE FUNCTION {at}write_change(
    session_id bigint, session_header bytea, session_missing text,
    event_number integer, event_record bytea, event_id text,
    instance_task text, instance_number integer, instance_status text, instance_logs boolean,
    instance_due double precision, instance_record bytea,
    dropped_waits text[], added_waits text[]
) RETURNS bigint LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $function$
DECLARE
    given text;
BEGIN
    IF session_header IS NOT NULL THEN
        UPDATE {at}sessions SET header = session_header, missing = session_missing
            WHERE id = session_id;
    END IF;
    IF event_number IS NOT NULL THEN
        INSERT INTO {at}events (session, number, record)
            VALUES (session_id, event_number, event_record);
    END IF;
    IF event_id IS NOT NULL THEN
        INSERT INTO {at}event_ids (session, id, number)
            VALUES (session_id, event_id, event_number);
    END IF;
    IF instance_task IS NOT NULL THEN
        INSERT INTO {at}instances (session, task, number, status, logs, due_at, record)
            VALUES (session_id, instance_task, instance_number, instance_status, instance_logs,
                instance_due, instance_record)
            ON CONFLICT (session, task, number) DO UPDATE SET status = excluded.status,
                logs = excluded.logs, due_at = excluded.due_at, record = excluded.record;
    END IF;
    IF dropped_waits IS NOT NULL THEN
        FOREACH given IN ARRAY dropped_waits LOOP
            DELETE FROM {at}waits WHERE session = session_id AND trigger = given
                AND task = instance_task AND number = instance_number;
        END LOOP;
    END IF;
    IF added_waits IS NOT NULL THEN
        FOREACH given IN ARRAY added_waits LOOP
            INSERT INTO {at}waits (session, trigger, task, number)
                VALUES (session_id, given, instance_task, instance_number);
        END LOOP;
    END IF;
    RETURN session_id;
END
$function$;
"""
_UPGRADES: Final[dict[int, str]] = {}
"""Version → what makes it the next one. (None so far.)"""


_ENDS: Final = re.compile(r";\n(?=(?:ALTER|COMMENT|CREATE|DROP|INSERT|UPDATE) |\Z)")
_IS_THERE: Final = (
    "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = 'schema_version'"
)


def schema_sql(schema: str = "triggers", version: int | None = None) -> str:
    """The statements that make the tables, for those who keep their migrations elsewhere.

    :param schema: the PostgreSQL schema that they go into; it is created as well.
    :param version: of tables that are there already: only what upgrades them. None: all.
    :returns: SQL, to be run in one transaction; empty when nothing is to be done.
    """
    at = f'"{check_schema(schema)}".'
    if version is not None:
        upgrades = "".join(_UPGRADES[each].format(at=at) for each in range(version, VERSION))
        return upgrades and f"{upgrades}UPDATE {at}schema_version SET version = {VERSION};\n"
    return (
        f'CREATE SCHEMA IF NOT EXISTS "{schema}";\n{_TABLES.format(at=at)}{_functions(at)}'
        f"INSERT INTO {at}schema_version VALUES ({VERSION});\n"
    )


def _functions(at: str) -> str:
    parts = {"NOW": NOW, "HEADER": HEADER, "INSTANCE": INSTANCE, "KNOWN": KNOWN}
    return _FUNCTIONS.format(at=at, CLOCK=CLOCK, **parts)


def version_steps(schema: str) -> Steps[int | None]:
    """The version of the tables that are there; None when there are none."""
    check_schema(schema)
    # From the catalogue itself: what to_regclass says may be of before a lock was waited for.
    (rows,) = yield [(_IS_THERE, (schema,))]
    if not rows:
        return None
    (rows,) = yield [(f'SELECT version FROM "{schema}".schema_version', ())]
    return int(rows[0][0]) if rows else None


def isolation_steps() -> Steps[str]:
    """The isolation level of transactions that do not say theirs."""
    (rows,) = yield [("SELECT current_setting('default_transaction_isolation')", ())]
    return str(rows[0][0])


def set_up_steps(schema: str) -> Steps[bool]:
    """Make the tables, or upgrade them, in one transaction; whether anything was to be done.

    Others who want to do the same at that time wait for a lock, and then see that it is done.

    :raises UnknownSchema: a newer version made them.
    :raises StorageError: the database's encoding cannot hold every name.
    """
    yield [("SELECT pg_advisory_xact_lock(%s::bigint)", (_lock_key(schema),))]
    version = yield from version_steps(schema)
    if version is not None:
        check_version(version, f"the schema {schema!r}")
        if version == VERSION:
            return False
        yield Last(_statements(schema_sql(schema, version)))
        return True
    encoding, there = yield [
        ("SELECT current_setting('server_encoding')", ()),
        ("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)),
    ]
    if encoding[0][0] != "UTF8":
        raise StorageError(
            f"the database's encoding is {encoding[0][0]}, which cannot hold every name: create one"
            " with ENCODING 'UTF8'"
        )
    # CREATE SCHEMA asks for a right on the database even when there is nothing to create.
    statements = _statements(schema_sql(schema))
    yield Last(statements[1:] if there else statements)
    return True


def check_version(version: int, place: str) -> None:
    """:raises UnknownSchema: a newer version of this plugin made the tables."""
    if version > VERSION:
        raise UnknownSchema(
            f"{place} was made in version {version}, this version of triggers-postgres knows"
            f" versions up to {VERSION}: upgrade it in this process"
        )


def _statements(sql: str) -> list[Statement]:
    """The statements one by one, as drivers want them; those of a function's body are no others."""
    return [(each.strip(), ()) for each in _ENDS.split(sql) if each.strip()]


def _lock_key(schema: str) -> int:
    digest = hashlib.blake2b(f"triggers:{schema}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
