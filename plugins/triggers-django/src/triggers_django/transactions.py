"""Transactions: the store's own ones, and those of the application that it is part of.

Django keeps one connection a thread, and what it knows of an open transaction in the object. An
exception out of a signal handler may leave that object, or the driver's below it, in the middle of
something; so whatever of ours is interrupted lets go of the connection, which also ends what the
server has begun. Should the letting go itself be interrupted, the next one who comes in does it.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from triggers_core.exceptions import NestedCommit, StorageError, TransactionConflict, TriggersError
from triggers_django import models
from triggers_django.failures import (
    AlreadyThere,
    hidden_interruption,
    is_conflict,
    is_lost,
    storage_error,
)

T = TypeVar("T")

_PATIENCE: Final = 30.0
"""Seconds for which a transaction that keeps losing, or a SQLite file that is locked, is tried."""
_ABSENCE: Final = 3.0
"""Seconds for which a server that cannot be reached is tried: a restart need not be noticed."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.2
_ROUNDS: Final = 20  # of a change that finds its session made meanwhile


class _Mine(threading.local):
    """What this thread is in the middle of, or was when it was interrupted."""

    def __init__(self) -> None:
        self.alias: str | None = None
        """The database in which something of ours is under way."""
        self.owned = False
        """Whether that is a transaction of our own."""
        self.asking = False
        """Whether the database has been asked for something, and has not answered."""


_mine: Final = _Mine()


@contextmanager
def asking() -> Iterator[None]:
    """Note that the database is asked: what interrupts this leaves the connection unusable.

    Of several statements that must all be carried out or none, in one block; another one within it
    ends nothing.
    """
    before, _mine.asking = _mine.asking, True
    yield
    _mine.asking = before


def is_owned() -> bool:
    """Whether this thread is in a transaction of the store's own."""
    return _mine.alias is not None and _mine.owned


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the application has a transaction open in this thread.

    :raises StorageError: it has turned autocommit off, so that nobody can tell when one ends.
    """
    if connection.in_atomic_block:
        return True
    connected = connection.connection is not None
    if not (connection.autocommit if connected else connection.settings_dict["AUTOCOMMIT"]):
        raise StorageError(
            f"autocommit is off for the database {connection.alias!r} of Django, so that nothing"
            " tells when its transaction has ended: use transaction.atomic()"
        )
    return False


def take_turn(connection: BaseDatabaseWrapper) -> None:
    """Let a transaction that will write take SQLite's only lock right away.

    One that reads first and writes then is refused at once, "database is locked", if anybody has
    written in between; one that begins with a write waits for its turn. Elsewhere rows are locked.
    """
    if connection.vendor == "sqlite":
        with asking():
            models.Session.objects.using(connection.alias).filter(id=0).update(failed=0)


@contextmanager
def atomic(connection: BaseDatabaseWrapper, savepoint: bool = True) -> Iterator[None]:
    """Django's, for what is the store's own: its end does not wait for an answer that never comes.

    Of an answer that was read in part, the driver would take the rest for the answer to a ROLLBACK,
    and wait for as much as that seems to say. A connection that is closed is not asked.
    """
    with transaction.atomic(using=connection.alias, savepoint=savepoint):
        try:
            yield
        except (Error, AlreadyThere):
            raise
        except BaseException as error:
            if _mine.asking or (_mine.owned and not isinstance(error, TriggersError)):
                with suppress(Exception):
                    connection.close()
            raise


@contextmanager
def block(connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """A transaction for many changes; within another one, a savepoint.

    What interrupts its beginning or its end leaves the connection in the middle of an exchange.
    """
    _is_inside()
    outermost, raised_within, handled = not connection.in_atomic_block, None, sys.exception()
    automatic = outermost and not _awaits_its_end(connection)
    try:
        with transaction.atomic(using=connection.alias):
            if outermost:
                take_turn(connection)
            try:
                yield connection
            except BaseException as error:
                raised_within = error
                raise
    except BaseException as error:
        interruption: BaseException | None = None
        if error is not raised_within:
            own = not isinstance(error, Error)
            interruption = error if own else hidden_interruption(error, connection, handled)
        if outermost and (interruption is not None or _is_unfinished(connection, automatic)):
            _let_go(connection)
        if interruption is not None and interruption is not error:
            raise interruption from None
        raise


def _awaits_its_end(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection commits nothing by itself: the end of a transaction may have failed."""
    return connection.connection is not None and not connection.autocommit


