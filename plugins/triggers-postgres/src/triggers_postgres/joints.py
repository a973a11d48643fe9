"""What an application may have its transaction in, and what has to be known about each kind.

Nothing but psycopg is imported here: an object of SQLAlchemy's or Django's is recognised by the
modules that are loaded already, for nobody else can have made it.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, ClassVar

import psycopg

from triggers_core.exceptions import CannotJoin, StorageError
from triggers_core.failures import message_of
from triggers_core.texts import short_repr
from triggers_postgres.following import follow_django, follow_session
from triggers_postgres.outcomes import Outcomes, Pending

KINDS = (
    "a connection of psycopg 3; a Connection or Session of SQLAlchemy on postgresql+psycopg, or"
    " their asyncio counterparts; a connection of Django's (django.db.connection)"
)


class Joint:
    """A transaction of the application's, in whatever the application has it."""

    awaits: ClassVar[bool] = False
    """Whether its connection is an asynchronous one."""
    untold: bool = False
    """Whether nobody tells of its end, so that a NOTIFY of that is worth its while."""
    always_open: bool = False
    """Whether there is a transaction even before the first commit."""

    @property
    def prepares(self) -> bool:
        """Whether its transaction is to be prepared: it could not be after a NOTIFY."""
        return False

    def connection(self) -> psycopg.Connection[Any]:
        """The driver's connection, whose transaction the application will end."""
        raise NotImplementedError

    async def aconnection(self) -> psycopg.AsyncConnection[Any]:
        """The same for an asynchronous one."""
        raise NotImplementedError

    def follow(self, outcomes: Outcomes, pending: Pending) -> None:
        """See to it that somebody calls back after the commit; by default, the thread does."""
        outcomes.watch([pending])

    def lost(self) -> None:
        """Tell the application's library that only a roll-back is left."""


class PsycopgJoint(Joint):
    """A connection of psycopg, of either sort."""

    untold = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def prepares(self) -> bool:
        return getattr(self._connection, "_tpc", None) is not None

    def connection(self) -> psycopg.Connection[Any]:
        return _sync(self._connection)

    async def aconnection(self) -> psycopg.AsyncConnection[Any]:
        return _asynchronous(self._connection)


class OwnJoint(Joint):
    """A connection of the store's own, in `PostgresStore.transaction`."""

    always_open = True

    def __init__(self, connection: psycopg.Connection[Any], waiting: deque[Pending]) -> None:
        self._connection = connection
        self.waiting: deque[Pending] = waiting

    def connection(self) -> psycopg.Connection[Any]:
        return self._connection

    def follow(self, outcomes: Outcomes, pending: Pending) -> None:
        self.waiting.append(pending)


class AsyncPsycopgJoint(PsycopgJoint):
    awaits = True


class SqlalchemyConnectionJoint(Joint):
    """A ``Connection`` of SQLAlchemy: it begins by itself, and tells of no commit."""

    untold = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def prepares(self) -> bool:
        return _has_two_phases(self._connection)

    def connection(self) -> psycopg.Connection[Any]:
        return _sync(_begun(self._connection))


class SessionJoint(Joint):
    """A ``Session`` of SQLAlchemy, which tells of the end of its transactions."""

    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def prepares(self) -> bool:
        return _session_prepares(self._session)

    def connection(self) -> psycopg.Connection[Any]:
        try:
            connection = self._session.connection()
        except Exception as error:
            raise _unusable("the Session", error) from error
        return _sync(_begun(connection))

    def follow(self, outcomes: Outcomes, pending: Pending) -> None:
        follow_session(self._session, outcomes, pending)


class AsyncSqlalchemyConnectionJoint(Joint):
    awaits = True
    untold = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def aconnection(self) -> psycopg.AsyncConnection[Any]:
        return _asynchronous(await _abegun(self._connection))


class AsyncSessionJoint(Joint):
    awaits = True

    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def prepares(self) -> bool:
        return _session_prepares(self._session.sync_session)

    async def aconnection(self) -> psycopg.AsyncConnection[Any]:
        try:
            connection = await self._session.connection()
        except Exception as error:
            raise _unusable("the AsyncSession", error) from error
        return _asynchronous(await _abegun(connection))

    def follow(self, outcomes: Outcomes, pending: Pending) -> None:
        follow_session(self._session.sync_session, outcomes, pending, in_thread=True)


