"""Many jobs in one thread, interleaved by chance that a seed decides, under a clock of their own.

A job is a greenlet: ordinary code, which gives way wherever it says so (`pause`), however deep in
the library it is. Time passes only when every job sleeps. So a run is a function of its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any, Protocol

from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.faults.store import Crash

try:
    from greenlet import getcurrent, greenlet
except ImportError as error:
    raise ImportError(
        "the simulation needs greenlet: pip install 'triggers-core[testing]'"
    ) from error


class Place(Protocol):
    """Where a job runs: a simulated process, which may die, stand still, or have a wrong clock."""

    name: str
    life: int
    frozen_until: float


class Job:
    """One simulated thread."""

    function: Callable[[], Any]
    life: int
    name: str

    __slots__ = ("function", "greenlet", "life", "name", "place")

    def __init__(self, name: str, function: Callable[[], Any], place: Place | None) -> None:
        self.name, self.function = name, function
        self.place: Place | None = None
        self.life = 0
        self.greenlet: Any = None
        self.move(place)

    def move(self, place: Place | None) -> None:
        """From now on it runs there, and dies with it; None: outside of all processes."""
        self.place = place
        if place is not None:
            self.life = place.life

    @property
    def dead(self) -> bool:
        """Whether the process in which it ran has died since."""
        return self.place is not None and self.place.life != self.life


class Scheduler:
    """Runs jobs until none is left, one at a time.

    :param rng: decides who goes on.
    :param clock: moves when everybody sleeps.
    :param restless: how often, from 0 to 1, a job that could be interrupted is.
    """

    switches: int

    def __init__(self, rng: random.Random, clock: VirtualClock, restless: float = 0.5) -> None:
        self.clock = clock
        self.restless = restless
        self.switches = 0
        self.current: Job | None = None
        self._random = rng.random
        self._ready: list[Job] = []
        self._asleep: list[tuple[float, int, Job]] = []
        self._serial = 0
        self._hub: Any = None
        self.stopped: bool = False
        """Whether it is over: whoever still runs is being ended."""

    def spawn(
        self,
        name: str,
        function: Callable[[], Any],
        place: Place | None = None,
        after: float = 0.0,
    ) -> Job:
        """Begin a job, in so many seconds."""
        job = Job(name, function, place)
        if after > 0:
            self._put_to_sleep(job, after)
        else:
            self._ready.append(job)
        return job

    def pause(self) -> None:
        """A point at which others may go on first; the job may be dead, or late, when it returns.

        :raises Crash: its process has died.
        """
        job = self.current
        if job is None:  # whoever looks on from outside of the simulation
            return
        if self._ready and self._random() < self.restless:
            self._ready.append(job)
            self._give_way(job)
        place = job.place
        if place is not None:
            if place.life != job.life:
                raise Crash(f"{place.name} is dead")
            if place.frozen_until > self.clock.now:
                self.sleep(place.frozen_until - self.clock.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass for this job.

        :raises Crash: its process has died meanwhile.
        """
        job = self.current
        if job is None:
            self.clock.advance(seconds)
            return
        self._put_to_sleep(job, seconds)
        self._give_way(job)
        if job.dead:
            raise Crash(f"{job.place and job.place.name} is dead")

    def _put_to_sleep(self, job: Job, seconds: float) -> None:
        self._serial += 1
        heappush(self._asleep, (self.clock.now + seconds, self._serial, job))

    def stop(self) -> None:
        """Let `run` return; whoever has not ended by then is killed."""
        self.stopped = True

    def run(self) -> None:
        """Run everything; raises what a job raises, but for `Crash`."""
        self._hub = getcurrent()
        try:
            while not self.stopped:
                job = self._next()
                if job is None:
                    break
                try:  # noqa: SIM105 - `suppress` takes a twentieth of the time of a run here
                    job.greenlet.switch()
                except Crash:  # the process of whoever was at work has died, nothing else
                    pass
        finally:
            self._kill_all()
            self.current = None

    def _give_way(self, job: Job) -> None:
        """Let others go on until it is this job's turn: straight to the next one, if it is not."""
        following = None if self.stopped else self._next()
        if following is None:
            self._hub.switch()
        elif following is not job:
            following.greenlet.switch()

    def _next(self) -> Job | None:
        """Whose turn it is; time passes until somebody is ready. None: there is nobody left."""
        ready, asleep, clock = self._ready, self._asleep, self.clock
        while True:
            if not ready:
                if not asleep:
                    return None
                at, _, job = heappop(asleep)
                if at > clock.now:
                    clock.now = at
                ready.append(job)
                while asleep and asleep[0][0] <= at:
                    ready.append(heappop(asleep)[2])
            place = int(self._random() * len(ready))
            job, ready[place] = ready[place], ready[-1]
            ready.pop()
            self.switches += 1
            self.current = job
            if job.greenlet is None:
                if job.dead:
                    continue
                job.greenlet = greenlet(job.function, self._hub)
            return job

    def _kill_all(self) -> None:
        left = [*self._ready, *(job for *_, job in self._asleep)]
        self._ready.clear()
        self._asleep.clear()
        self.stopped = True
        for job in left:
            if job.greenlet is not None and not job.greenlet.dead:
                self.current = job
                with suppress(Crash):
                    job.greenlet.throw(Crash("the simulation is over"))
        self._ready.clear()
        self._asleep.clear()
