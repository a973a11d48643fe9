"""The sweep in workers: in the event loop of the main process, and as a task for Celery beat.

Not in a thread: a prefork worker's main process forks, and threads and forks do not mix.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.concurrency.prefork import TaskPool
from celery.concurrency.solo import TaskPool as SoloPool

from triggers_celery.interruptions import must_pass
from triggers_celery.tenants import Look, Tenants
from triggers_core.engine.names import new_id
from triggers_core.running.outages import Outages
from triggers_core.running.sweep import LEASE, next_look, sweep

if TYPE_CHECKING:
    from triggers_celery.integration import Integration
    from triggers_core.application import Application
    from triggers_core.limits import Timing

logger = logging.getLogger(__name__)

_BATCH: Final = 500  # instances at a time: the event loop has other things to do
_SPELL: Final = 0.2  # seconds after which a turn leaves further stores to the next one
_BREATH: Final = 0.05  # seconds between two batches, and between two looks
_UPKEEP: Final = 0.5  # seconds between two looks at a prefork pool's processes
_GRACE: Final = 1.0  # seconds that our own children get to renew their leases
_LONGEST_PAUSE: Final = 60.0  # seconds until a store that fails is looked at again


class Sweeper:
    """Looks after one application's stores, each as long as no other process does.

    A store that fails, or a session in it, harms nothing but itself; what fails again and again is
    looked at less and less often, and told about as seldom.
    """

    def __init__(
        self, application: Application, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._application, self._steady = application, steady
        self._owner = new_id()
        self._outages = Outages(logger)
        self._tenants = Tenants(application, self._outages, steady)
        self.learn = self._tenants.learn

    def sweep(self, everything: bool = False) -> float:
        """Look after the stores whose turn has come.

        :param everything: look at the others, too.
        :returns: seconds until the next turn.
        """
        began, longest = self._steady(), self._application.rules.timing.sweep
        for look in self._tenants.looks():
            if look.at > self._steady() and not everything:
                break
            look.at = self._steady() + self._look_after(look)
            if self._steady() - began > _SPELL and not everything:
                break
        if self._tenants.more:
            return _BREATH
        soonest = min((look.at for look in self._tenants), default=began + longest)
        return _between(soonest - self._steady(), longest)

    def _look_after(self, look: Look) -> float:
        """Sweep one store; returns after how many seconds to look at it again."""
        longest = self._application.rules.timing.sweep
        try:
            pause = self._sweep(look, longest)
        except BaseException as error:
            if must_pass(error):
                raise
            look.leading = False
            pause = min(longest * float(2**look.failures), max(longest, _LONGEST_PAUSE))
            look.failures = min(look.failures + 1, 16)
            self._outages.failed(id(look.store), self._what(look), error)
            return pause
        if look.failures:
            look.failures = 0
            self._outages.works(id(look.store), self._what(look))
        return pause

    def _what(self, look: Look) -> str:
        return f"{self._application!r}: the sweep of {look.store.place}"

    def _sweep(self, look: Look, longest: float) -> float:
        store, timing = look.store, self._application.rules.timing
        soonest = next_look(store)
        if soonest is None or soonest > 0:
            return _between(soonest, longest)
        look.leading = store.acquire_lease(LEASE, self._owner, 3 * longest)
        if not look.leading:
            return longest
        if sweep(store, look.manager, _BATCH, timing).more:
            return _BREATH
        soonest = next_look(store)
        # Overdue and still there: a session that cannot be changed. Not again at once.
        return longest if soonest is not None and soonest <= 0 else _between(soonest, longest)

    @property
    def timing(self) -> Timing:
        """That of the application."""
        return self._application.rules.timing

    def failed(self, error: BaseException) -> None:
        """Report what kept a whole turn from being made."""
        self._outages.failed("turn", f"{self._application!r}: the sweep", error)

    def stop(self) -> None:
        """Let another process take over at once."""
        for look in self._tenants:
            if look.leading:
                look.leading = False
                try:
                    look.store.release_lease(LEASE, self._owner)
                except Exception:
                    logger.debug("the sweep's lease could not be given back", exc_info=True)


def _between(soonest: float | None, longest: float) -> float:
    return longest if soonest is None else max(_BREATH, min(soonest, longest))


class Work:
    """How long this worker's event loop has stood still for tasks, as it does in a solo pool."""

    def __init__(self, pool: Any) -> None:
        self.seconds = 0.0
        if isinstance(pool, SoloPool):
            self._apply, pool.on_apply = pool.on_apply, self._timed

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        # The clock that stands still with the machine, unlike the one that tells of suspensions.
        began = time.monotonic()
        try:
            return self._apply(*args, **kwargs)
        finally:
            self.seconds += time.monotonic() - began


class Timer:
    """Calls a sweeper from a Celery worker's timer, until stopped."""

    def __init__(self, integration: Integration, sweeper: Sweeper, timer: Any, work: Work) -> None:
        self._integration, self._sweeper, self._timer = integration, sweeper, timer
        self._work = work
        self._wait(_BREATH)

    def _wait(self, seconds: float) -> None:
        self._expected, self._worked = time.time() + seconds, self._work.seconds
        self._entry = self._timer.call_after(seconds, self._look)

    def _look(self) -> None:
        pause = _LONGEST_PAUSE
        try:
            timing = self._sweeper.timing
            pause = timing.sweep
            late = time.time() - self._expected - (self._work.seconds - self._worked)
            if late > timing.heartbeat:
                # This worker was suspended, its children too: they renew their leases first.
                pause = _GRACE
            elif not self._integration.publisher.paused:
                pause = self._sweeper.sweep()
        except BaseException as error:
            if must_pass(error):
                raise
            self._sweeper.failed(error)
        finally:
            self._wait(pause)
            self._integration.catch_up()

    def stop(self) -> None:
        self._entry.cancel()
        self._sweeper.stop()


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Part of each worker's consumer: sweeps while the worker is connected to its broker.

    Without a broker a sweep could dispatch nothing, and would wait longer each time.
    """

    name = "triggers sweep"
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timers: list[Timer] = []
        self._upkeep: Any = None
        self._work: Work | None = None

    def start(self, consumer: Any) -> None:
        integration: Integration = consumer.app.triggers
        self._work = self._work or Work(consumer.pool)
        for application in integration.sweeps():
            sweeper = integration.sweeper(application)
            self._timers.append(Timer(integration, sweeper, consumer.timer, self._work))
        if isinstance(consumer.pool, TaskPool) and consumer.hub is not None:
            # Celery looks every 5 s for children that were killed, and only then starts others.
            self._upkeep = consumer.timer.call_repeatedly(_UPKEEP, consumer.pool.maintain_pool)

    def stop(self, consumer: Any) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.stop()
        consumer.app.triggers.catch_up()
