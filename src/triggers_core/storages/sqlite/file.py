"""One SQLite file in one process: its connection, its transactions, its turnstile.

An exception out of a signal handler may come between any two bytecodes. So whatever is taken is
taken *inside* a `try` whose `finally` begins with a single call of a function in C, which gives it
back if it is had and else does nothing: `rollback` of the connection, `leave` of the turnstile,
`release` of the mutex. And whoever comes in next looks for what is left all the same.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import closing
from types import CodeType
from typing import Final, Literal, TypeVar
from urllib.parse import quote

from triggers_core.exceptions import InvalidSetting, NestedCommit, StorageError
from triggers_core.interpreter import stacks
from triggers_core.storages.sqlite import open_files as open_files
from triggers_core.storages.sqlite.place import (
    REOPENINGS,
    Identity,
    check_file,
    check_path,
    identity,
    logger,
)
from triggers_core.storages.sqlite.schema import is_prepared, prepare
from triggers_core.storages.sqlite.transaction import INSIDE, Block, Transaction
from triggers_core.storages.sqlite.turnstile import Turnstile, TurnstileBusy

Synchronous = Literal["FULL", "NORMAL"]
_T = TypeVar("_T")

_TIMEOUT: Final = 30.0
"""Seconds that a thread waits for others: at the mutex, at the turnstile, for SQLite's own lock."""
_MOMENT: Final = 0.001  # seconds; as long as a commit may take
_FORK_WAIT: Final = 1.0  # seconds; it may wait for us, if we are in another file as well
_TIMESTAMP_GRAIN: Final = 1_000_000_000  # nanoseconds: coarser than any file system's times


class Opened:
    """A connection, and the files that it has open."""

    __slots__ = (
        "connection",
        "folder",
        "identities",
        "names",
        "passing",
        "seen",
        "settled",
        "turnstile",
        "undo",
        "writing_parent",
    )

    def __init__(self, connection: sqlite3.Connection, path: str, given: str) -> None:
        self.connection: sqlite3.Connection = connection
        self.undo: Callable[[], None] = connection.rollback
        """Roll back what is open on it, if anything is."""
        self.turnstile: Turnstile | None = None
        self.names: tuple[str, str, str] = (given, f"{path}-wal", f"{path}-shm")
        self.identities: tuple[Identity, ...] = ()
        self.folder: str = os.path.dirname(path)
        self.seen: float = -_TIMEOUT
        self.settled = -1 if path == given else -2
        """The folder's time of change when the files were last seen to be in place: as long as it
        stays, none was put in or taken out. Nothing can be told from it (-2) if links lead
        there."""
        self.writing_parent: int = 0
        """In the child of a fork that came in the middle of a change: the process that made it."""
        self.passing: bool = False
        """Whether it serves one read only: somebody may write without this process noticing."""

    def stands(self) -> bool:
        """Whether the names still lead to the files that SQLite has open."""
        try:
            folder = os.stat(self.folder)
        except FileNotFoundError:
            return False
        # A copy that took the folder's place may have its `st_mtime` (cp -a), and nobody can set
        # the other back.
        changed = max(folder.st_mtime_ns, folder.st_ctime_ns)
        if changed == self.settled:
            self.seen = time.monotonic()
            return True
        if self.identities != tuple(map(identity, self.names)):
            return False
        if self.settled != -2 and abs(time.time_ns() - changed) > _TIMESTAMP_GRAIN:
            self.settled = changed
        return True

    def stood_lately(self) -> bool:
        """Whether that was seen a moment ago, after another commit."""
        return time.monotonic() - self.seen < _MOMENT

    def __del__(self) -> None:
        connection = getattr(self, "connection", None)  # an interruption may have come before
        if connection is not None:
            connection.close()  # a store that nobody uses any more need not be closed

    def disown(self, parent: int) -> None:
        """Leave it to the parent process, in the child of a fork: whatever is done is its own."""
        if self.connection.in_transaction:
            self.writing_parent = parent
        self.undo = _nothing
        if self.turnstile is not None:
            self.turnstile.leave = _nothing

    def close(self) -> None:
        self.connection.close()
        if self.turnstile is not None:
            self.turnstile.close()


