"""The sweep: finds what is overdue in a store and sets it going again, whoever left it behind."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import msgspec

from triggers_core.engine.due_times import is_misdated, shortest_reach
from triggers_core.engine.protocol import Plan, Query
from triggers_core.engine.recovery import Recover, Recovered
from triggers_core.exceptions import BodyInterrupted, is_greenlet_exit
from triggers_core.limits import Timing
from triggers_core.running.outages import describe, is_outage
from triggers_core.storages.base import Due, Store

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

LEASE = "sweep"
"""Name of the lease that keeps several processes from sweeping one store at a time."""

ManagerOf = Callable[[str], "TriggerManager"]
"""Makes the manager of a uid."""

_FIRST_SKIP: Final = 5.0  # seconds for which a session that cannot be changed is passed over…
_LONGEST_SKIP: Final = 600.0  # …doubling up to this
_MAX_SKIPPED: Final = 10_000  # sessions that are passed over at the same time
_FARTHEST: Final = 100_000  # due instances to look through for one that can be recovered
_NAMED: Final = 3  # sessions that a line of the log names
_IN_A_ROW: Final = 3  # sessions, one after the other, that make an error the storage's own
_PAGE: Final = 500  # instances far ahead to look at in one turn
_SCAN: Final = 50_000  # …and altogether


class Swept(msgspec.Struct, kw_only=True):
    """What one turn of the sweep did."""

    recovered: list[Recovered] = []
    """One for each session."""
    instances: int = 0
    """How many instances it looked after."""
    more: bool = False
    """Whether there was more to do than the turn allowed: another one should follow at once."""


class _Stubborn:
    """The sessions that could not be changed lately: passed over for a growing while."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, tuple[float, float]] = OrderedDict()  # uid: until, pause

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, uid: str) -> bool:
        found = self._sessions.get(uid)
        return found is not None and found[0] > time.monotonic()

    def note(self, uid: str) -> bool:
        """Pass a session over from now on; whether it is new here."""
        known = self._sessions.pop(uid, None)
        pause = _FIRST_SKIP if known is None else min(2 * known[1], _LONGEST_SKIP)
        self._sessions[uid] = (time.monotonic() + pause, pause)
        while len(self._sessions) > _MAX_SKIPPED:
            self._sessions.popitem(last=False)
        return known is None

    def forget(self, uid: str) -> None:
        """It could be changed."""
        self._sessions.pop(uid, None)


class _Memory:
    """What is remembered about a store from one turn to the next."""

    def __init__(self) -> None:
        self.stubborn = _Stubborn()
        self.drift = Drift()
        self.scanned: int | None = None
        """How many instances far ahead have been looked at; None when all have."""

    def look_at_clock(self, now: float) -> None:
        """A clock that was set may have left times behind: begin to look for them."""
        if self.drift.noticed(now):
            self.scanned = 0


_memories: WeakKeyDictionary[Store, _Memory] = WeakKeyDictionary()


def _memory_of(store: Store) -> _Memory:
    memory = _memories.get(store)
    if memory is None:
        memory = _memories[store] = _Memory()
    return memory


def next_look(store: Store) -> float | None:
    """Seconds until a sweep of the store has something to do; 0 or less: now; None: unknown.

    As `Store.next_due`, and at once when the store's clock was set.
    """
    memory = _memory_of(store)
    memory.look_at_clock(store.now())
    return store.next_due() if memory.scanned is None else 0.0


def recover(
    store: Store, manager_of: ManagerOf, limit: int = 1_000, timing: Timing | None = None
) -> list[Recovered]:
    """Look after the overdue instances of a store, session by session; see `sweep`."""
    return sweep(store, manager_of, limit, timing).recovered


def sweep(
    store: Store, manager_of: ManagerOf, limit: int = 1_000, timing: Timing | None = None
) -> Swept:
    """One turn: look after the overdue instances of a store, session by session.

    A session that cannot be changed (a plugin is missing, a record is of a newer version or
    damaged) is logged once, passed over for a growing while, and does not keep the others from
    being looked after. When the store's clock was set, and at the first turn, it also looks at what
    is due far ahead.

    :param manager_of: makes the manager of a uid.
    :param limit: instances to look after at most.
    :param timing: the application's; tells what is too far ahead to be right.
    :raises Exception: the storage itself fails, not one session in it.
    """
    memory = _memory_of(store)
    memory.look_at_clock(store.now())
    swept = Swept()
    turn = _Turn(store, manager_of, memory.stubborn, swept)
    page = _page(store, memory.stubborn, limit)
    turn.look_after(page)
    swept.more = len(page) >= limit and turn.moved
    _look_ahead(turn, memory, timing or Timing())
    return swept


