"""A transaction of many commits: a `with` block of the application (`Store.transaction`).

What it holds (the mutex, the turn, SQLite's lock) is held by a generator that is suspended while
the block lasts, so that its `finally` clauses give all of it back, whoever ends it: the end of the
block, an exception out of a signal handler, or the garbage collection. A block within the block
has a savepoint. A commit has none, which would cost half as much again: should it fail while it is
written, all of the transaction goes.

Whether a block is still going on cannot be told by the frames of the stack: it may be in a
generator. So a `with` gets a callable of its own to leave by, which Python keeps exactly as long:
when that is gone and the block has not ended, an exception came before its end could begin.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from types import GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import ReferenceType, ref

from triggers_core.exceptions import NestedCommit, StorageError, WrongState
from triggers_core.storages.sqlite.place import REOPENINGS

if TYPE_CHECKING:
    from triggers_core.storages.sqlite.file import SqliteFile

_T = TypeVar("_T")

Leave = Callable[..., None]


class Block:
    """The context manager: begins a transaction, or a part of the one that this thread is in."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._transaction: Transaction | None = None  # None before the block and after it
        self._leave: ReferenceType[Leave] | None = None
        # What the `with` leaves by; None if the class was asked for it (`ExitStack`).

    @property
    def goes_on(self) -> bool:
        """Whether anybody can still end it, for whoever has found it."""
        return self._leave is None or self._leave() is not None

    def __enter__(self) -> None:
        if self._transaction is not None:
            raise WrongState("this block of a transaction has begun already: make another one")
        if not self.goes_on:  # somebody has only asked whether there is an `__exit__`
            self._leave = None
        try:
            self._transaction = self._file.outer() or Transaction(self._file)
            self._transaction.begin(self)
        except BaseException:
            self.end(False)
            raise

    class _Exit:
        """`__exit__`: for each `with` a new callable, which nobody else keeps."""

        def __get__(self, block: Block | None, kind: type[Block]) -> Callable[..., None]:
            if block is None:
                return _leave
            leave = partial(_leave, block)
            if block._transaction is None:
                block._leave = ref(leave, partial(_left, ref(block)))
            return leave

    __exit__: _Exit = _Exit()

    def end(self, keep: bool) -> None:
        """Store what was committed within, or take it back; a second time it does nothing."""
        transaction = self._transaction
        if transaction is None:
            return
        callbacks = transaction.end(self, keep)
        self._transaction = self._leave = None
        call_back(callbacks)