class DjangoJoint(Joint):
    """A connection of Django's, which calls back by itself and knows its savepoints."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        if wrapper.vendor != "postgresql":
            raise CannotJoin(
                f"the database {wrapper.alias!r} of Django is no PostgreSQL ({wrapper.vendor});"
                " the storage django of triggers-django joins those, too"
            )

    @property
    def needs_id(self) -> bool:
        """Whether its end is found out about by the id of the (sub)transaction."""
        return not (self._wrapper.in_atomic_block or self._wrapper.get_autocommit())

    @property
    def untold(self) -> bool:  # type: ignore[override]
        return self.needs_id

    def connection(self) -> psycopg.Connection[Any]:
        try:
            self._wrapper.validate_thread_sharing()
            self._wrapper.validate_no_broken_transaction()
            self._wrapper.ensure_connection()
        except Exception as error:
            raise _unusable("the connection of Django", error) from error
        return _sync(self._wrapper.connection, "install psycopg 3, which Django >= 4.2 prefers")

    def follow(self, outcomes: Outcomes, pending: Pending) -> None:
        if self.needs_id:  # set_autocommit(False): Django refuses callbacks there
            outcomes.watch([pending])
        else:
            follow_django(self._wrapper, pending.callback)

    def lost(self) -> None:
        if self._wrapper.in_atomic_block:  # else leaving the block would seem to commit
            self._wrapper.set_rollback(True)


def joint_of(connection: object) -> Joint:
    """Recognise what an application has its transaction in.

    :raises CannotJoin: it is none of the `KINDS`.
    """
    if isinstance(connection, psycopg.Connection):
        return PsycopgJoint(connection)
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncPsycopgJoint(connection)
    given: Any = connection
    if _is(given, "sqlalchemy.orm", "scoped_session"):
        given = given.registry()
    if _is(given, "sqlalchemy.orm", "Session"):
        return SessionJoint(given)
    if _is(given, "sqlalchemy.engine", "Connection"):
        return SqlalchemyConnectionJoint(given)
    if _is(given, "sqlalchemy.ext.asyncio", "async_scoped_session"):
        given = given.registry()
    if _is(given, "sqlalchemy.ext.asyncio", "AsyncSession"):
        return AsyncSessionJoint(given)
    if _is(given, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        return AsyncSqlalchemyConnectionJoint(given)
    if _is(given, "django.utils.connection", "ConnectionProxy"):
        given = sys.modules["django.db"].connections[given.alias]
    if _is(given, "django.db.backends.base.base", "BaseDatabaseWrapper"):
        return DjangoJoint(given)
    raise CannotJoin(f"expected {KINDS}; got {short_repr(connection)}{_hint(type(connection))}")


def _is(given: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(given, kind)


def _has_two_phases(connection: Any) -> bool:
    get_transaction = getattr(connection, "get_transaction", None)
    return get_transaction is not None and type(get_transaction()).__name__.startswith("TwoPhase")


def _session_prepares(session: Any) -> bool:
    return bool(session.twophase) or _has_two_phases(session.bind)


def _hint(kind: type) -> str:
    package = kind.__module__.partition(".")[0]
    if kind.__name__ in ("Engine", "AsyncEngine", "ConnectionPool", "AsyncConnectionPool"):
        return ": it has many connections, hand in the one that has the transaction"
    if package in ("psycopg2", "asyncpg", "pg8000", "aiopg"):
        return f": {package} is another driver"
    return ""


def _begun(connection: Any) -> Any:
    """The driver's connection beneath a ``Connection`` of SQLAlchemy, which knows that it began."""
    try:
        driver = connection.connection.driver_connection
        if not getattr(driver, "autocommit", False) and not connection.in_transaction():
            connection.begin()
    except Exception as error:
        raise _unusable("the Connection", error) from error
    return driver


async def _abegun(connection: Any) -> Any:
    try:
        driver = (await connection.get_raw_connection()).driver_connection
        if not getattr(driver, "autocommit", False) and not connection.in_transaction():
            await connection.begin()
    except Exception as error:
        raise _unusable("the AsyncConnection", error) from error
    return driver


def _unusable(what: str, error: Exception) -> StorageError:
    return StorageError(f"{what} cannot be used: {message_of(error)}")


_SQLALCHEMY = 'make the engine with create_engine("postgresql+psycopg://...")'


def _sync(driver: object, fix: str = _SQLALCHEMY) -> psycopg.Connection[Any]:
    if isinstance(driver, psycopg.AsyncConnection):
        raise CannotJoin(
            "the connection is an asynchronous one: hand in its AsyncConnection or AsyncSession,"
            " and await the methods that begin with an a, such as afire"
        )
    if not isinstance(driver, psycopg.Connection):
        raise CannotJoin(f"its driver is {_driver(driver)}, no psycopg 3: {fix}")
    if driver.closed:
        raise StorageError("the connection is closed")
    return driver


def _asynchronous(driver: object) -> psycopg.AsyncConnection[Any]:
    if not isinstance(driver, psycopg.AsyncConnection):
        raise CannotJoin(
            f"its driver is {_driver(driver)}, no psycopg 3: make the engine with"
            ' create_async_engine("postgresql+psycopg://...")'
        )
    if driver.closed:
        raise StorageError("the connection is closed")
    return driver


def _driver(driver: object) -> str:
    return type(driver).__module__.partition(".")[0]


__all__ = ["KINDS", "Joint", "joint_of"]