def _nothing() -> None:
    """What a child has to do with what its parent has open."""


class SqliteFile:
    """A database file and the one connection that this object has to it."""

    def __init__(self, path: str | os.PathLike[str], synchronous: Synchronous = "FULL") -> None:
        """:raises InvalidSetting: a path or an option that cannot be one; nothing is opened."""
        self.path: str = check_path(path)
        self._synchronous = check_synchronous(synchronous)
        self.used: float = 0.0
        """When it was last used, on the monotonic clock."""
        self.forget()
        known, key = open_files.files, id(self)
        known[key] = weakref.ref(self, lambda _: known.pop(key, None) and None)

    def forget(self) -> None:
        """Begin anew, as in a process that was forked."""
        self._pid = os.getpid()
        self.mutex: threading.RLock = threading.RLock()
        self.opened: Opened | None = None
        self.held: weakref.ref[Transaction] | None = None
        """The transaction that is open, of whichever thread."""
        self._visits = 0

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._nested():
            raise NestedCommit(f"the SQLite file {self.path} cannot be closed while it is changed")
        try:
            self.enter()
            self.drop()
        finally:
            try:  # noqa: SIM105 - the release must be the very next call
                self.mutex.release()
            except RuntimeError:  # it was not taken
                pass

    def drop(self) -> None:
        """Close the connection; for whoever has the mutex."""
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()

    @property
    def _connection(self) -> sqlite3.Connection | None:
        """The connection, for whoever has the mutex; None while the file is closed."""
        return None if self.opened is None else self.opened.connection

    # -- one thread at a time ---------------------------------------------------------------------

    def enter(self) -> None:
        """Take the mutex; call it in a `try` whose `finally` releases it."""
        if self._pid != os.getpid():
            # Forked by something that ran no fork handlers. SQLite forbids even closing a parent's
            # connection in the child, so it is kept, unused, and a new one opened.
            open_files.disinherit(self, self._pid)
        if not open_files.gate.is_set():
            open_files.gate.wait(_FORK_WAIT)
        if not self.mutex.acquire(False):
            self._wait()
        self._visits += 1

    def _wait(self) -> None:
        visits, until = -1, time.monotonic() + _TIMEOUT
        while True:
            mutex = self.mutex
            if mutex.acquire(True, 1.0):
                if mutex is self.mutex:
                    return
                mutex.release()
            elif visits == self._visits and self._abandoned():
                self.mutex = threading.RLock()
            elif time.monotonic() > until:
                raise StorageError(
                    f"the SQLite file {self.path}: another thread of this process has been in it"
                    f" for {_TIMEOUT:g} seconds"
                )
            visits = self._visits

    def _abandoned(self) -> bool:
        """Whether the mutex is held by nobody: no thread is where it could have taken it."""
        if type(self.mutex).__module__ != "_thread":
            return False  # of greenlets, whose frames cannot be seen
        for top in stacks().values():
            frame = top
            while frame is not None:
                if frame.f_code in _INSIDE:
                    return False
                frame = frame.f_back  # type: ignore[assignment]
        transaction = None if self.held is None else self.held()
        if transaction is None:
            return True
        if transaction.goes_on:
            return False
        transaction.close()
        return True

    def _nested(self) -> AbstractSet[CodeType]:
        """In what this thread is inside already: within a hook, or in a signal handler."""
        if not self.mutex._is_owned():  # type: ignore[attr-defined]
            return set()
        transaction = self._transaction()
        if transaction is not None and transaction.between_steps:
            return _BETWEEN
        found, frame = set[CodeType](), sys._getframe(1)
        while frame is not None:
            if frame.f_code in _INSIDE:
                holder = frame.f_locals.get("self")
                if holder is self or getattr(holder, "file", None) is self:
                    found.add(frame.f_code)
            frame = frame.f_back  # type: ignore[assignment]
        if found:
            return found
        if transaction is not None:
            return _BETWEEN
        while self.mutex._is_owned():
            self.mutex.release()  # left by an exception between its taking and its release
        return found

    # -- transactions -----------------------------------------------------------------------------

    def transaction(self) -> Block:
        """A context manager: all that this thread writes within is one transaction."""
        return Block(self)

    def outer(self) -> Transaction | None:
        """The transaction that this thread is in, between two of its steps.

        :raises NestedCommit: it is within a step, or in another task than the transaction.
        """
        if not self._nested() - _BETWEEN:
            return self._transaction()
        raise self._refused()

    def _transaction(self) -> Transaction | None:
        transaction = None if self.held is None else self.held()
        if transaction is None or not self.mutex._is_owned():  # type: ignore[attr-defined]
            return None
        if not transaction.goes_on:
            transaction.close()
            return None
        transaction.check_task()
        return transaction

    def _refused(self) -> NestedCommit:
        return NestedCommit(
            f"the SQLite file {self.path}: this thread is in the middle of another change. A"
            " before_commit hook adds events to it by plan.fire, not by a manager"
        )

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in a read transaction: everything that it reads is of one moment.

        It must leave no cursor behind (`fetchall`): one that an exception's traceback keeps alive
        would hold the connection back in that moment.

        :raises StorageError: SQLite refused.
        """
        inside = self._nested()
        if inside:
            transaction = self.held() if inside is _BETWEEN and self.held else None
            if transaction is not None:
                return transaction.read(work)
            assert self._connection is not None
            return work(self._connection)
        try:
            self.enter()
            return self._read(work)
        except sqlite3.Error as error:
            raise self.failed(error) from error
        finally:
            try:  # noqa: SIM105 - the release must be the very next call
                self.mutex.release()
            except RuntimeError:
                pass

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        opened = self.ready(False)
        try:
            opened.connection.execute("BEGIN")
            return work(opened.connection)
        finally:
            opened.undo()
            if opened.passing:
                self.drop()

    def write(self, work: Callable[[sqlite3.Connection], tuple[_T, bool]]) -> _T:
        """Run `work` in a write transaction; it returns its answer and whether to commit.

        It may run again: when the file is replaced in the meantime, on the new one.

        :raises StorageError: SQLite refused (a full disk, …), or somebody else writes too long.
        :raises NestedCommit: this thread is inside a change already.
        """
        inside = self._nested()
        if inside == {SqliteFile._read.__code__}:
            # A signal handler, as Celery's at a cold shutdown, came in the middle of a read: a
            # connection of its own is not kept from writing by that.
            with closing(SqliteFile(self.path, self._synchronous)) as beside:
                return beside.write(work)
        if inside:
            transaction = self.held() if inside is _BETWEEN and self.held else None
            if transaction is None:
                raise self._refused()
            return transaction.write(work)
        try:
            self.enter()
            return self._write(work)
        except sqlite3.Error as error:
            raise self.failed(error) from error
        finally:
            try:  # noqa: SIM105 - the release must be the very next call
                self.mutex.release()
            except RuntimeError:
                pass

    def _write(self, work: Callable[[sqlite3.Connection], tuple[_T, bool]]) -> _T:
        for _ in range(REOPENINGS):
            opened = self.ready(True)
            connection, turnstile = opened.connection, opened.turnstile
            assert turnstile is not None
            try:
                try:
                    self.queue(turnstile)
                    connection.execute("BEGIN IMMEDIATE")
                    if opened.stood_lately() or opened.stands():
                        answer, keep = work(connection)
                        if not keep:
                            return answer
                        connection.execute("COMMIT")
                        # Once more: what was committed into a file that has gone is not stored.
                        if opened.stands():
                            return answer
                finally:
                    opened.undo()
            finally:
                turnstile.leave()
            self.replaced()
        raise StorageError(f"the SQLite file {self.path} is replaced again and again")

    def queue(self, turnstile: Turnstile) -> None:
        """Wait for the turn; give it up in a `finally`."""
        try:
            turnstile.enter(_TIMEOUT)
        except TurnstileBusy as busy:
            raise StorageError(
                f"the SQLite file {self.path} is locked: {busy} for {_TIMEOUT:g} seconds; is it"
                " suspended, or does a before_commit hook hang in it?"
            ) from busy
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: Exception) -> StorageError:
        """What is raised in place of an error of SQLite's."""
        return StorageError(f"the SQLite file {self.path}: {error}")

    # -- opening ----------------------------------------------------------------------------------

    def ready(self, writing: bool) -> Opened:
        """The connection, opened if need be; for whoever has the mutex."""
        opened = self.opened
        if (
            opened is None
            or opened.connection.in_transaction  # an exception came before it was rolled back
            or (opened.turnstile is None if writing else not opened.stands())
        ):
            opened = self._renewed(writing)
        self.used = time.monotonic()
        return opened

    def _renewed(self, writing: bool) -> Opened:
        opened = self.opened
        try:
            if opened is not None and opened.connection.in_transaction:
                self.drop()
            elif opened is not None and not opened.stands():
                self.replaced()
            if self.opened is None:
                self._open(writing)
            opened = self.opened
            assert opened is not None
            if writing and opened.turnstile is None:
                opened.turnstile = self._turnstile()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"cannot open the SQLite file {self.path}: {error}") from error
        return opened

    def replaced(self) -> None:
        """Another file has taken the place of the one that is open: let go of that."""
        logger.warning(
            "the SQLite file %s was deleted or replaced (or its -wal or -shm file was) while this"
            " process had it open: it is opened anew",
            self.path,
        )
        self.drop()

    def _turnstile(self) -> Turnstile:
        real = os.path.realpath(self.path)
        return Turnstile(f"{real}-turnstile", like=real)

    def _open(self, writing: bool) -> None:
        try:
            open_files.lock.acquire()
            open_files.make_room(self)
            for _ in range(REOPENINGS):
                real = os.path.realpath(self.path)
                before = check_file(real)
                self._check_parent(before)
                try:
                    opened = self._connect(real)
                except sqlite3.OperationalError:
                    if writing or not before[1] or identity(f"{real}-wal")[1]:
                        raise
                    # Nobody has it open, and who may only read cannot make the files that SQLite
                    # wants beside it. The file alone holds everything then.
                    opened = self._connect(real, "?immutable=1")
                    opened.passing = True
                if before in ((0, 0), identity(self.path)):
                    opened.identities = tuple(map(identity, opened.names))
                    self.opened = opened
                    return
                opened.close()
        finally:
            try:  # noqa: SIM105 - the release must be the very next call
                open_files.lock.release()
            except RuntimeError:  # it was not taken
                pass
        raise StorageError(f"the SQLite file {self.path} is replaced again and again")

    def _check_parent(self, file: Identity) -> None:
        for each in open_files.inherited:
            if isinstance(each, Opened) and each.writing_parent and each.identities[0] == file:
                raise StorageError(
                    f"the SQLite file {self.path}: this process was forked while the process"
                    f" {each.writing_parent} was writing to it, and SQLite cannot tell the two"
                    " apart. Fork before or after a transaction, and in no before_commit hook"
                )

    def _connect(self, real: str, options: str = "") -> Opened:
        connection = sqlite3.connect(
            f"file:{quote(real)}{options}" if options else real,
            timeout=_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            uri=bool(options),
        )
        opened = Opened(connection, real, self.path)
        try:
            if not is_prepared(connection, real):
                opened.turnstile = turnstile = self._turnstile()
                try:
                    self.queue(turnstile)
                    prepare(connection, real)
                finally:
                    turnstile.leave()
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            opened.close()
            raise
        return opened


def check_synchronous(synchronous: object) -> Synchronous:
    """The value of SQLite's pragma.

    :raises InvalidSetting: it is another one.
    """
    if not isinstance(synchronous, str) or synchronous.upper() not in ("FULL", "NORMAL"):
        raise InvalidSetting(f"sqlite: synchronous must be FULL or NORMAL, got {synchronous!r}")
    return "FULL" if synchronous.upper() == "FULL" else "NORMAL"


_INSIDE: Final = INSIDE.union(
    each.__code__ for each in (SqliteFile._read, SqliteFile._write, SqliteFile.drop)
)
_BETWEEN: Final = frozenset((SqliteFile.transaction.__code__,))
"""Stands for "in a block of a transaction, between two of its steps"."""