def _leave(
    block: Block,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    block.end(kind is None)


def _left(found: ReferenceType[Block], leave: object) -> None:
    """The `with` is over; if nothing has ended its block, this does."""
    block = found()
    if block is not None:
        block.end(False)


class Transaction:
    """What is common to a block and those within it. Belongs to the thread that began it."""

    def __init__(self, file: SqliteFile) -> None:
        self.file: SqliteFile = file
        self.callbacks: list[Callable[[], None]] = []
        """What is to be called after the end."""
        self._blocks: list[tuple[ReferenceType[Block], int]] = []
        # The outermost first; each with the number of callbacks that there were before it.
        self._holding = cast(
            "GeneratorType[sqlite3.Connection, None, None]", _holding(file, ref(self))
        )
        self._pid, self._thread, self._task = os.getpid(), threading.get_ident(), _task()
        self._connection: sqlite3.Connection | None = None
        self._in_step = False
        self._doomed = False  # ended by a finaliser in the middle of a step, or before

    @property
    def goes_on(self) -> bool:
        """Whether its block can still end."""
        block = self._blocks[0][0]() if self._blocks else None
        return block is not None and block.goes_on and not self._over

    @property
    def _over(self) -> bool:
        return self._holding.gi_frame is None

    @property
    def between_steps(self) -> bool:
        """Whether it waits for the next step. What says no may have been left behind."""
        return not (self._in_step or self._holding.gi_running)

    def check_task(self) -> None:
        """:raises NestedCommit: another task of the thread's event loop has begun it."""
        if self._task is not _task():
            raise NestedCommit(
                f"the SQLite file {self.file.path}: another task of this thread is in the middle"
                " of a transaction, which belongs to the thread: its block must not await"
            )

    def begin(self, block: Block) -> None:
        """Begin a block."""
        if self._blocks:
            self._tidy()
        self._blocks.append((ref(block), len(self.callbacks)))
        if len(self._blocks) == 1:
            self._connection = next(self._holding)
        else:
            self._checked().execute(f"SAVEPOINT block_{len(self._blocks)}")

    def end(self, block: Block, keep: bool) -> list[Callable[[], None]]:
        """End a block: answers with what is to be called now.

        :raises StorageError: what is to be kept cannot be.
        """
        number = self._number(block)
        if number > 0:
            if keep and number == len(self._blocks):
                raise StorageError(
                    f"the SQLite file {self.file.path}: the transaction that this block was a part"
                    " of is over: nothing of the block is stored"
                )
            self._end_within(number, keep)
            return []
        try:
            if keep:
                self._check_here()
                self._end_within(1, False)
                self._checked()
                next(self._holding, None)
            return self.callbacks if keep else []
        finally:
            if not self._in_step:
                self._holding.close()
            self._doomed = True

    def close(self) -> None:
        """Take all of it back; its blocks find nothing left to keep."""
        self._holding.close()

    # -- commits and reads ------------------------------------------------------------------------

    def write(self, work: Callable[[sqlite3.Connection], tuple[_T, bool]]) -> _T:
        """Do what would be a transaction of its own as a part of this one, whole or not at all."""
        self._tidy()
        connection, whole = self._checked(), False
        changes = connection.total_changes
        try:
            self._in_step = True
            answer, whole = work(connection)
            return answer
        except sqlite3.Error as error:
            raise self.file.failed(error) from error
        finally:
            self._in_step = False
            if self._doomed or (not whole and connection.total_changes != changes):
                connection.rollback()

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work`, which sees what the transaction has written."""
        return self.write(lambda connection: (work(connection), True))

    # -- what is left to do -----------------------------------------------------------------------

    def _number(self, block: Block) -> int:
        for number, (found, _) in enumerate(self._blocks):
            if found() is block:
                return number
        return len(self._blocks)

    def _tidy(self) -> None:
        """Take back the blocks within that are over and were not ended."""
        for number, (found, _) in enumerate(self._blocks):
            block = found()
            if number and (block is None or not block.goes_on):
                self._end_within(number, False)
                break

    def _end_within(self, number: int, keep: bool) -> None:
        """End the blocks from a number on, the last one first; it alone may be kept."""
        if keep:
            self._check_here()
        while len(self._blocks) > number:
            name = f"block_{len(self._blocks)}"
            if keep and len(self._blocks) == number + 1:
                self._checked().execute(f"RELEASE {name}")
            else:
                self._take_back(name)
                del self.callbacks[self._blocks[-1][1] :]
            self._blocks.pop()

    def _take_back(self, savepoint: str) -> None:
        connection = self._connection
        if self._pid != os.getpid() or connection is None or self._over:
            return  # all of it is gone
        if not connection.in_transaction:
            return
        if self._in_step:
            self._doomed = True
            return
        try:
            connection.execute(f"ROLLBACK TO {savepoint}")
            connection.execute(f"RELEASE {savepoint}")
        except sqlite3.OperationalError as error:
            if "no such savepoint" not in str(error):  # it has not begun, or has ended
                connection.rollback()

    def _checked(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None or self._doomed or self._over or not connection.in_transaction:
            # Whatever was written now would be stored at once.
            raise StorageError(
                f"the SQLite file {self.file.path}: this transaction was rolled back after an"
                " error: nothing of it is stored"
            )
        return connection

    def _check_here(self) -> None:
        if self._pid != os.getpid():
            raise StorageError(
                f"the SQLite file {self.file.path}: the process {self._pid} has begun this"
                " transaction; one that it forked cannot end it, and has stored nothing of it"
            )
        if self._thread != threading.get_ident():
            raise StorageError(
                f"the SQLite file {self.file.path}: another thread has begun this transaction; as"
                " only that one can end it, nothing of it is stored"
            )


def _holding(
    self: SqliteFile, transaction: ReferenceType[Transaction]
) -> Generator[sqlite3.Connection, None, None]:
    """Hold what a transaction needs; going on after the `yield` commits, closing rolls back."""
    try:
        self.enter()
        for _ in range(REOPENINGS):
            opened = self.ready(True)
            connection, turnstile = opened.connection, opened.turnstile
            assert turnstile is not None
            try:
                try:
                    self.queue(turnstile)
                    connection.execute("BEGIN IMMEDIATE")
                    if opened.stands():
                        self.held = transaction
                        yield connection
                        connection.execute("COMMIT")
                        # What was committed into a file that has gone is not stored.
                        if opened.stands():
                            return
                        raise StorageError(
                            f"the SQLite file {self.path} was replaced while it was written: the"
                            " last commits are not stored"
                        )
                finally:
                    opened.undo()
            finally:
                turnstile.leave()
            self.replaced()
        raise StorageError(f"the SQLite file {self.path} is replaced again and again")
    except sqlite3.Error as error:
        raise self.failed(error) from error
    finally:
        try:  # noqa: SIM105 - the release must be the very next call
            self.mutex.release()
        except RuntimeError:
            pass
        if self.held is transaction:
            self.held = None


INSIDE: Final = frozenset(each.__code__ for each in (_holding, Transaction.write))
"""Whoever is in one of these is in the middle of a step of a transaction."""


def call_back(callbacks: list[Callable[[], None]]) -> None:
    """Call all of them; what the first one to fail has raised is raised after the others."""
    raised: list[Exception] = []
    for each in callbacks:
        try:
            each()
        except Exception as error:
            raised.append(error)
    if raised:
        raise raised[0]


def _task() -> Any:
    """The task of asyncio that this is in; None outside of any."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()
