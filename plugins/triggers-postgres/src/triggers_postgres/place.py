"""Where a database is: what the options say, in words and without a password."""

from __future__ import annotations

import os
import re
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from triggers_core.exceptions import StorageError

_DRIVER: Final = re.compile(r"(postgres(?:ql)?)\+[a-z0-9_]+(?=://)")
"""As SQLAlchemy writes it: ``postgresql+psycopg://``."""


def check_conninfo(conninfo: object) -> str:
    """Return what libpq can connect with.

    :param conninfo: a URL or a conninfo string; the driver that SQLAlchemy's URLs name is dropped.
    :raises StorageError: it is neither. What it holds is not shown: a password may be in it.
    """
    if not isinstance(conninfo, str):
        raise StorageError(
            "postgres: url: expected a text, such as postgresql://user@host/database, got"
            f" {type(conninfo).__name__}"
        )
    text = _DRIVER.sub(r"\1", conninfo, count=1)
    try:
        conninfo_to_dict(text)
    except psycopg.Error:
        raise StorageError(
            "postgres: url: neither a URL (postgresql://user@host/database) nor a conninfo string"
            " (host=… dbname=…). Characters such as @ and / in a password are written %40, %2F"
        ) from None
    return text


def describe(conninfo: str, schema: str, more: dict[str, Any] | None = None) -> str:
    """The place in words, for logs and messages.

    Example::

        describe("postgresql://ann:secret@db/shop", "triggers")
        # the PostgreSQL database shop on db, schema triggers
    """
    given = {**conninfo_to_dict(conninfo), **(more or {})}

    def value(name: str, variable: str) -> str:
        return str(given.get(name) or os.environ.get(variable) or "")

    host = value("host", "PGHOST") or value("hostaddr", "PGHOSTADDR")
    port = value("port", "PGPORT")
    service = value("service", "PGSERVICE")
    database = value("dbname", "PGDATABASE") or value("user", "PGUSER")
    named = f"the PostgreSQL database {database}" if database else "the PostgreSQL database"
    if service and not database:
        named += f" of the service {service}"
    where = f"{host}:{port}" if host and port else host or (f"port {port}" if port else "")
    return f"{named}{f' on {where}' if where else ''}, schema {schema}"
