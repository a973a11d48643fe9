"""Joins of three events, for whatever can do them: with load, and one at a time.

Only the standard library: peers run this with interpreters of their own.

A *join*: three events of one key come in, then a body runs. Its latency is from when the last event
is sent to when the body begins; the time in which that event is stored is part of it.
"""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

TOPICS = ("paid", "packed", "addressed")
SENDERS = 4
"""Threads that send events."""
IN_FLIGHT = 16
"""Joins begun and not ended at the same time, with load."""
APART = 0.2
"""Seconds before the last event, one at a time: everybody waits for that one alone by then."""
PATIENCE = 60.0
"""Seconds for a body to begin."""

Begin = Callable[[str], object]
"""Makes what waits for the events of a key, where that is needed."""
Send = Callable[[str, str], object]
"""Sends an event: key, topic."""


@dataclass
class Joined:
    """What was measured."""

    per_second: float
    """Joins a second, with load."""
    busy: float
    """The median latency with load, in seconds."""
    together: float
    """The median latency of one join at a time, its events sent one right after the other."""
    apart: float
    """The same, the last event some time after the others."""


class Load:
    """Sends events, and hears from bodies.

    :param begin: see `Begin`.
    :param send: see `Send`.
    """

    def __init__(self, begin: Begin, send: Send) -> None:
        self._begin, self._send = begin, send
        self._sent: dict[str, float] = {}
        self._bodies: dict[str, float] = {}
        self._ended: dict[str, threading.Event] = {}
        self._free = threading.Semaphore(IN_FLIGHT)

    def body(self, key: str) -> None:
        """To be called by the body, first of all. Bodies that run twice count once."""
        if key not in self._bodies:
            self._bodies[key] = time.perf_counter()
            self._ended[key].set()
            self._free.release()

    def measure(self, seconds: float, alone: int) -> Joined:
        """Measure.

        :param seconds: how long new joins are begun, with load.
        :param alone: joins one at a time, of each kind.
        :raises TimeoutError: a body does not begin.
        """
        for _ in range(3):
            self._one(apart=0.0)
        together = [self._one(apart=0.0) for _ in range(alone)]
        apart = [self._one(apart=APART) for _ in range(alone)]
        began = time.perf_counter()
        keys = self._with_load(began + seconds)
        self._wait(keys)
        took = max(self._bodies[key] for key in keys) - began
        return Joined(
            per_second=len(keys) / took,
            busy=statistics.median(self._bodies[key] - self._sent[key] for key in keys),
            together=statistics.median(together),
            apart=statistics.median(apart),
        )

    def _one(self, apart: float) -> float:
        self._free.acquire()
        key = self._events(apart)
        self._wait([key])
        return self._bodies[key] - self._sent[key]

    def _events(self, apart: float) -> str:
        key = f"order-{uuid.uuid4().hex}"
        self._ended[key] = threading.Event()
        self._begin(key)
        *first, last = TOPICS
        for topic in first:
            self._send(key, topic)
        if apart:
            time.sleep(apart)
        self._sent[key] = time.perf_counter()
        self._send(key, last)
        return key

    def _with_load(self, until: float) -> list[str]:
        keys: list[str] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while time.perf_counter() < until and not errors:
                    if self._free.acquire(timeout=PATIENCE):
                        keys.append(self._events(0.0))
            except BaseException as error:
                errors.append(error)

        senders = [threading.Thread(target=work) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if errors:
            raise errors[0]
        return keys

    def _wait(self, keys: list[str]) -> None:
        for key in keys:
            if not self._ended[key].wait(PATIENCE):
                raise TimeoutError(f"{key}: no body within {PATIENCE:g} s")
