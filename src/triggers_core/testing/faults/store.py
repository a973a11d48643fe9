"""Any store, with something that goes wrong before or after what it does.

A fault strikes *before* an operation (nothing has happened) or *after* one that writes (it took
effect, and nobody hears of it). What strikes, and when, is up to a `Faults`: `CrashPoints` kills
the process at a chosen operation, `FaultPlan` errs at rates, from a seed.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import BodyInterrupted, StorageError
from triggers_core.running.messages import Message
from triggers_core.storages.base import Due, SessionSummary, Store
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)

T = TypeVar("T")


class Crash(BodyInterrupted):
    """The process is dead. Nothing survives it: neither `except Exception` nor a loop of ours."""


class InjectedError(StorageError):
    """What a `FaultPlan` raises: a storage that does not answer."""


class Faults:
    """What goes wrong around an operation; by default nothing does."""

    def before(self, operation: str) -> None:
        """Called before each operation on a store, such as ``load`` or ``commit of Fire``."""

    def after(self, operation: str) -> None:
        """Called after each that writes. Whatever is raised here, it has taken effect."""


class CrashPoints(Faults):
    """Counts the crash points of one process, and kills it at one of them.

    A crash point is a place where `kill -9` would make a difference: before each operation on a
    store, after each that writes, and wherever a test calls `reach`. Whatever a dead process still
    tries on its way out has no effect.

    :param crash_at: the number of that point, from 1; None: it lives.

    Example::

        points = CrashPoints(crash_at=7)
        store = CrashingStore(MemoryStore(), points)
    """

    def __init__(self, crash_at: int | None = None) -> None:
        self.crash_at = crash_at
        self.reached: list[str] = []
        """What the process was about to do, or had just done, at each point."""
        self.dead: bool = False

    def before(self, operation: str) -> None:
        self.reach(f"before {operation}")

    def after(self, operation: str) -> None:
        self.reach(f"after {operation}")

    def reach(self, what: str) -> None:
        """Come to a crash point; raises `Crash` at the chosen one, and at every later one."""
        if not self.dead:
            self.reached.append(what)
            self.dead = len(self.reached) == self.crash_at
        if self.dead:
            self._die()

    def _die(self) -> NoReturn:
        raise Crash(f"crash point {self.crash_at}: {self.reached[-1]}")


class FaultPlan(Faults):
    """Errors, lost replies and delays at rates; the same seed makes the same ones.

    Rates go by method (``commit``, ``load``, ``due`` …) or by what is committed (``commit of
    Finish``); ``*`` is for all others.

    :param seed: of the random numbers.
    :param errors: how often, from 0 to 1, a method raises `InjectedError` and does nothing.
    :param lost_replies: how often one that writes takes effect and raises `InjectedError` then.
    :param delays: the longest time, in seconds, that passes before a method.
    :param sleep: lets time pass: `VirtualClock.advance`, for example. Needed with `delays`.

    Example::

        clock = VirtualClock()
        plan = FaultPlan(1, errors={"*": 0.01}, delays={"commit": 90}, sleep=clock.advance)
        store = FaultyStore(MemoryStore(clock), plan)
    """

    errors: Mapping[str, float] | dict[str, float]
    lost_replies: Mapping[str, float] | dict[str, float]
    delays: Mapping[str, float] | dict[str, float]

    def __init__(
        self,
        seed: int,
        errors: Mapping[str, float] | None = None,
        lost_replies: Mapping[str, float] | None = None,
        delays: Mapping[str, float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        if delays and sleep is None:
            raise ValueError("delays: give `sleep` as well, such as VirtualClock().advance")
        self._random = random.Random(seed)
        self.errors, self.lost_replies = errors or {}, lost_replies or {}
        self.delays, self._sleep = delays or {}, sleep
        self.struck: Counter[str] = Counter()
        """What has gone wrong so far: ``error before load``, ``lost reply to commit of Fire`` …"""

    def before(self, operation: str) -> None:
        longest = _rate(self.delays, operation)
        if longest and self._sleep is not None:
            self._sleep(self._random.uniform(0, longest))
        self._strike(self.errors, operation, "error before")

    def after(self, operation: str) -> None:
        self._strike(self.lost_replies, operation, "lost reply to")

    def _strike(self, rates: Mapping[str, float], operation: str, what: str) -> None:
        if self._random.random() < _rate(rates, operation):
            self.struck[f"{what} {operation}"] += 1
            raise InjectedError(f"{what} {operation}: a fault that was asked for")


def _rate(rates: Mapping[str, float], operation: str) -> float:
    for name in (operation, operation.partition(" ")[0], "*"):
        if name in rates:
            return rates[name]
    return 0.0


class FaultyStore(Store):
    """Any store, with faults around its operations.

    :param inner: the store; it is not closed along with this one.
    :param faults: what goes wrong.
    """

    def __init__(self, inner: Store, faults: Faults) -> None:
        super().__init__(inner.clock)
        self.inner: Store = inner
        self.faults: Faults = faults

    @property
    def place(self) -> str:
        return self.inner.place

    def _read(self, what: str, work: Callable[[], T]) -> T:
        self.faults.before(what)
        return work()

    def _write(self, what: str, work: Callable[[], T]) -> T:
        self.faults.before(what)
        answer = work()
        self.faults.after(what)
        return answer

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        what = f"commit of {type(command).__name__}"
        self.faults.before(what)
        plan = self.inner.commit(uid, command, rules)
        self.committed(uid, command, plan)
        self.faults.after(what)
        return plan

    def committed(self, uid: str, command: Command[Any], plan: Plan[Any]) -> None:
        """Called with each plan once it has taken effect, whether or not anybody hears of it."""

    def together(self, work: Callable[[], T]) -> T:
        return self._write("together", lambda: self.inner.together(work))

    def joined(self, connection: object) -> FaultyStore:
        return type(self)(self.inner.joined(connection), self.faults)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self.faults.before("the transaction")
        with self.inner.transaction() as value:
            yield value
            self.faults.before("the end of the transaction")
        self.faults.after("the transaction")

    def when_committed(self, callback: Callable[[], None]) -> None:
        self.inner.when_committed(callback)

    def load(self, uid: str, query: Query) -> Snapshot:
        return self._read("load", lambda: self.inner.load(uid, query))

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        return self._read(
            "instances",
            lambda: self.inner.instances(
                uid, statuses=statuses, task=task, unresolved_logs=unresolved_logs
            ),
        )

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        return self._read("events", lambda: self.inner.events(uid, start, limit))

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        return self._read("events by number", lambda: self.inner.events_by_number(uid, numbers))

    def delete(self, uid: str) -> bool:
        return self._write("delete", lambda: self.inner.delete(uid))

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return self._read("due", lambda: self.inner.due(limit, within))

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return self._read("due", lambda: self.inner.due_ahead(seconds, limit))

    def next_due(self) -> float | None:
        return self._read("next_due", self.inner.next_due)

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        return self._read(
            "sessions",
            lambda: self.inner.sessions(failed=failed, waiting=waiting, limit=limit, after=after),
        )

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        return self._read("waiting groups", lambda: self.inner.waiting_groups(limit, most))

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        return self._read("coming", lambda: self.inner.coming(within, limit))

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        return self._read("waiting for", lambda: self.inner.waiting_for(missing, limit, after))

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return self._read("failed groups", lambda: self.inner.failed_groups(limit))

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        return self._read(
            "failed instances",
            lambda: self.inner.failed_instances(task=task, error=error, limit=limit, after=after),
        )

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]] | None:
        return self._read("find event", lambda: self.inner.find_event(event_id, limit))

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse] | None:
        return self._read(
            "configurations", lambda: self.inner.configurations_in_use(limit, after, most)
        )

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary] | None:
        return self._read("sessions with", lambda: self.inner.sessions_with(address, limit, after))

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        return self._write("prune", lambda: self.inner.prune(older_than, resolved_only))

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self._write("lease", lambda: self.inner.acquire_lease(name, owner, seconds))

    def release_lease(self, name: str, owner: str) -> None:
        self._write("release", lambda: self.inner.release_lease(name, owner))

    def close(self) -> None:
        """Nothing: a process that dies closes nothing, and the inner store is not its own."""


class Journal:
    """What happened in the outside world, which no crash of a process undoes."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        """Instance → how often its body began."""
        self.outcomes: Counter[str] = Counter()
        """Instance → how often an outcome of it was committed."""
        self.too_early: list[Message] = []
        """Messages that were sent before what they are about was durable."""


class CrashingStore(FaultyStore):
    """Any store, with a crash point before each operation and after each that writes."""

    def __init__(self, inner: Store, points: CrashPoints, journal: Journal | None = None) -> None:
        super().__init__(inner, points)
        self.points: CrashPoints = points
        self.journal: Journal = journal or Journal()

    def committed(self, uid: str, command: Command[Any], plan: Plan[Any]) -> None:
        for change in plan.changes:
            ended = change.instance.resolved or change.instance.status is Status.FAILED
            if change.before is Status.RUNNING and ended:
                self.journal.outcomes[change.instance.name] += 1

    def joined(self, connection: object) -> CrashingStore:
        return CrashingStore(self.inner.joined(connection), self.points, self.journal)
