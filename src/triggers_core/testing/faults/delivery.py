"""Messages on their way to a worker: lost, repeated, reordered and late, as brokers do it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.runners.base import TaskRunner
from triggers_core.running.heartbeats import Heartbeats, Lease
from triggers_core.running.messages import Message
from triggers_core.running.worker import run_message
from triggers_core.storages.base import Store
from triggers_core.testing.faults.store import CrashPoints, FaultyStore, Journal

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager


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


class Delivery:
    """Decides by rates what becomes of each message; the same random numbers, the same fate.

    :param rng: where chance comes from.
    :param lost: how often, from 0 to 1, a message never arrives.
    :param repeated: how often it arrives twice.
    :param late: how often it takes up to `longest` seconds, and others overtake it.

    Example::

        delivery = Delivery(random.Random(7), lost=0.1, repeated=0.1)
        for seconds in delivery.copies():
            send_later(message, seconds)
    """

    lost: float
    repeated: float
    late: float
    longest: float

    def __init__(
        self,
        rng: random.Random,
        lost: float = 0.0,
        repeated: float = 0.0,
        late: float = 0.0,
        longest: float = 300.0,
    ) -> None:
        self.random = rng
        self.lost, self.repeated, self.late, self.longest = lost, repeated, late, longest

    def copies(self) -> list[float]:
        """When each copy of the next message arrives, in seconds from now; empty: it is lost."""
        chance = self.random.random()
        if chance < self.lost:
            return []
        copies = 2 if chance < self.lost + self.repeated else 1
        return [self._seconds() for _ in range(copies)]

    def _seconds(self) -> float:
        if self.late and self.random.random() < self.late:
            return self.random.random() * self.longest
        return 0.0


class CalledHeartbeats(Heartbeats):
    """Renews leases when `beat` is called, and only then: no thread, no time."""

    @property
    def holds(self) -> int:
        """How many leases there are to renew."""
        return len(self._held)

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        self._held[lease] = None
        try:
            yield
        finally:
            lease.released = True
            self._held.pop(lease, None)


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
    """Whether a message is about something that the store has; looks past the faults."""
    inner = store.inner if isinstance(store, FaultyStore) else store
    snapshot = inner.load(message.uid, Query(instances=(message.instance,)))
    task, _ = split_instance_name(message.instance)
    return any(
        each.task == task and each.status is Status.SCHEDULED and each.attempt == message.attempt
        for each in snapshot.instances.values()
    )
