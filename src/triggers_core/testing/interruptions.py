"""Exceptions at any moment of a store's operations, as signal handlers raise them.

A handler (an alarm-based time-out, Celery's soft time limit, Ctrl-C in a REPL) may raise between
any two bytecodes: before a `try` has begun, after a lock was taken, within somebody's clean-up.
Whatever it interrupts must be stored or not, and the store must work on: from the same thread, from
others, from other processes.

`interrupt_at` raises at the k-th such moment of a call, exactly; `interrupt_after` uses a real
signal, after a time. `survey` leads both through every operation of a store::

    report = survey(store, step=7)
    assert not report.problems, report
"""

from __future__ import annotations

import dis
import random
import re
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final, Literal

from triggers_core.engine.attempts import Claim, Claimed, Finish, Heartbeat
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.exceptions import CannotJoin
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver
from triggers_core.testing.invariants import check_session

Moments = Literal["signals", "opcodes"]
"""Where to interrupt: where Python runs signal handlers (after calls, at the beginning of
functions, at the end of each round of a loop), or before every bytecode, which asks for more than
signals do."""

_MOMENTS: Final = 20_000  # that an operation may have: a fire has some hundred
_STUCK: Final = 60.0  # seconds; what has not answered by then waits for a lock that nobody holds
_ENOUGH: Final = 3  # problems; each may have waited for minutes, and pytest's patience has an end
_ROUNDS: Final = 40  # of operations in one session; then another, so that checks stay cheap
_OURS: Final = re.compile(r"(?:src|site-packages)[/\\]triggers_\w+[/\\]")
"""Where an interruption has to come out. In a library, a clause of its own may drop it: redis-py's
around the end of a connection, psycopg_pool's around the check of one."""
_LOOKS_AT_SIGNALS: Final = frozenset(
    {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD", "RESUME"}
)


_BY_LINES: Final = sys.version_info >= (3, 12)
"""From 3.12 on, Python tells of no bytecode in frames that are entered while it traces; of lines it
does."""


class Interruption(Exception):
    """What the handler raises. No storage knows it, so none can expect it."""


@cache
def _looks_at_signals(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions at whose end Python runs pending signal handlers."""
    return frozenset(
        each.offset for each in dis.get_instructions(code) if each.opname in _LOOKS_AT_SIGNALS
    )


class _Countdown:
    """A trace function that raises at the k-th moment, once."""

    def __init__(self, number: int, moments: Moments, error: type[BaseException]) -> None:
        self.left, self.everywhere, self.error = number, moments == "opcodes", error
        self.where = ""

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if self.left <= 0 or frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = _BY_LINES, not _BY_LINES
        moments, before = _looks_at_signals(frame.f_code), -1

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal before
            if _BY_LINES and event == "line" and self.left > 0:
                self._reach(frame)
            elif event == "opcode" and self.left > 0:
                if self.everywhere or before in moments:
                    self._reach(frame)
                before = frame.f_lasti
            return trace

        return trace

    def _reach(self, frame: FrameType) -> None:
        self.left -= 1
        if not self.left:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
            raise self.error(f"at {self.where}")


def interrupt_at(
    number: int,
    work: Callable[[], object],
    moments: Moments = "signals",
    error: type[BaseException] = Interruption,
    swallowed: list[str] | None = None,
) -> str | None:
    """Run `work` and raise at its `number`-th moment, from 1.

    :param swallowed: gets the moment if nothing came out of `work`, and another error if that did.
    :returns: where that was; empty when it came to an end before.
    """
    countdown, traced = _Countdown(number, moments, error), sys.gettrace()
    dropped, report_dropped = [], sys.unraisablehook

    def hear(unraisable: sys.UnraisableHookArgs) -> None:
        """Python lets nothing out of a finaliser, or of a callback of a weak reference."""
        if unraisable.exc_type is error:
            dropped.append(countdown.where)
        else:
            report_dropped(unraisable)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a half-made connection is thrown away
        try:
            sys.unraisablehook = hear
            sys.settrace(countdown)
            work()
            if countdown.where and swallowed is not None and not dropped:
                swallowed.append(countdown.where)
        except error:
            if not countdown.where:
                raise
        except Exception as another:
            if not countdown.where or swallowed is None:
                raise
            swallowed.append(f"{countdown.where}: {type(another).__name__}: {another}")
        finally:
            sys.settrace(traced)
            sys.unraisablehook = report_dropped
    return countdown.where or None


def interrupt_after(
    seconds: float, work: Callable[[], object], error: type[BaseException] = Interruption
) -> bool:
    """Run `work` in the main thread and raise out of a signal handler after some time.

    :returns: whether it was interrupted; False when it was over before.
    """
    armed = True

    def handler(*_: object) -> None:
        if armed:
            raise error

    before = signal.signal(signal.SIGALRM, handler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a half-made connection is thrown away
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            work()
            armed = False
        except error:
            return True
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    return False


class Operation:
    """Something to interrupt. `prepare` and `check` run undisturbed."""

    def __init__(self, session: SessionDriver) -> None:
        self.session: SessionDriver = session
        self.store: Store = session.store

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def prepare(self) -> None:
        """Bring the session to where the operation is due."""

    def work(self) -> None:
        """What is interrupted."""
        raise NotImplementedError

    def check(self, completed: bool) -> bool:
        """That it is stored or not, and can go on from there; whether it is."""
        raise NotImplementedError


class Fires(Operation):
    """A fire with an id of its own."""

    def prepare(self) -> None:
        self.id: str = new_id()

    def work(self) -> None:
        self.session.fire("go", {"n": 1}, event_id=self.id)

    def check(self, completed: bool) -> bool:
        snapshot = self.store.load(self.session.uid, Query(event_ids=(self.id,)))
        stored = self.id in snapshot.known
        assert stored or not completed, f"fire {self.id} was acknowledged, and is not there"
        again = self.session.fire("go", {"n": 1}, event_id=self.id)
        assert again.status == ("duplicate" if stored else "recorded"), again.status
        return stored


class Claims(Operation):
    """A worker takes an instance."""

    def prepare(self) -> None:
        [instance] = self.session.fire("go").scheduled
        self.instance: str = instance
        generation = self.session.header.generation
        self.command: Claim = Claim(instance=self.instance, attempt=1, generation=generation)

    def work(self) -> None:
        self.session.commit(self.command)

    def check(self, completed: bool) -> bool:
        found = self.session.instance(self.instance)
        stored = found.status is Status.RUNNING
        assert stored or not completed, f"the claim of {self.instance} is not there"
        assert found.token == (self.command.token if stored else ""), found
        self.session.finish(self.session.commit(self.command))  # the same request again is welcome
        return stored


class Finishes(Operation):
    """A worker stores an outcome."""

    def prepare(self) -> None:
        [instance] = self.session.fire("go").scheduled
        self.instance: str = instance
        claimed = self.session.claim(self.instance)
        self.command: Finish = Finish(
            instance=self.instance, token=claimed.instance.token, result=b"{}"
        )

    def work(self) -> None:
        self.session.commit(self.command)

    def check(self, completed: bool) -> bool:
        stored = self.session.status(self.instance) is Status.FINISHED
        assert stored or not completed, f"the end of {self.instance} is not there"
        if not stored:
            assert self.session.status(self.instance) is Status.RUNNING
            self.session.commit(self.command)
        cascades = [each for each in self.session.events() if each.cause == self.instance]
        assert len(cascades) == 1, f"{len(cascades)} cascades of {self.instance}"
        return stored


class Heartbeats(Operation):
    """A worker renews its lease."""

    def prepare(self) -> None:
        [instance] = self.session.fire("go").scheduled
        self.instance: str = instance
        self.claimed: Claimed = self.session.claim(self.instance)

    def work(self) -> None:
        token = self.claimed.instance.token
        self.session.commit(Heartbeat(instance=self.instance, token=token))

    def check(self, completed: bool) -> bool:
        assert self.session.status(self.instance) is Status.RUNNING
        self.session.finish(self.claimed)
        return completed


class Reads(Operation):
    """Whatever only reads."""

    def work(self) -> None:
        uid, store = self.session.uid, self.store
        store.load(uid, Query(triggers=("go",)))
        store.instances(uid, statuses=(Status.FINISHED,))
        store.payloads(uid, [event.number for event in store.events(uid, limit=2)])
        store.due(1)
        store.next_due()
        store.sessions(limit=1)

    def check(self, completed: bool) -> bool:
        before = self.session.header.events
        self.session.fire("noise")
        assert self.session.header.events == before + 1, "reads see what was long ago"
        return completed


class Connects(Operation):
    """Opens the store anew."""

    def prepare(self) -> None:
        self.id: str = new_id()
        self.store.close()

    def work(self) -> None:
        self.session.fire("noise", event_id=self.id)

    def check(self, completed: bool) -> bool:
        snapshot = self.store.load(self.session.uid, Query(event_ids=(self.id,)))
        assert self.id in snapshot.known or not completed
        return self.id in snapshot.known


class Closes(Operation):
    """The store is closed, to be opened again by the next one."""

    def work(self) -> None:
        self.store.close()

    def check(self, completed: bool) -> bool:
        return self.session.header.events >= 0


class Leases(Operation):
    """A lease over the whole store."""

    def work(self) -> None:
        assert self.store.acquire_lease("interrupted", "me", 30.0)
        self.store.release_lease("interrupted", "me")

    def check(self, completed: bool) -> bool:
        free = self.store.acquire_lease("interrupted", "another", 30.0)
        assert free or not completed, "a lease was given back, and is not free"
        assert free or self.store.acquire_lease("interrupted", "me", 30.0)
        for owner in ("me", "another"):
            self.store.release_lease("interrupted", owner)
        return not free


class Deletes(Operation):
    """A session is erased."""

    def prepare(self) -> None:
        self.other: SessionDriver = SessionDriver(self.store, f"{self.session.uid}/{new_id()}")
        self.other.configure(t_x={"after": ["go", "more"]})
        self.other.fire("go", event_id="once")

    def work(self) -> None:
        self.store.delete(self.other.uid)

    def check(self, completed: bool) -> bool:
        left = self.other.exists
        assert not (left and completed), "a session was erased, and is there"
        if left:
            check_session(self.store, self.other.uid)
            assert self.store.delete(self.other.uid)
        assert not self.store.events(self.other.uid)
        assert not self.store.instances(self.other.uid)
        return not left


class Transactions(Operation):
    """Two fires that are one, into two sessions; for stores that have transactions."""

    def prepare(self) -> None:
        self.other: SessionDriver = SessionDriver(self.store, f"{self.session.uid}/{new_id()}")
        self.id: str = new_id()
        for each in (self.session, self.other):
            each.fire("go")  # the first one has more to do

    def work(self) -> None:
        with self.store.transaction():
            self.session.fire("go", event_id=self.id)
            self.other.fire("go", event_id=self.id)

    def check(self, completed: bool) -> bool:
        one, two = (
            self.id in self.store.load(each.uid, Query(event_ids=(self.id,))).known
            for each in (self.session, self.other)
        )
        assert one == two, f"a transaction is torn: {one} and {two}"
        assert one or not completed, "a transaction was acknowledged, and is not there"
        self.store.delete(self.other.uid)
        return one


OPERATIONS: Final[tuple[type[Operation], ...]] = (
    *(Fires, Claims, Finishes, Heartbeats, Reads, Connects, Closes, Leases, Deletes),
)


def operations_of(store: Store) -> tuple[type[Operation], ...]:
    """All that can be interrupted in a store."""
    try:
        with store.transaction():
            pass
    except CannotJoin:
        return OPERATIONS
    return (*OPERATIONS, Transactions)


@dataclass
class Report:
    """What came of a number of interruptions."""

    interrupted: Counter[str] = field(default_factory=Counter)
    """Operation → how often an interruption came out of it."""
    completed: Counter[str] = field(default_factory=Counter)
    """Operation → how often it was over before."""
    stored: Counter[str] = field(default_factory=Counter)
    """Operation → how often it had taken effect all the same."""
    problems: list[str] = field(default_factory=list)
    """What did not work afterwards, and which moment that was."""

    def __str__(self) -> str:
        lines = [
            f"{name}: {number} interrupted, {self.stored[name]} of them stored,"
            f" {self.completed[name]} completed"
            for name, number in self.interrupted.items()
        ]
        return "\n".join([*lines, *self.problems])


def survey(
    store: Store,
    moments: Moments = "signals",
    step: int = 1,
    operations: tuple[type[Operation], ...] | None = None,
    also: Callable[[], None] = lambda: None,
    error: type[BaseException] = Interruption,
) -> Report:
    """Interrupt every operation at each moment (or each `step`-th) and look what is left.

    :param operations: which ones; all that the store has, when not given.
    :param also: called after each: a further check, for example that another process can write.
    :param error: what is raised, and has to come out.
    """
    report, sessions = Report(), _sessions(store)
    for kind in operations or operations_of(store):
        enough = len(report.problems) + _ENOUGH  # of one kind of operation
        for number in range(1, _MOMENTS, step):
            operation = kind(next(sessions))
            operation.prepare()
            swallowed: list[str] = []
            where = interrupt_at(number, operation.work, moments, error, swallowed)
            report.problems += [
                f"{operation.name}: the interruption did not come out at {each}"
                for each in swallowed
                if ": " in each or _OURS.search(each)
            ]
            judge(report, operation, where, where or "at its end", also)
            if where is None or len(report.problems) >= enough:
                break
        else:
            report.problems.append(f"{operation.name}: not over after {_MOMENTS:,} moments")
    return report


def at_random(
    store: Store,
    amount: int,
    seed: int = 0,
    operations: tuple[type[Operation], ...] | None = None,
    also: Callable[[], None] = lambda: None,
) -> Report:
    """Interrupt operations by real signals until `amount` were. In the main thread only."""
    report, sessions, chance = Report(), _sessions(store), random.Random(seed)
    operations = operations or operations_of(store)
    takes = dict.fromkeys(operations, 0.001)
    while report.interrupted.total() < amount and len(report.problems) < _ENOUGH:
        kind = chance.choice(operations)
        operation = kind(next(sessions))
        operation.prepare()
        after, began = max(2e-6, chance.random() * takes[kind]), time.perf_counter()
        try:
            interrupted = interrupt_after(after, operation.work)
        except Exception as error:
            report.problems.append(f"{operation.name}: {type(error).__name__}: {error}")
            continue
        if not interrupted:  # what it takes, and a little more
            takes[kind] += 0.1 * (1.2 * (time.perf_counter() - began) - takes[kind])
        where = f"after {after * 1e6:.0f} us" if interrupted else None
        judge(report, operation, where, where or "at its end", also, chance.random() < 0.1)
    return report


def judge(
    report: Report,
    operation: Operation,
    interrupted: str | None,
    where: str,
    also: Callable[[], None],
    thoroughly: bool = True,
) -> None:
    """Look what an operation has left behind, from this thread and from another."""
    name = operation.name
    try:
        stored = operation.check(interrupted is None)
        if thoroughly:
            check_session(operation.store, operation.session.uid)
            in_another_thread(lambda: operation.session.fire("noise"))
            also()
    except Exception as error:
        report.problems.append(f"{name} {where}: then {type(error).__name__}: {error}")
        return
    if interrupted is None:
        report.completed[name] += 1
    else:
        report.interrupted[name] += 1
        report.stored[name] += stored


def in_another_thread(work: Callable[[], object], limit: float = _STUCK) -> None:
    """Run it there.

    :raises TimeoutError: it has not ended within so many seconds.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        raise TimeoutError(f"another thread has waited for {limit} s")
    if raised:
        raise raised[0]


def _sessions(store: Store) -> Iterator[SessionDriver]:
    while True:
        session = SessionDriver(store, f"interrupted:{new_id()}")
        one = {"trigger": "go", "where": {"n": {"atLeast": 1}}}
        session.configure(t_each={"andEvery": "go"}, t_join={"after": [one, "never"]})
        for _ in range(_ROUNDS):
            yield session
        store.delete(session.uid)