def _is_unfinished(connection: BaseDatabaseWrapper, automatic: bool) -> bool:
    """Whether a transaction has not ended.

    :param automatic: whether the connection committed by itself before.
    """
    return connection.in_atomic_block or (automatic and _awaits_its_end(connection))


def sees_the_past(connection: BaseDatabaseWrapper) -> bool:
    """Whether reads that lock nothing may miss what others committed before this one's lock.

    So it is on MySQL and MariaDB with REPEATABLE READ, which is not Django's default there: reads
    show the moment of the transaction's first one, locks the present.
    """
    level = getattr(connection, "isolation_level", None)
    return connection.vendor == "mysql" and level != "read committed"


def run(alias: str, place: str, work: Callable[[BaseDatabaseWrapper], T]) -> T:
    """Run `work` in a transaction, again as long as that loses against others.

    Within a transaction of the application, `work` is part of it. What it raises before it has
    written leaves that transaction usable.

    :raises NestedCommit: this thread is in the middle of one of these already.
    :raises TransactionConflict: the application's transaction has lost.
    :raises StorageError: the database refused, or cannot be reached.
    """
    if _is_inside():
        raise NestedCommit(
            f"{place}: this thread is in the middle of another change. A before_commit hook adds"
            " events to it by plan.fire, not by a manager"
        )
    connection = connections[alias]
    if in_transaction(connection):
        return _within(connection, place, work)
    return _patiently(connection, place, partial(_once, connection, work), owned=True)


def read(alias: str, place: str, work: Callable[[BaseDatabaseWrapper], T]) -> T:
    """Run `work`, which only reads.

    :raises StorageError: the database refused, or cannot be reached.
    """
    connection = connections[alias]
    if _is_inside():  # a hook looks, within a change
        return work(connection)
    look = partial(work, connection)
    if connection.in_atomic_block:
        return _undisturbed(connection, place, look)
    return _patiently(connection, place, look, owned=False)


def _once(connection: BaseDatabaseWrapper, work: Callable[[BaseDatabaseWrapper], T]) -> T:
    with atomic(connection):
        return work(connection)


def _patiently(
    connection: BaseDatabaseWrapper, place: str, work: Callable[[], T], owned: bool
) -> T:
    began, away_since, pause = time.monotonic(), 0.0, _FIRST_PAUSE
    handled = sys.exception()
    automatic = not _awaits_its_end(connection)  # else the application has a hand in it
    while True:
        tried, connected = time.monotonic(), False
        try:
            _mine.alias, _mine.owned, _mine.asking = connection.alias, owned, False
            connection.ensure_connection()
            connected = True
            answer = work()
            _mine.alias = None
            return answer
        except (Error, AlreadyThere) as error:
            interruption = hidden_interruption(error, connection, handled)
            if interruption is not None:
                _let_go(connection)
                _mine.alias = None
                raise interruption from None
            patience = _patience(error, connection)
            now, since = time.monotonic(), began
            if patience == _ABSENCE:
                # While it worked the server was there, however long a lock was waited for.
                since = away_since = away_since or (now if connected else tried)
            if patience == _ABSENCE or _is_unfinished(connection, automatic):
                _let_go(connection)
            _mine.alias = None
            if now - since > patience:
                if isinstance(error, AlreadyThere):
                    raise StorageError(f"{place}: a row comes and goes") from error
                raise storage_error(error, connection, place) from error
        except BaseException as error:
            if not isinstance(error, TriggersError) or connection.in_atomic_block:
                _let_go(connection)
            _mine.alias = None
            raise
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _patience(error: Exception, connection: BaseDatabaseWrapper) -> float:
    """For how long it makes sense to try again; -1 for an error that would come again."""
    if isinstance(error, AlreadyThere) or is_conflict(error, connection):
        return _PATIENCE
    return _ABSENCE if is_lost(error, connection) else -1.0


