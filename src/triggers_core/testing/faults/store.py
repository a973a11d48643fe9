"""Any store, with something that goes wrong before or after what it does.

A fault strikes *before* an operation (nothing has happened) or *after* one that writes (it took
effect, and nobody hears of it). What strikes, and when, is up to a `Faults`: `CrashPoints` kills
the process at a chosen operation, `FaultPlan` errs at rates, from a seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, NoReturn, TypeVar

from triggers_core.engine.protocol import Command, Plan, Rules
from triggers_core.engine.records import Status
from triggers_core.exceptions import BodyInterrupted, StorageError
from triggers_core.running.messages import Message
from triggers_core.storages.base import Store

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

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        what = f"commit of {type(command).__name__}"
        self.faults.before(what)
        plan = self.inner.commit(uid, command, rules)
        self.committed(uid, command, plan)
        self.faults.after(what)
        return plan

    def committed(self, uid: str, command: Command[Any], plan: Plan[Any]) -> None:
        """Called with each plan once it has taken effect, whether or not anybody hears of it."""

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

    def close(self) -> None:
        """Nothing: a process that dies closes nothing, and the inner store is not its own."""


_READS: Final = {
    "load": "load",
    "instances": "instances",
    "events": "events",
    "events_by_number": "events by number",
    "due": "due",
    "due_ahead": "due",
    "next_due": "next_due",
    "sessions": "sessions",
    "coming": "coming",
    "waiting_groups": "waiting groups",
    "waiting_for": "waiting for",
    "failed_groups": "failed groups",
    "failed_instances": "failed instances",
    "find_event": "find event",
    "configurations_in_use": "configurations",
    "sessions_with": "sessions with",
}
_WRITES: Final = {
    "together": "together",
    "delete": "delete",
    "prune": "prune",
    "acquire_lease": "lease",
    "release_lease": "release",
}
"""Method → what `Faults` are told that it is."""


def _struck(method: str, operation: str, writes: bool) -> Callable[..., Any]:
    """A method of the inner store, with faults around it."""

    @wraps(getattr(Store, method))
    def call(self: FaultyStore, *arguments: Any, **named: Any) -> Any:
        self.faults.before(operation)
        answer = getattr(self.inner, method)(*arguments, **named)
        if writes:
            self.faults.after(operation)
        return answer

    return call


for _method, _operation in (_READS | _WRITES).items():
    setattr(FaultyStore, _method, _struck(_method, _operation, _method in _WRITES))


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
