"""What PostgreSQL's errors mean: which are tried again, and what is said of the others."""

from __future__ import annotations

from traceback import walk_tb
from typing import Final

import psycopg
from psycopg_pool import PoolClosed

from triggers_core.exceptions import Contended, StorageError, TransactionConflict

_CONFLICTS: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "23503",  # foreign_key_violation: a configuration was just erased
    }
)
_ENDED: Final = ("08", "57P")  # connection exceptions; shut down, crashed, starting up
_MISSING: Final = ("42P01", "3F000")  # no such table, no such schema
_READ_ONLY: Final = "25006"
_LOCKED: Final = "55P03"  # lock_not_available: the user's own lock_timeout
_REFUSED: Final = "42501"  # insufficient_privilege


def is_conflict(error: psycopg.Error) -> bool:
    """Whether a transaction has lost against another one, and can be run again."""
    return error.sqlstate in _CONFLICTS


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or never was there: another one may do better."""
    state = error.sqlstate
    if state is not None:
        return state.startswith(_ENDED)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def is_closed_pool(error: psycopg.Error) -> bool:
    """Whether somebody has closed the store meanwhile: it opens again."""
    return isinstance(error, PoolClosed)


def is_missing(error: psycopg.Error) -> bool:
    """Whether the tables are not there."""
    return error.sqlstate in _MISSING


def hidden_interruption(
    error: psycopg.Error, handled: BaseException | None
) -> BaseException | None:
    """What a signal handler raised within psycopg, which then raised an error of its own over it.

    :param handled: what the caller was handling already; that is none of it.
    """
    context = error.__context__
    while context is not None and context is not handled:
        module = type(context).__module__.partition(".")[0]
        if module not in _OF_THE_DRIVER or isinstance(context, KeyboardInterrupt | SystemExit):
            return context
        context = context.__context__
    return None


def uncover(error: BaseException, handled: BaseException | None) -> None:
    """Raise what a signal handler raised within `threading`, if that raised an error over it.

    `Thread.start` takes whatever is raised in it for a thread that could not be started, and
    removes that from those that wait for their start: KeyError, if it runs by then and has removed
    itself. And a `Condition` that is left between giving up its lock and waiting, or before it has
    the lock back, releases a lock that it has not got: RuntimeError.

    :param handled: what the caller was handling already; that is none of it.
    """
    found = _kept_by_the_pool(error) if error.__context__ is handled else None
    while isinstance(error, KeyError | RuntimeError):
        context = error.__context__
        if context is None or context is handled:
            break
        found = error = context
    if found is not None:
        raise found from None


def _kept_by_the_pool(error: BaseException) -> BaseException | None:
    """What was raised in psycopg_pool's `WaitingClient.wait`, which keeps it until it has its lock.

    It raises what it has kept afterwards; where the lock makes an error of its own, that has no
    trace of it.
    """
    if isinstance(error, RuntimeError):
        for frame, _ in walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") == "psycopg_pool.pool":
                kept = getattr(frame.f_locals.get("self"), "error", None)
                if isinstance(kept, BaseException):
                    return kept
    return None


_OF_THE_DRIVER: Final = frozenset({"psycopg", "psycopg_pool", "psycopg_c", "psycopg_binary"}) | {
    "builtins",
    "queue",
}


def said(error: BaseException) -> str:
    """What PostgreSQL or libpq says, in one line, without the data that it was about."""
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((message or str(error)).split()) or type(error).__name__


def storage_error(place: str, error: psycopg.Error, joined: bool = False) -> StorageError:
    """The error that callers get.

    :param place: where the sessions are, in words.
    :param joined: whether it was the application's transaction.
    """
    message, state = said(error), error.sqlstate
    if is_conflict(error):
        if joined:
            return TransactionConflict(
                f"{place}: {message}. The transaction has lost against another one: roll back, and"
                " run the whole of it again"
            )
        return Contended(f"{place}: {message}, again and again")
    if state == _READ_ONLY:
        return StorageError(
            f"{place} can only be read ({message}): it is a replica, or was made read-only. Connect"
            " to the primary (target_session_attrs=read-write looks for it among several hosts)"
        )
    if state in _MISSING:
        return StorageError(f"{place} has no tables of Triggers: {message}. {HOW_TO_SET_UP}")
    if state == _LOCKED:
        return Contended(f"{place}: {message}: another transaction has locked the session")
    if state == _REFUSED:
        return StorageError(
            f"{place}: {message}. The user needs SELECT, INSERT, UPDATE and DELETE on the tables,"
            " and USAGE on the schema; to make them, CREATE on the database"
        )
    return StorageError(f"{place}: {message}")


HOW_TO_SET_UP: Final = (
    "Make them with `triggers storage init`, or leave out create=False; `triggers storage init"
    " --sql` prints the statements for a migration of your own"
)
