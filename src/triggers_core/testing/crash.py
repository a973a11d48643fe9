"""Processes that die on command: a store and a runner that count what they do, up to a crash.

A crash point is a place where `kill -9` would make a difference: before each operation on a store,
after each that writes (it took effect, nobody heard of it), before and after each dispatch, and in
the middle of a body. `CrashPoints` numbers them; at the one that was asked for, the process dies,
and whatever it still tries on its way out has no effect.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import BodyInterrupted
from triggers_core.runners.base import TaskRunner
from triggers_core.running.heartbeats import Heartbeats, Lease
from triggers_core.running.messages import Message
from triggers_core.running.worker import run_message
from triggers_core.storages.base import Due, SessionSummary, Store

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager

T = TypeVar("T")


class Crash(BodyInterrupted):
    """The process is dead. Nothing survives it: neither `except Exception` nor a loop of ours."""


class CrashPoints:
    """Counts the crash points of one process, and kills it at one of them.

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

    def reach(self, what: str) -> None:
        """Come to a crash point; raises `Crash` at the chosen one, and at every later one."""
        if not self.dead:
            self.reached.append(what)
            self.dead = len(self.reached) == self.crash_at
        if self.dead:
            self._die()

    def _die(self) -> NoReturn:
        raise Crash(f"crash point {self.crash_at}: {self.reached[-1]}")


class Journal:
    """What happened in the outside world, which no crash of a process undoes."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        """Instance → how often its body began."""
        self.outcomes: Counter[str] = Counter()
        """Instance → how often an outcome of it was committed."""
        self.too_early: list[Message] = []
        """Messages that were sent before what they are about was durable."""


class CrashingStore(Store):
    """Any store, with a crash point before each operation and after each that writes."""

    def __init__(self, inner: Store, points: CrashPoints, journal: Journal | None = None) -> None:
        super().__init__(inner.clock)
        self.inner: Store = inner
        self.points: CrashPoints = points
        self.journal: Journal = journal or Journal()

    def _read(self, what: str, work: Callable[[], T]) -> T:
        self.points.reach(f"before {what}")
        return work()

    def _write(self, what: str, work: Callable[[], T]) -> T:
        self.points.reach(f"before {what}")
        answer = work()
        self.points.reach(f"after {what}")
        return answer

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        def work() -> Plan[T]:
            plan = self.inner.commit(uid, command, rules)
            for change in plan.changes:
                ended = change.instance.resolved or change.instance.status is Status.FAILED
                if change.before is Status.RUNNING and ended:
                    self.journal.outcomes[change.instance.name] += 1
            return plan

        return self._write(f"commit of {type(command).__name__}", work)

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

    def due(self, limit: int = 100) -> list[Due]:
        return self._read("due", lambda: self.inner.due(limit))

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

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        return self._write("prune", lambda: self.inner.prune(older_than, resolved_only))

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self._write("lease", lambda: self.inner.acquire_lease(name, owner, seconds))

    def release_lease(self, name: str, owner: str) -> None:
        self._write("release", lambda: self.inner.release_lease(name, owner))

    def close(self) -> None:
        """Nothing: a process that dies closes nothing, and the inner store is not its own."""


class Broker:
    """Messages on their way; a real one survives the processes that it serves.

    :param lost: numbers of the messages (from 1) that never arrive.
    :param repeated: numbers of those that arrive twice.
    :param acknowledge_late: a message leaves only when its attempt is over, so that the message of
        a worker that died arrives again.
    """

    def __init__(
        self,
        lost: Collection[int] = (),
        repeated: Collection[int] = (),
        acknowledge_late: bool = False,
    ) -> None:
        self.lost: Collection[int] = lost
        self.repeated: Collection[int] = repeated
        self.acknowledge_late = acknowledge_late
        self.sent: int = 0
        self.queue: deque[Message] = deque()

    def send(self, message: Message) -> None:
        """Take a message on its way."""
        self.sent += 1
        copies = 0 if self.sent in self.lost else 2 if self.sent in self.repeated else 1
        self.queue.extend([message] * copies)


class CalledHeartbeats(Heartbeats):
    """Renews leases when `beat` is called, and only then: no thread, no time."""

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        self._held.add(lease)
        try:
            yield
        finally:
            self._held.discard(lease)


class InlineRunner(TaskRunner):
    """Runs attempts when `work` is called, first in, first out, in the calling thread.

    It does what every runner does, by the same code: `run_message`.
    """

    key = "inline"

    def __init__(
        self, app: Application, points: CrashPoints, broker: Broker, journal: Journal
    ) -> None:
        super().__init__(app)
        self.points: CrashPoints = points
        self.broker: Broker = broker
        self.journal: Journal = journal
        self.heartbeats: CalledHeartbeats = CalledHeartbeats(app.rules.timing.heartbeat)

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        if not _is_durable(manager.storage.store, message):
            self.journal.too_early.append(message)
        self.points.reach("before dispatch")
        self.broker.send(message)
        self.points.reach("after dispatch")

    def work(self) -> None:
        """Make every attempt that a message asks for, and those that follow from it."""
        queue = self.broker.queue
        while queue:
            message = queue[0] if self.broker.acknowledge_late else queue.popleft()
            run_message(self.app.manager_for(message), message, self.heartbeats)
            if self.broker.acknowledge_late:
                queue.popleft()

    def body(self, instance: str) -> None:
        """What the bodies of a scenario call: they begin, show a sign of life, and go on."""
        self.journal.runs[instance] += 1
        self.points.reach("in a body")
        self.heartbeats.beat()


def _is_durable(store: Store, message: Message) -> bool:
    """Whether a message is about something that the store has; looks past the crash points."""
    inner = store.inner if isinstance(store, CrashingStore) else store
    snapshot = inner.load(message.uid, Query(instances=(message.instance,)))
    task, _ = split_instance_name(message.instance)
    return any(
        each.task == task and each.status is Status.SCHEDULED and each.attempt == message.attempt
        for each in snapshot.instances.values()
    )
