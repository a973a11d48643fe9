"""What became of the application's transactions, and calling back after those that were committed.

psycopg tells nobody of a COMMIT, an ORM tells of its own only, and one that was lost along with the
connection may have taken place. The server knows: `pg_xact_status` answers for a transaction's id,
and for the id of a *sub*transaction too, which is what a savepoint opens: one that was rolled back,
or lay in one that was, is "aborted" although the transaction around it was committed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from triggers_core.engine.names import new_id
from triggers_core.exceptions import StorageError, is_time_limit
from triggers_core.failures import log_exception
from triggers_core.runners import exits
from triggers_postgres.listening import Connect, Listener, start_listening

logger: logging.Logger = logging.getLogger(__name__)

STATUS: Final = (
    # The server looks at one id after the other. Of a transaction that ends meanwhile, some would
    # seem to be in progress and some committed, and what came later would be called back first:
    # one snapshot decides for all of them whether it has ended. (It knows no savepoints, and takes
    # the id of one for ended. For an id that has not been given out yet, pg_xact_status raises.)
    "SELECT xid, CASE WHEN pg_visible_in_snapshot(whole::text::xid8, pg_current_snapshot())"
    " THEN pg_xact_status(xid::text::xid8) ELSE 'in progress' END"
    " FROM unnest(%s::int8[], %s::int8[]) AS given (xid, whole)"
)
"""Parameters: the ids of (sub)transactions; those of the transactions that they belong to, or the
same again, to hear of a savepoint's roll-back before its transaction has ended.
Rows: id, status (None: too long ago)."""

_SHORTEST: Final = 0.002  # seconds between two looks at what has not ended, at first
_LONGEST: Final = 0.5
_GROWTH: Final = 1.5
_LINGER: Final = 10.0  # seconds for which the thread stays without anything to look at

Ask = Callable[[Sequence[tuple[int, int]]], dict[int, str | None]]
"""Asks the server for the status of some ids, each with its transaction's; raises `StorageError`
when it cannot."""


class Pending(NamedTuple):
    """A callback, and the id of the (sub)transaction that it waits for."""

    xid: int
    transaction: int
    """The id of the whole transaction."""
    callback: Callable[[], None]

    @property
    def nested(self) -> bool:
        """Whether it is a savepoint's, which need not share the outcome of its transaction."""
        return self.xid != self.transaction


class Outcomes:
    """What waits for the end of transactions, in one process, on one store.

    :param ask: asks the server, on a connection of the store.
    :param connect: opens a connection for LISTEN; None: it is to do without.
    """

    def __init__(self, ask: Ask, connect: Connect | None) -> None:
        self.ask: Ask = ask
        self.channel: str = f"triggers_{new_id()}"
        """Where a transaction notifies of its commit. Of this process alone: nobody else cares."""
        self._connect = connect
        self._lock = threading.Lock()
        self._calling = threading.RLock()  # one thread at a time asks and calls back, in order
        self._waiting: dict[int, Pending] = {}  # by a running number: in the order they came
        self._numbers = count()
        self._listener: Listener | None = None
        self._fresh = False
        _live.add(self)

    @property
    def listening(self) -> bool:
        """Whether it is worth a NOTIFY."""
        listener = self._listener
        return listener is not None and listener.listening

    @property
    def waiting(self) -> int:
        """How many callbacks the thread has not called, nor dropped, yet."""
        return len(self._waiting)

    # -- asked for by whoever knows that a transaction has ended ----------------------------------

    def follow_up(self, entries: deque[Pending]) -> None:
        """Call back here and now for those that were committed; takes them all from `entries`.

        What has not ended, or cannot be asked about now, is left to the thread.
        """
        later: list[Pending] = []
        try:
            status = self.ask(ids_of(entries))
            while entries:
                entry = entries.popleft()
                outcome = status.get(entry.xid)
                if outcome == "in progress":
                    later.append(entry)
                elif outcome == "committed":
                    call(entry.callback)
        except StorageError as error:
            logger.warning("what follows a commit has to wait: %s", error)
        finally:
            later += entries
            entries.clear()
            if later:
                self.watch(later)

    # -- by a thread ------------------------------------------------------------------------------

    def watch(self, entries: Iterable[Pending]) -> None:
        """Call back from a thread, once the transactions have ended well."""
        with self._lock:
            self._waiting.update(zip(self._numbers, entries, strict=False))
            self._fresh = True
            if self._listener is None:
                self._start()
            else:
                self._listener.wake()

    def look(self) -> None:
        """Have the thread look now: a transaction has ended, most likely."""
        with self._lock:
            self._fresh = True
            if self._listener is not None:
                self._listener.wake()

    def _start(self) -> None:
        exits.settle_at_exit(self.settle)
        listener = Listener(self._connect, self.channel)
        start_listening(listener, self._run, "triggers-postgres-outcomes")
        self._listener = listener

    def _run(self, listener: Listener) -> None:
        pause = _SHORTEST
        try:
            while True:
                self.settle()
                with self._lock:
                    if self._listener is not listener:
                        return
                    pause = _SHORTEST if self._fresh else min(pause * _GROWTH, _LONGEST)
                    self._fresh, idle = False, not self._waiting
                if listener.wait(_LINGER if idle else pause):
                    pause = _SHORTEST / _GROWTH
                elif idle:
                    with self._lock:
                        if not self._waiting and self._listener is listener:
                            self._listener = None
                            return
        finally:
            with self._lock:
                if self._listener is listener:
                    self._listener = None
                listener.close()

    def settle(self) -> None:
        """Look once at everything that waits, and call back for what was committed.

        Nothing that has been committed before this is called waits when it returns; what has not
        ended goes on waiting.
        """
        with self._calling:
            with self._lock:
                waiting = dict(self._waiting)
            if not waiting:
                return
            try:
                status = self.ask(ids_of(waiting.values()))
            except Exception as error:  # whatever it is, the thread goes on
                logger.debug("what follows a commit has to wait: %s", error)
                return
            for number, entry in waiting.items():
                outcome = status.get(entry.xid)
                if outcome == "in progress":
                    continue
                with self._lock:
                    mine = self._waiting.pop(number, None) is not None
                if mine and outcome == "committed":
                    call(entry.callback)

    def close(self) -> None:
        """End the thread; what has been committed by now is followed up first."""
        self.settle()
        with self._lock:
            self._waiting.clear()  # the sweep makes up for it
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.wake()

    def _begin_anew_in_child(self) -> None:
        # Transactions, thread and connection are the parent's. The connection must not be closed
        # here, nor by the collector: its server would take that for the parent's word.
        _of_the_parent.append(self._listener)
        self._listener, self._waiting = None, {}
        self._lock, self._calling = threading.Lock(), threading.RLock()


def ids_of(entries: Iterable[Pending]) -> list[tuple[int, int]]:
    """What to `Ask` for, to know what became of some entries."""
    return sorted({(each.xid, each.transaction) for each in entries})


def call(callback: Callable[[], None]) -> None:
    """Call back; what it raises is logged: the commit stays, and others wait for their turn.

    A time limit strikes through: the sweep does what is left.
    """
    try:
        callback()
    except Exception as error:
        if is_time_limit(error):
            raise
        log_exception(logger, "what follows a commit failed; the commit stays", error)


_live: WeakSet[Outcomes] = WeakSet()
_of_the_parent: list[Any] = []


def _begin_anew_in_child() -> None:
    for outcomes in list(_live):
        outcomes._begin_anew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)

__all__ = ["STATUS", "Ask", "Outcomes", "Pending", "call", "ids_of"]