class _Turn:
    """One turn's work, and what went wrong in it."""

    def __init__(
        self, store: Store, manager_of: ManagerOf, stubborn: _Stubborn, swept: Swept
    ) -> None:
        self.store, self.manager_of = store, manager_of
        self.stubborn, self.swept = stubborn, swept
        self.moved = False
        """Whether anything is otherwise than before, so that another turn finds other work."""

    def look_after(self, due: Iterable[Due]) -> None:
        """Recover instances, session by session."""
        problems: list[tuple[str, BaseException]] = []
        in_a_row = 0
        try:
            for uid, instances in groupby(sorted(due, key=_uid), key=_uid):
                names = tuple(each.instance for each in instances)
                self.swept.instances += len(names)
                try:
                    recovered = recover_session(self.manager_of(uid), names)
                except (KeyboardInterrupt, SystemExit, GeneratorExit, BodyInterrupted):
                    raise
                except BaseException as error:
                    if is_greenlet_exit(error):
                        raise
                    in_a_row += is_outage(error)
                    if in_a_row >= _IN_A_ROW or (is_outage(error) and self.is_away()):
                        raise
                    self.moved = True
                    if self.stubborn.note(uid):
                        problems.append((uid, error))
                else:
                    in_a_row = 0
                    self.stubborn.forget(uid)
                    self.swept.recovered.append(recovered)
                    self.moved = self.moved or bool(
                        recovered.dispatch or recovered.failed or recovered.due
                    )
        finally:
            _report(self.store, problems)

    def is_away(self) -> bool:
        """Whether the storage answers nothing at all."""
        try:
            self.store.next_due()
        except Exception:
            return True
        return False


def _uid(due: Due) -> str:
    return due.uid


def _page(store: Store, stubborn: _Stubborn, limit: int) -> list[Due]:
    """The overdue instances to look after.

    What cannot be recovered stays overdue, and must not hide what is due after it.
    """
    size = limit + len(stubborn)
    while True:
        found = store.due(size)
        fresh = [due for due in found if due.uid not in stubborn] if len(stubborn) else found
        if len(fresh) >= limit or len(found) < size or size >= _FARTHEST:
            return fresh[:limit]
        size = min(4 * size, _FARTHEST)


def _report(store: Store, problems: list[tuple[str, BaseException]]) -> None:
    if not problems:
        return
    named = "; ".join(f"{uid}: {describe(error)}" for uid, error in problems[:_NAMED])
    more = f"; and {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""
    logger.error(
        "%s: the sweep could not recover %s; tried again from time to time: %s%s",
        store.place,
        "one session" if len(problems) == 1 else f"{len(problems):,} sessions",
        named,
        more,
    )


# -- times that a wrong clock has written ----------------------------------------------------------


def _look_ahead(turn: _Turn, memory: _Memory, timing: Timing) -> None:
    """Look at a page of what is due far ahead, if a clock was set since the last time."""
    if memory.scanned is None:
        return
    begin = memory.scanned
    try:
        far = turn.store.due_ahead(shortest_reach(timing), begin + _PAGE)[begin:]
    except NotImplementedError:  # a storage of before
        memory.scanned = None
        return
    misdated = _misdated(turn, far, timing)
    turn.look_after(misdated)
    memory.scanned = begin + len(far) - len(misdated)  # those have moved: here begins the next page
    if len(far) < _PAGE or memory.scanned >= _SCAN:
        memory.scanned = None
    else:
        turn.swept.more = True


def _misdated(turn: _Turn, far: Iterable[Due], timing: Timing) -> list[Due]:
    found: list[Due] = []
    for uid, each in groupby(sorted(far, key=_uid), key=_uid):
        due = {} if uid in turn.stubborn else {one.instance: one for one in each}
        if not due:
            continue
        try:
            snapshot = turn.store.load(uid, Query(instances=tuple(due)))
        except Exception as error:
            if is_outage(error) and turn.is_away():
                raise
            continue  # it cannot be read: it harms itself alone
        found += (
            due[name]
            for name, instance in snapshot.instances.items()
            if name in due and is_misdated(instance, snapshot.now, timing)
        )
    return found


# -- one session -----------------------------------------------------------------------------------


def recover_session(manager: TriggerManager, instances: tuple[str, ...]) -> Recovered:
    """Look after the overdue ones among a session's instances, and dispatch them."""
    plan = manager.commit(Recover(instances=instances))
    manager.storage.store.when_committed(partial(_after_recovery, manager.outside, plan))
    return plan.outcome


def _after_recovery(manager: TriggerManager, plan: Plan[Recovered]) -> None:
    recovered = plan.outcome
    for name, attempt, holder in recovered.lost:
        follows = "it has failed" if name in recovered.failed else f"attempt {attempt + 1} follows"
        logger.warning(
            "%s %s: the process that ran attempt %d%s was lost, or hung until its lease ran out:"
            " %s",
            *(manager.uid, name, attempt, f" ({holder})" if holder else "", follows),
        )
    for plugin, problem in recovered.dropped.items():
        logger.error("%s: plugin %s was left out: %s", manager.uid, plugin, problem)
    manager.dispatch(recovered.generation, recovered.again, plan.tasks)


_TOLERANCE: Final = 1.0  # seconds by which two clocks may differ, and neither was set


class Drift:
    """Notices that a clock was set: it and the monotonic one have gone different ways.

    Example::

        drift = Drift()
        if drift.noticed(store.now()):
            look_at_what_is_far_ahead()
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._offset: float | None = None

    def noticed(self, now: float) -> bool:
        """Whether the clock was set since the last call; True the first time."""
        offset, known = now - self._steady(), self._offset
        if known is not None and abs(offset - known) <= _TOLERANCE:
            return False
        self._offset = offset
        return True
