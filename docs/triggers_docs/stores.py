"""What each storage keeps where: read from the code that makes it."""

from __future__ import annotations

import inspect
import sqlite3
from typing import Any

from triggers_docs.faces import load


def sqlite() -> str:
    """The tables of an SQLite file."""
    from triggers_core.storages.sqlite import schema

    connection = sqlite3.connect(":memory:")
    schema.prepare(connection, ":memory:")
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    statements = "\n".join(f"{sql};" for (sql,) in rows)
    said = f"Schema version {schema.VERSION} (`PRAGMA user_version`), application id"
    return f"{said} `0x{schema.APPLICATION_ID:08x}`.\n\n```sql\n{statements}\n```"


def postgres() -> str:
    """The tables of PostgreSQL, without the functions."""
    from triggers_postgres import schema

    statements = schema.schema_sql().split("CREATE FUNCTION")[0]
    said = f"Schema version {schema.VERSION} (in the table `schema_version`)."
    return f"{said}\n\n```sql\n{statements.strip()}\n```"


def redis() -> str:
    """The names of keys, by the code that makes them."""
    from triggers_redis.keys import BUCKETS, Keyspace
    from triggers_redis.namespace import DEFAULT_SHARDS, SCHEMA

    keys = Keyspace("triggers", DEFAULT_SHARDS)
    session = keys.session("order:1")
    shard, bucket = session.shard, session.bucket
    names = [each.decode() for each in session.names]
    rows = [
        (names[0], "the session: all of it up to 4 kB, else its header"),
        (names[1], "which of its instances wait for which trigger"),
        (names[2], "its instances"),
        (names[3], "its events, and their ids"),
        (names[4], "what is due in the shard, and when"),
        (keys.all(shard, bucket), f"a part (of {BUCKETS}) of the list of the shard's sessions"),
        (keys.waiting(shard, bucket), "a part of the list of those that wait, and since when"),
        (keys.groups(shard, bucket), "the same by what they lack: triggers, since when, uid"),
        (keys.uses(shard, bucket), "a part of the list of which session has which configuration"),
        (keys.event_ids(shard, bucket), "a part of the list of events by the application's ids"),
        (keys.coming(shard), "which unstarted instances fall due by themselves, and when"),
        (keys.failures(shard, bucket), "a part of the list of failed instances: name, error, uid"),
        (keys.failed(shard), "the sessions with failed instances"),
        (keys.configuration(shard, "HASH"), "a configuration, under the hash of its content"),
        (keys.configurations(shard), "when a session got each of them last"),
        (keys.amounts(shard), "how many sessions have each of them"),
        (keys.marker(shard), "that the shard was settled"),
        (keys.lease("sweep"), "a lease over the whole store, such as that of the sweep"),
        ("triggers:meta", "the schema version and the number of shards"),
    ]
    table = "\n".join(f"| `{_shown(name)}` | {text} |" for name, text in rows)
    said = f"Schema version {SCHEMA} (in `NAMESPACE:meta`), {DEFAULT_SHARDS} shards unless given."
    where = "For the session `order:1` in the namespace `triggers`:"
    return f"{said} {where}\n\n| key | what it is |\n|---|---|\n{table}"


def _shown(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def django() -> str:
    """The models, with their fields."""
    models: Any = load("triggers_django.models")
    parts = []
    for model in models.Session._meta.app_config.get_models():
        said = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
        rows = [
            f"| `{field.name}` | {type(field).__name__} |" for field in model._meta.concrete_fields
        ]
        title = f"**{model.__name__}** (table `{model._meta.db_table}`): {said}"
        parts.append("\n".join([title, "", "| field | kind |", "|---|---|", *rows]))
    return "\n\n".join(parts)
