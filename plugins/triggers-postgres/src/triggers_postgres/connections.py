"""The pool of a store: each process has its own, opened on first use and reopened after `close`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from triggers_core.exceptions import StorageError, TriggersError
from triggers_core.texts import short_repr
from triggers_postgres.errors import uncover

POOL_OPTIONS: Final = frozenset(
    {
        *("min_size", "max_size", "timeout", "max_waiting", "max_lifetime", "max_idle"),
        *("reconnect_timeout", "num_workers", "name", "kwargs", "configure", "check", "reset"),
        "reconnect_failed",
    }
)
"""What a store passes on to `psycopg_pool.ConnectionPool`."""

_DEFAULTS: Final[dict[str, Any]] = {"min_size": 0, "max_size": 10}
_CONNECT_TIMEOUT: Final = 10  # seconds, where the options say nothing
_LOOK: Final = 2.0  # seconds
_CLOSED_MEANWHILE: Final = 10  # pools in a row that are closed while somebody waits for them

_IDLE: Final = TransactionStatus.IDLE
_OPEN: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class Connections:
    """Connections to one database, in autocommit mode.

    :param conninfo: what libpq connects with.
    :param options: of the pool (`POOL_OPTIONS`).
    :raises StorageError: the options make no sense.
    """

    def __init__(self, conninfo: str, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - POOL_OPTIONS)
        if unknown:
            raise StorageError(
                f"postgres: unknown option {unknown[0]}: the pool takes"
                f" {', '.join(sorted(POOL_OPTIONS))}; options of the connection belong into the"
                " URL, or into kwargs"
            )
        self.conninfo = conninfo
        options = {**_DEFAULTS, **options}
        if options["max_size"] is not None:
            with suppress(TypeError):
                options["max_size"] = max(options["max_size"], options["min_size"])
        # Named prepared statements are lost between transactions behind some poolers.
        kwargs = {"prepare_threshold": None, **(options.get("kwargs") or {}), "autocommit": True}
        kwargs.setdefault("connect_timeout", _CONNECT_TIMEOUT)
        self.options = {**options, "kwargs": kwargs}
        self._pools: dict[int, ConnectionPool[psycopg.Connection[Any]]] = {}
        """Process id → pool. No lock: one that somebody holds during a fork is never released."""
        self._suspect = False
        """Whether a connection was lost, so that others in the pool may be, too."""
        try:
            self._make()
        except (TypeError, ValueError) as error:
            raise StorageError(f"postgres: {error}: {short_repr(options)}") from None

    def _make(self) -> ConnectionPool[psycopg.Connection[Any]]:
        return ConnectionPool(self.conninfo, open=False, **self.options)

    @property
    def timeout(self) -> float:
        """Seconds for which a connection is waited for."""
        return float(self.options.get("timeout", 30.0))

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of one's own, beside the pool; it says at once what is wrong."""
        return psycopg.connect(self.conninfo, **self.options["kwargs"])

    @contextmanager
    def lent(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool. It goes back if it is as good as new, and is closed otherwise.

        An exception out of a signal handler may come at any moment. If it comes while the pool
        hands a connection out or takes it back, nobody knows who has it: then the pool is given up,
        with all that is in it, and the next one who needs a connection opens another.

        :raises psycopg.Error: there is none to be had.
        """
        if self._suspect:
            self._look()
        pool, connection = self._taken_from_a_pool()
        try:
            yield connection
        except BaseException as error:
            if not self._as_good_as_new(connection, error):
                connection.pgconn.finish()
            raise
        finally:
            handled = None
            try:
                handled = sys.exception()
                self._suspect = self._suspect or connection.closed
                pool.putconn(connection)
            except BaseException as error:
                self._give_up(pool)
                uncover(error, handled)
                raise

    def _taken_from_a_pool(
        self,
    ) -> tuple[ConnectionPool[psycopg.Connection[Any]], psycopg.Connection[Any]]:
        closed, handled = 0, sys.exception()
        while True:
            pool = self._pool()
            try:
                return pool, self._taken(pool)
            except PoolTimeout:
                self._suspect = True
                raise
            except PoolClosed:  # by another thread, before it was lent: there will be another pool
                closed += 1
                if closed > _CLOSED_MEANWHILE:
                    raise
            except psycopg.Error:
                raise
            except BaseException as error:
                self._give_up(pool)
                uncover(error, handled)
                raise

    def _taken(self, pool: ConnectionPool[psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """Wait for a connection, and look from time to time whether the pool is still open.

        One that is closed at the moment at which somebody begins to wait answers nobody.
        """
        left = self.timeout
        while True:
            try:
                return pool.getconn(timeout=min(left, _LOOK))
            except PoolTimeout:
                left -= _LOOK
                if pool.closed:
                    raise PoolClosed(f"the pool {pool.name!r} was closed") from None
                if left <= 0:
                    raise PoolTimeout(
                        f"no connection was free, or could be made, within {self.timeout:g} s"
                    ) from None

    def _as_good_as_new(self, connection: psycopg.Connection[Any], error: BaseException) -> bool:
        """Roll back what is open, unless an interruption came within somebody's exchange."""
        if connection.closed or not isinstance(error, psycopg.Error | TriggersError):
            return False
        status = connection.info.transaction_status
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            return False
        if status in _OPEN:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        return connection.info.transaction_status == _IDLE

    def _pool(self) -> ConnectionPool[psycopg.Connection[Any]]:
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            for other in list(self._pools):  # of the parent, whose sockets and threads they are
                parents = self._pools.pop(other, None)
                if parents is not None:
                    parents._closed = True
            pool = self._pools.setdefault(pid, self._make())
        if pool.closed:
            handled = sys.exception()
            try:
                pool.open()
            except BaseException as error:  # closed by another thread, or interrupted
                self._give_up(pool)
                uncover(error, handled)
                raise
        return pool

    def _look(self) -> None:
        """Ask the server whether it is there, and throw away the connections that are not."""
        self.connect().close()
        self._suspect = False
        pool = self._pools.get(os.getpid())
        if pool is not None and not pool.closed:
            pool.check()

    def _give_up(self, pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
        if self._pools.get(os.getpid()) is pool:
            self._pools.pop(os.getpid(), None)
        # By a thread of its own: a lock of the pool may be held for ever.
        threading.Thread(
            target=_close_what_is_left, args=(pool,), name="triggers-postgres-close", daemon=True
        ).start()

    def close(self) -> None:
        """Close them; those that are lent out, when they come back."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()


def _close_what_is_left(pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
    with suppress(Exception):  # of what an interruption kept from being made
        pool.close()
