"""What a database's errors mean: whether to try again, and what to tell people."""

from __future__ import annotations

import struct
from typing import Final

from django.db import Error, InterfaceError, OperationalError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from triggers_core.exceptions import (
    StorageError,
    TransactionConflict,
    TriggersError,
    is_time_limit,
)
from triggers_core.redaction import error_text

_CONFLICTS: Final[dict[str, set[str | int]]] = {
    "postgresql": {"40001", "40P01", "55P03"},  # serialisation failure, deadlock, lock timeout
    # Deadlock, lock wait timeout, and MariaDB's "Record has changed since last read".
    "mysql": {1213, 1205, 1020},
}
_NO_SUCH_THING: Final[dict[str, set[str | int]]] = {
    "postgresql": {"42P01", "42703"},  # a table, a column
    "mysql": {1146, 1054},
}
_PG_GONE: Final = ("08", "57P")  # connection exceptions; shutdown, crash, not yet up
_MYSQL_GONE: Final = {2006, 2013, 2055, 4031, 1053, 1927}
"""The server has gone away, was lost, is shutting down; the connection was idle, or killed."""
_SQLITE_LOCKED: Final = ("database is locked", "database table is locked")
_SQLITE_NO_SUCH_THING: Final = ("no such table: triggers_", "no such column", "has no column named")


class AlreadyThere(Exception):
    """Somebody else has inserted the row meanwhile: decide again, with it."""


def is_conflict(error: BaseException, connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction lost against another one: run again, it may well succeed."""
    return _is(error, connection, _CONFLICTS, _SQLITE_LOCKED)


def is_lost(error: BaseException, connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection is gone: the server was restarted, the backend terminated."""
    if not isinstance(error, OperationalError | InterfaceError) or connection.vendor == "sqlite":
        return False
    if connection.connection is None or not connection.is_usable():
        return True
    # Django may have connected anew already, at the end of the atomic block that has failed.
    code = _code(error, connection)
    if connection.vendor == "postgresql":
        return code is None or str(code).startswith(_PG_GONE)
    return code in _MYSQL_GONE


def hidden_interruption(
    error: BaseException, connection: BaseDatabaseWrapper, handled: BaseException | None
) -> BaseException | None:
    """What a signal handler raised within Django or its driver, which raised an error over it.

    At the end of a transaction Django still turns autocommit on, whatever was raised; on a
    connection that the driver has closed because of it, that fails.

    :param handled: what the caller was handling already; that is none of it.
    """
    driver = connection.Database  # type: ignore[attr-defined]
    of_the_driver = (Error, driver.Error, OSError, struct.error)
    context = error.__context__
    while context is not None and context is not handled:
        if isinstance(context, KeyboardInterrupt | SystemExit) or is_time_limit(context):
            return context
        known = isinstance(context, of_the_driver) or type(context).__module__ == "builtins"
        if not known and not isinstance(context, AlreadyThere | TriggersError):
            return context
        context = context.__context__
    return None


def storage_error(error: Error, connection: BaseDatabaseWrapper, place: str) -> StorageError:
    """What is raised in place of an error of the database."""
    alias = connection.alias
    if isinstance(error, ProgrammingError | OperationalError) and _is(
        error, connection, _NO_SUCH_THING, _SQLITE_NO_SUCH_THING
    ):
        database = "" if alias == "default" else f" --database={alias}"
        return StorageError(
            f"{place} lacks the tables of this version of triggers-django: run"
            f" `python manage.py migrate triggers{database}` ({_text(error)})"
        )
    if connection.in_atomic_block and is_conflict(error, connection):
        return TransactionConflict(
            f"{place}: the transaction around this change lost against another one: let its"
            f" atomic() block end with the error, and run the whole of it again ({_text(error)})"
        )
    return StorageError(f"{place}: {_text(error)}")


def _is(
    error: BaseException,
    connection: BaseDatabaseWrapper,
    codes: dict[str, set[str | int]],
    texts: tuple[str, ...],
) -> bool:
    if not isinstance(error, Error):
        return False
    if connection.vendor == "sqlite":
        return any(text in str(error) for text in texts)
    code = _code(error, connection)
    return code in codes.get(connection.vendor, ())


def _code(error: BaseException, connection: BaseDatabaseWrapper) -> object:
    """The database's own code of an error; None if the driver raised it without one."""
    cause = error.__cause__
    if connection.vendor == "postgresql":  # psycopg and psycopg2
        return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return error.args[0] if error.args else None


def _text(error: BaseException) -> str:
    return error_text(error).rstrip("\n")
