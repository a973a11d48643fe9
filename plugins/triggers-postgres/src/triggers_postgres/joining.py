"""What a `PostgresStore` has for transactions: the application's, and one over many commits."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet, ref

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from triggers_core.exceptions import CannotJoin, StorageError
from triggers_core.storages.base import Clock, Store
from triggers_postgres import carrying
from triggers_postgres.connections import Connections
from triggers_postgres.due_notices import DueWatch
from triggers_postgres.errors import HOW_TO_SET_UP, hidden_interruption, storage_error
from triggers_postgres.identity import Identity, identity_steps
from triggers_postgres.joined import JoinedStore
from triggers_postgres.joined_async import AsyncJoinedStore
from triggers_postgres.joints import OwnJoint, joint_of
from triggers_postgres.outcomes import STATUS, Outcomes, Pending, call, ids_of
from triggers_postgres.steps import Tables
from triggers_postgres.still_open import on_behalf
from triggers_postgres.within import of_the_transaction

if TYPE_CHECKING:
    from triggers_postgres.store import PostgresStore

T = TypeVar("T")

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class Joining(Store):
    """The part of a `PostgresStore` that is about transactions."""

    tables: Tables
    connections: Connections

    def _run(self, work: Callable[[psycopg.Connection[Any]], T], settled: bool = True) -> T:
        raise NotImplementedError

    def __init__(self, clock: Clock, listen: bool = True) -> None:
        super().__init__(clock)
        connect = self.connections.connect if listen else None
        self.outcomes: Outcomes = Outcomes(self.statuses, connect)
        """What follows the commits of the application."""
        self.due_watch: DueWatch = DueWatch(connect, self.tables.sql.due_channel)
        """Hears from other processes, while this one sweeps."""
        self._own_of_thread = _Own()
        self._identity: Identity | None = None
        self._known: WeakSet[AnyConnection] = WeakSet()

    # -- of the application -----------------------------------------------------------------------

    def joined(self, connection: object) -> Store:
        """The same sessions within a transaction of the application's.

        :param connection: a connection of psycopg 3; a ``Connection`` or ``Session`` of SQLAlchemy
            (`postgresql+psycopg`), or their asyncio counterparts; a connection of Django's.
        :raises CannotJoin: it is of another kind. Whether it leads to the same database, shows the
            first use.
        """
        joint, store = joint_of(connection), cast("PostgresStore", self)
        return AsyncJoinedStore(store, joint) if joint.awaits else JoinedStore(store, joint)

    @property
    def known_identity(self) -> Identity | None:
        """Which tables those of this store are, if that has been asked for already."""
        return self._identity

    def identity(self) -> Identity:
        """Which tables those of this store are; makes them, if that is still to be done."""
        return self._identity or self.ask_identity()

    def ask_identity(self) -> Identity:
        """As `identity`, asked for now: somebody may have dropped the tables, and made others."""
        steps = partial(identity_steps, self.tables.schema)
        self._identity = self._run(lambda connection: carrying.read(connection, steps()))
        return self._identity

    def knows(self, connection: AnyConnection) -> bool:
        """Whether a connection is known to lead to the tables of this store."""
        return connection in self._known

    def check(self, connection: AnyConnection, found: Identity, ours: Identity) -> None:
        """Note that a connection leads to the tables of this store.

        :raises CannotJoin: it does not.
        """
        if found.table is None:
            raise CannotJoin(
                f"the connection leads to a database without tables of Triggers (schema"
                f" {self.tables.schema!r}), and not to {self.place}. {HOW_TO_SET_UP}"
            )
        if found != ours:
            raise CannotJoin(
                f"the connection leads to other tables of Triggers than those of {self.place}: both"
                " have to be the same database"
            )
        self._known.add(connection)

    def statuses(self, ids: Sequence[tuple[int, int]]) -> dict[int, str | None]:
        """What the server says of (sub)transactions (``"in progress"``, ``"committed"``), by id.

        :param ids: as `STATUS` takes them, in pairs.
        """
        xids, wholes = [xid for xid, _ in ids], [whole for _, whole in ids]
        rows = self._run(lambda c: carrying.rows_of(c, [(STATUS, (xids, wholes))]))
        return dict(rows[0])

    # -- of this store ----------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """One transaction for everything that this thread commits within.

        Its value is the connection (in autocommit mode but for this block), for statements of the
        application's own. What follows the commits is done at the end, in this thread. A block
        within a block belongs to the outer one (it is a savepoint).

        :raises TransactionConflict: a commit within has lost against another transaction; run the
            whole block again.
        """
        within = self._own_of_thread.joined
        if within is not None:
            with self._block_within(within) as connection:
                yield connection
            return
        self.identity()
        waiting: deque[Pending] = deque()
        failed: Exception | None = None
        handled = sys.exception()
        try:
            with self.connections.lent() as connection:
                try:
                    with self._begun(connection, waiting):
                        yield connection
                except Exception as error:
                    if not self._is_clean(connection):
                        raise
                    failed = error  # raised below, and the connection is kept
        except psycopg.Error as error:
            interruption = hidden_interruption(error, handled)
            raise interruption or storage_error(self.place, error) from error
        if failed is not None:
            raise failed
        self._call_back(waiting)

    @contextmanager
    def _block_within(self, within: JoinedStore) -> Iterator[psycopg.Connection[Any]]:
        """A block within a block: of one that raises, nothing is stored."""
        connection = within.joint.connection()
        waiting = cast(OwnJoint, within.joint).waiting
        before = len(waiting)
        try:
            with connection.transaction():
                yield connection
        except BaseException:
            while len(waiting) > before:
                waiting.pop()
            raise

    def _call_back(self, waiting: deque[Pending]) -> None:
        """Call back after the commit, but for what lay in a savepoint that was rolled back."""
        nested = [each for each in waiting if each.nested]
        status: dict[int, str | None] = {}
        if nested:
            try:
                status = self.statuses(ids_of(nested))
            except StorageError:
                self.outcomes.watch(waiting)  # for whoever can ask later
                raise
        while waiting:
            entry = waiting.popleft()
            if not entry.nested or status[entry.xid] == "committed":
                call(entry.callback)

    def _is_clean(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether nothing of a transaction is left, however it ended."""
        return (
            self._own_of_thread.joined is None
            and not connection.closed
            and connection.info.transaction_status is TransactionStatus.IDLE
            and connection.pgconn.pipeline_status == PipelineStatus.OFF
        )

    @contextmanager
    def _begun(
        self, connection: psycopg.Connection[Any], waiting: deque[Pending]
    ) -> Iterator[None]:
        self._known.add(connection)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        over, handled = False, sys.exception()
        of_the_block: BaseException | None = None
        try:
            with connection.transaction():
                joint = OwnJoint(connection, waiting)
                joined = JoinedStore(cast("PostgresStore", self), joint)
                self._own_of_thread.reference = ref(joined)
                try:
                    yield
                    over = True
                except BaseException as error:
                    of_the_block = error
                    raise
                finally:
                    self._own_of_thread.reference = _nothing
        except BaseException as error:
            if error is of_the_block:
                raise
            if over and isinstance(error, psycopg.Error):
                if connection.closed:  # perhaps it was committed; the server will say
                    self.outcomes.watch(waiting)
                raise of_the_transaction(self.place, error, handled) from error
            # An interruption between psycopg's own lines: it may count one transaction too many, or
            # too few, from now on.
            connection.pgconn.finish()
            raise
        finally:
            of_the_block = None  # whose traceback has this frame
            if self._is_clean(connection):  # else it is thrown away
                connection.isolation_level = None

    @property
    def own(self) -> JoinedStore | None:
        """The store within this thread's `transaction`, if there is one."""
        return self._own_of_thread.joined

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is within `transaction`."""
        return self._own_of_thread.joined is not None

    def in_thread(self, call: Callable[[], T]) -> Awaitable[T] | None:
        known = on_behalf(call)
        return None if known is None else asyncio.to_thread(known)

    def when_committed(self, callback: Callable[[], None]) -> None:
        if self.own is None:
            callback()
        else:
            self.own.when_committed(callback)

    def follow_up(self) -> None:
        self.outcomes.settle()

    def watch_due(self, callback: Callable[[], None]) -> None:
        self.due_watch.add(callback)

    def unwatch_due(self, callback: Callable[[], None]) -> None:
        self.due_watch.remove(callback)

    def close(self) -> None:
        self.due_watch.close()
        self.outcomes.close()
        self._identity = None
        self.connections.close()


def _nothing() -> None:
    """The reference to no store."""


class _Own(threading.local):
    """The transaction of the store's own that a thread is in.

    Weakly: whatever exception out of a signal handler comes between the end of the block and the
    note of it, the store within is gone along with the block.
    """

    reference: Callable[[], JoinedStore | None] = staticmethod(_nothing)

    @property
    def joined(self) -> JoinedStore | None:
        return self.reference()
