"""Whether a connection leads to the database in which a store has its tables."""

from __future__ import annotations

from typing import NamedTuple

from triggers_postgres.sql import check_schema
from triggers_postgres.steps import Steps


class Identity(NamedTuple):
    """What tells databases, and the tables in them, apart: their numbers in the server.

    (A server's own identifier cannot be had without the risk of an error, which would cost the
    application its transaction.)
    """

    table: int | None
    """The table of the schema's version; None: there are no tables of that name."""
    database: tuple[int, str]


def identity_steps(schema: str) -> Steps[Identity]:
    """Ask for the identity; it cannot fail, so it may be asked for in any transaction."""
    statement = (
        "SELECT to_regclass(%s)::oid::int8, oid::int8, datname::text FROM pg_database"
        " WHERE datname = current_database()"
    )
    (rows,) = yield [(statement, (f'"{check_schema(schema)}".schema_version',))]
    table, number, name = rows[0]
    return Identity(table, (number, name))


__all__ = ["Identity", "identity_steps"]
