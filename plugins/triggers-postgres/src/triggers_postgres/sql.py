"""The statements, for the tables in one schema of PostgreSQL.

Positional parameters (``%s``) of plain types alone, so that any driver can carry them out.
"""

from __future__ import annotations

import re
from typing import Any, Final

from triggers_core.exceptions import StorageError
from triggers_core.texts import short_repr

Parameters = tuple[Any, ...]
Statement = tuple[str, Parameters]
"""A statement, and its parameters: str, int, float, bool, bytes, None, and lists of those."""
Rows = list[tuple[Any, ...]]

CLOCK: Final = "extract(epoch FROM clock_timestamp())::float8"

_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

# What the statement that reads tells apart.
NOW, HEADER, INSTANCE, MOMENT, KNOWN, NUMBERED, EVENT = range(7)


def check_schema(schema: object) -> str:
    """Return the name of the schema.

    :raises StorageError: it is none that the statements could hold.
    """
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        raise StorageError(
            f"schema: expected a name of 1 to 63 letters, digits and underscores, no digit first,"
            f" got {short_repr(schema)}"
        )
    return schema


class Sql:
    """The statements.

    :param schema: where the tables are.
    """

    def __init__(self, schema: str) -> None:
        self.schema: str = check_schema(schema)
        at = f'"{schema}".'
        sessions, instances, events = f"{at}sessions", f"{at}instances", f"{at}events"
        waits, leases, configurations = f"{at}waits", f"{at}leases", f"{at}configurations"
        event_ids = f"{at}event_ids"

        # -- one session ----------------------------------------------------------------------

        self.lock: str = f"SELECT id, header FROM {sessions} WHERE uid = %s FOR UPDATE"
        self.lock_and_read: str = (
            f"SELECT part, name, at, record FROM {at}lock_session(%s::text, %s::text[], %s::text[],"
            " %s::integer[], %s::text[])"
        )
        """Uid; triggers; tasks and numbers of instances; ids of events. See `schema`.

        Where there are none of them, NULL is for less work than an empty list.
        """
        self.session: str = (
            f"WITH s AS MATERIALIZED (SELECT id, header FROM {sessions} WHERE uid = %s)"
        )
        """What the parts below read from; by uid, for the id is not known yet."""
        self.session_by_id: str = (
            f"WITH s AS MATERIALIZED (SELECT id, header FROM {sessions} WHERE id = %s)"
        )
        self.now: str = f"SELECT {NOW}, ''::text, {CLOCK}, ''::bytea"
        self.header: str = f"SELECT {HEADER}, '', id::float8, header FROM s"
        # What an index has to find is in subqueries: joins would leave the planner the choice to
        # begin at the other end, with every instance of the session.
        record = (
            f"(SELECT i.record FROM {instances} i"
            " WHERE i.session = w.session AND i.task = w.task AND i.number = w.number)"
        )
        self.waiting: str = (
            f"SELECT {INSTANCE}, '', 0, {record} FROM {waits} w"
            " WHERE w.session = (SELECT id FROM s) AND w.trigger = ANY(%s::text[])"
        )
        moments = f"FROM {waits} w WHERE w.session = (SELECT id FROM s)"
        # All up to a moment, but no more than so many and those of the last one's time; and the
        # next, whatever it is.
        self.with_moments: str = (
            f", d AS MATERIALIZED (SELECT w.trigger, {record} AS record {moments}"
            " AND w.trigger > %s AND w.trigger <= %s"
            " ORDER BY w.trigger FETCH FIRST %s ROWS WITH TIES)"
        )
        self.moments: str = (
            f"SELECT {MOMENT}, trigger, 0, record FROM d UNION ALL"
            f" SELECT {MOMENT}, n.trigger, 0, ''::bytea FROM (SELECT w.trigger {moments}"
            " AND w.trigger > coalesce((SELECT max(trigger) FROM d), %s) AND w.trigger < %s"
            " ORDER BY w.trigger LIMIT 1) n"
        )
        self.unstarted: str = (
            f"SELECT {INSTANCE}, '', 0, i.record FROM {instances} i"
            " WHERE i.session = (SELECT id FROM s) AND i.status = 'unstarted'"
            " AND i.task = ANY(%s::text[])"
        )
        self.named: str = (
            f"SELECT {INSTANCE}, '', 0, (SELECT i.record FROM {instances} i"
            " WHERE i.session = (SELECT id FROM s) AND i.task = x.task AND i.number = x.number)"
            " FROM unnest(%s::text[], %s::integer[]) AS x(task, number)"
        )
        self.known: str = (
            f"SELECT {KNOWN}, x.id, 0, (SELECT e.record FROM {events} e"
            " WHERE e.session = x.session AND e.number = x.number)"
            f" FROM {event_ids} x WHERE x.session = (SELECT id FROM s) AND x.id = ANY(%s::text[])"
        )
        of_session = f"FROM {events} e WHERE e.session = (SELECT id FROM s)"
        self.numbered: str = (
            f"SELECT {NUMBERED}, '', e.number, e.record {of_session}"
            " AND e.number = ANY(%s::integer[])"
        )
        self.between: str = (
            f"SELECT {NUMBERED}, '', e.number, e.record"
            " FROM unnest(%s::integer[], %s::integer[]) AS x(first, last)"
            f" CROSS JOIN LATERAL (SELECT e.number, e.record {of_session}"
            " AND e.number BETWEEN x.first AND x.last OFFSET 0) e"
        )
        self.all_events: str = f"SELECT {EVENT}, '', e.number, e.record {of_session}"
        self.configuration: str = f"SELECT body FROM {configurations} WHERE hash = %s"

        # -- what a commit writes -------------------------------------------------------------

        self.write_change: str = (
            f"SELECT {at}write_change(%s::bigint, %s::bytea, %s::text, %s::integer, %s::bytea,"
            " %s::text, %s::text, %s::integer, %s::text, %s::boolean, %s::float8, %s::bytea,"
            " %s::text[], %s::text[])"
        )
        """At most one event and one instance of a session that is there. See `schema`."""
        self.add_configuration: str = (
            f"c AS (INSERT INTO {configurations} (hash, body) VALUES (%s, %s)"
            " ON CONFLICT DO NOTHING)"
        )
        self.add_session: str = (
            f"s AS (INSERT INTO {sessions} (uid, header, missing, failed, waiting_since, config)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (uid) DO NOTHING RETURNING id)"
        )
        self.set_header: str = (
            f"s AS (UPDATE {sessions} SET header = %s, missing = %s WHERE id = %s RETURNING id)"
        )
        self.set_session: str = (
            f"s AS (UPDATE {sessions} SET header = %s, missing = %s, failed = %s,"
            " waiting_since = %s, config = %s WHERE id = %s RETURNING id)"
        )
        self.same_session: str = "s AS (SELECT %s::bigint AS id)"
        self.add_event: str = (
            f"e AS (INSERT INTO {events} (session, number, record)"
            " SELECT id, %s::integer, %s::bytea FROM s)"
        )
        self.add_events: str = (
            f"e AS (INSERT INTO {events} (session, number, record) SELECT s.id, x.number, x.record"
            " FROM s CROSS JOIN unnest(%s::integer[], %s::bytea[]) AS x(number, record))"
        )
        self.add_event_ids: str = (
            f"n AS (INSERT INTO {event_ids} (session, id, number) SELECT s.id, x.id, x.number"
            " FROM s CROSS JOIN unnest(%s::text[], %s::integer[]) AS x(id, number))"
        )
        upsert = (
            " ON CONFLICT (session, task, number) DO UPDATE SET status = excluded.status,"
            " logs = excluded.logs, due_at = excluded.due_at, failed_at = excluded.failed_at,"
            " error = excluded.error, record = excluded.record)"
        )
        columns = "(session, task, number, status, logs, due_at, failed_at, error, record)"
        self.set_instance: str = (
            f"i AS (INSERT INTO {instances} {columns} SELECT id, %s::text, %s::integer, %s::text,"
            f" %s::boolean, %s::float8, %s::float8, %s::text, %s::bytea FROM s{upsert}"
        )
        self.set_instances: str = (
            f"i AS (INSERT INTO {instances} {columns} SELECT s.id, x.* FROM s CROSS JOIN"
            " unnest(%s::text[], %s::integer[], %s::text[], %s::boolean[], %s::float8[],"
            " %s::float8[], %s::text[], %s::bytea[])"
            f" AS x(task, number, status, logs, due_at, failed_at, error, record){upsert}"
        )
        keys = "unnest(%s::text[], %s::text[], %s::integer[]) AS x(trigger, task, number)"
        self.drop_waits: str = (
            f"d AS (DELETE FROM {waits} w USING s CROSS JOIN {keys} WHERE w.session = s.id"
            " AND w.trigger = x.trigger AND w.task = x.task AND w.number = x.number)"
        )
        self.add_waits: str = (
            f"w AS (INSERT INTO {waits} (session, trigger, task, number)"
            f" SELECT s.id, x.* FROM s CROSS JOIN {keys})"
        )

        self.due_channel: str = f"triggers_due:{schema}"[:63]
        """What is notified of what falls due soon. Schemas that share one only wake each other."""
        self.tell_due: str = f"SELECT pg_notify('{self.due_channel}', '')::text"

        # -- erasing --------------------------------------------------------------------------

        self.erase: str = (
            "WITH "
            + ", ".join(
                f"d{n} AS (DELETE FROM {table} WHERE session = %s)"
                for n, table in enumerate((events, event_ids, instances, waits))
            )
            + f" DELETE FROM {sessions} WHERE id = %s RETURNING config"
        )
        unused = f"NOT EXISTS (SELECT FROM {sessions} s WHERE s.config = c.hash)"
        self.lock_unused: str = (
            f"SELECT hash FROM {configurations} c WHERE hash = %s AND {unused}"
            " FOR UPDATE SKIP LOCKED"
        )
        self.drop_unused: str = f"DELETE FROM {configurations} c WHERE hash = %s AND {unused}"
        self.lock_all_unused: str = (
            f"SELECT hash FROM {configurations} c WHERE {unused} FOR UPDATE SKIP LOCKED"
        )
        self.drop_all_unused: str = (
            f"DELETE FROM {configurations} c WHERE hash = ANY(%s::text[]) AND {unused}"
        )

        # -- listings -------------------------------------------------------------------------

        self.instances: str = (
            f"SELECT i.record FROM {sessions} s JOIN {instances} i ON i.session = s.id"
            " WHERE s.uid = %s"
        )
        self.events: str = (
            f"SELECT e.record FROM {sessions} s JOIN {events} e ON e.session = s.id"
            " WHERE s.uid = %s AND e.number >= %s ORDER BY e.number LIMIT %s"
        )
        self.events_by_number: str = (
            f"SELECT e.record FROM {sessions} s JOIN {events} e ON e.session = s.id"
            " WHERE s.uid = %s AND e.number = ANY(%s::integer[])"
        )
        due = f"SELECT s.uid, i.task, i.number FROM {instances} i JOIN {sessions} s"
        due += " ON s.id = i.session WHERE i.due_at"
        # In a subquery: what changes from row to row could not be looked up in an index.
        now = f"(SELECT coalesce(%s::float8, {CLOCK}))"
        self.clock: str = f"SELECT {CLOCK}"
        self.due: str = (
            f"{due} <= {now} + %s::float8 ORDER BY i.due_at LIMIT %s FOR KEY SHARE OF s SKIP LOCKED"
        )
        self.coming: str = (
            f"SELECT s.uid, i.record FROM {instances} i JOIN {sessions} s ON s.id = i.session"
            f" WHERE i.status = 'unstarted' AND i.due_at > {now} AND i.due_at <= {now} + %s::float8"
            " ORDER BY i.due_at, s.uid, (i.task || '#' || i.number) COLLATE \"C\" LIMIT %s"
        )
        self.due_ahead: str = f"{due} > {now} + %s ORDER BY i.due_at DESC LIMIT %s"
        self.next_due: str = f"SELECT min(due_at) - {now} FROM {instances} WHERE due_at IS NOT NULL"
        self.sessions: str = f"SELECT uid, header FROM {sessions} WHERE "

        # From one group to the next by the index, whatever lies between.
        waiting = f"FROM {sessions} s WHERE s.waiting_since IS NOT NULL"
        first = "ORDER BY s.missing, s.waiting_since LIMIT 1"
        self.waiting_groups: str = (
            "WITH RECURSIVE g (missing, since) AS ("
            f"(SELECT s.missing, s.waiting_since {waiting} {first}) UNION ALL"
            " SELECT n.missing, n.waiting_since FROM g CROSS JOIN LATERAL"
            f" (SELECT s.missing, s.waiting_since {waiting} AND s.missing > g.missing {first}) n)"
            f" SELECT g.missing, (SELECT count(*) FROM (SELECT {waiting} AND s.missing = g.missing"
            " LIMIT %s) x), g.since FROM g LIMIT %s"
        )
        self.waiting_for: str = (
            f"SELECT uid, header FROM {sessions} WHERE missing = %s"
            " AND waiting_since >= %s ORDER BY waiting_since, uid"
        )
        self.failed_groups: str = (
            f"SELECT task, coalesce(error, ''), count(*), coalesce(min(failed_at), 0)"
            f" FROM {instances} WHERE status = 'failed' GROUP BY 1, 2"
        )
        self.failed_instances: str = (
            "SELECT s.uid, i.task || '#' || i.number, coalesce(i.error, ''),"
            f" coalesce(i.failed_at, 0) FROM {instances} i JOIN {sessions} s ON s.id = i.session"
            " WHERE i.status = 'failed'"
        )
        self.after_failed: str = (
            " AND i.failed_at >= %s AND (i.failed_at, s.uid, (i.task || '#' || i.number)"
            ' COLLATE "C") > (%s, %s, %s)'
        )
        self.find_event: str = (
            f"SELECT s.uid, e.number FROM {event_ids} e JOIN {sessions} s ON s.id = e.session"
            " WHERE e.id = %s ORDER BY s.uid LIMIT %s"
        )
        # Counted no further than asked for, from the index.
        counted = f"SELECT FROM {sessions} s WHERE s.config = c.hash LIMIT %s"
        self.configurations_in_use: str = (
            f"SELECT c.hash, (SELECT count(*) FROM ({counted}) x), (SELECT s.uid FROM {sessions} s"
            f" WHERE s.config = c.hash ORDER BY s.uid LIMIT 1) FROM {configurations} c"
            f" WHERE c.hash > %s AND EXISTS (SELECT FROM {sessions} s WHERE s.config = c.hash)"
            " ORDER BY c.hash LIMIT %s"
        )

        # -- leases ---------------------------------------------------------------------------

        self.acquire_lease: str = (
            f"INSERT INTO {leases} AS l (name, owner, until, seconds)"
            f" SELECT x.name, x.owner, x.now + x.seconds, x.seconds"
            f" FROM (SELECT %s::text AS name, %s::text AS owner, %s::float8 AS seconds,"
            f" {now} AS now) x"
            " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until,"
            " seconds = excluded.seconds WHERE l.owner = excluded.owner"
            " OR l.until <= excluded.until - excluded.seconds"
            " OR l.until > excluded.until - excluded.seconds"
            " + greatest(l.seconds, excluded.seconds)"
            " RETURNING name"
        )
        self.release_lease: str = f"DELETE FROM {leases} WHERE name = %s AND owner = %s"