def _within(
    connection: BaseDatabaseWrapper, place: str, work: Callable[[BaseDatabaseWrapper], T]
) -> T:
    if connection.needs_rollback:
        raise TransactionConflict(
            f"{place}: because of an error before, the transaction around this change can only be"
            " rolled back: let its atomic() block end with that error"
        ) from connection.rollback_exc  # type: ignore[attr-defined]
    for _ in range(_ROUNDS):
        with suppress(AlreadyThere):
            return _undisturbed(connection, place, partial(work, connection))
    raise TransactionConflict(
        f"{place}: another transaction has made this session, and the one around this change cannot"
        " see it: let its atomic() block end with this error, and run the whole of it again"
    )


def _undisturbed(connection: BaseDatabaseWrapper, place: str, work: Callable[[], T]) -> T:
    """Do something within a transaction of the application, which breaks if it is interrupted."""
    depth = len(connection.savepoint_ids), len(connection.atomic_blocks)
    handled = sys.exception()
    try:
        _mine.alias, _mine.owned, _mine.asking = connection.alias, False, False
        answer = work()
        _mine.alias = None
        return answer
    except AlreadyThere:
        _mine.alias = None
        raise
    except Error as error:
        interruption = hidden_interruption(error, connection, handled)
        if interruption is not None:
            _leave_blocks(connection, depth)
            _break(connection)
            _mine.alias = None
            raise interruption from None
        _mine.alias = None
        connection.needs_rollback = True
        connection.rollback_exc = error  # type: ignore[attr-defined]
        raise storage_error(error, connection, place) from error
    except BaseException:
        _leave_blocks(connection, depth)
        if _mine.asking:
            _break(connection)
        _mine.alias = None
        raise


def _is_inside() -> bool:
    """Whether this thread is in the middle of a change: within a hook, or in a signal handler.

    What an interruption has left is cleared away first.
    """
    alias = _mine.alias
    if alias is None:
        return False
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _WORKING:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    connection = connections[alias]
    if _mine.owned or not connection.in_atomic_block:
        _let_go(connection)
    elif _mine.asking:
        _break(connection)
    _mine.alias = None
    return False


_WORKING: Final = frozenset((_patiently.__code__, _undisturbed.__code__))


def _let_go(connection: BaseDatabaseWrapper) -> None:
    """Close a connection in whatever state it is; the next use opens another one."""
    with suppress(Exception):
        connection.close()
    if connection.connection is not None:
        if connection.closed_in_transaction:
            connection.connection = None
        else:  # SQLite's in memory, which Django keeps
            with suppress(Exception):
                connection.connection.rollback()
                connection.set_autocommit(True)
    connection.in_atomic_block = connection.needs_rollback = False
    connection.closed_in_transaction = False
    connection.savepoint_ids, connection.atomic_blocks = [], []
    connection.run_on_commit = []


def _leave_blocks(connection: BaseDatabaseWrapper, depth: tuple[int, int]) -> None:
    """Leave the blocks of the ORM itself, which may have been kept from leaving.

    Else the end of the application's block would be taken for theirs.
    """
    del connection.savepoint_ids[depth[0] :], connection.atomic_blocks[depth[1] :]


def _break(connection: BaseDatabaseWrapper) -> None:
    """End a transaction of the application: Django refuses everything more in it."""
    with suppress(Exception):
        connection.close()
    connection.needs_rollback = True
