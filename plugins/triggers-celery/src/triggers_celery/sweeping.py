"""The sweep in workers: in the event loop of the main process, and as a task for Celery beat.

Not in a thread: a prefork worker's main process forks, and threads and forks do not mix.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.concurrency.prefork import TaskPool

from triggers_core.commands import new_id
from triggers_core.sweep import LEASE

if TYPE_CHECKING:
    from triggers_celery.integration import Integration
    from triggers_core.application import Application

logger = logging.getLogger(__name__)

_BATCH: Final = 500  # instances at a time: the event loop has other things to do
_BREATH: Final = 0.05  # seconds between two batches, and between two looks
_UPKEEP: Final = 0.5  # seconds between two looks at a prefork pool's processes
_GRACE: Final = 1.0  # seconds that our own children get to renew their leases


class Sweeper:
    """Looks after one application's store, as long as no other process does."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._owner = new_id()
        self._leading = False

    def sweep(self) -> float:
        """Look after what is overdue; returns after how many seconds to look again."""
        store, longest = self._application.store, self._application.rules.timing.sweep
        soonest = store.next_due()
        if soonest is None or soonest > 0:
            return _between(soonest, longest)
        if not store.acquire_lease(LEASE, self._owner, 3 * longest):
            self._leading = False
            return longest
        self._leading = True
        recovered = self._application.recover(_BATCH)
        if sum(len(each.dispatch) + len(each.failed) for each in recovered) >= _BATCH:
            return _BREATH
        soonest = store.next_due()
        # Overdue and still there: a session that cannot be changed. Not again at once.
        return longest if soonest is not None and soonest <= 0 else _between(soonest, longest)

    def stop(self) -> None:
        """Let another process take over at once."""
        if self._leading:
            self._leading = False
            self._application.store.release_lease(LEASE, self._owner)


def _between(soonest: float | None, longest: float) -> float:
    return longest if soonest is None else max(_BREATH, min(soonest, longest))


class Timer:
    """Calls a sweeper from a Celery worker's timer, until stopped."""

    def __init__(self, integration: Integration, application: Application, timer: Any) -> None:
        self._integration, self._application, self._timer = integration, application, timer
        self._sweeper = Sweeper(application)
        self._expected = 0.0
        self._wait(_BREATH)

    def _wait(self, seconds: float) -> None:
        self._expected = time.time() + seconds
        self._entry = self._timer.call_after(seconds, self._look)

    def _look(self) -> None:
        pause = longest = self._application.rules.timing.sweep
        try:
            if time.time() - self._expected > self._application.rules.timing.heartbeat:
                # This worker was suspended, its children too: they renew their leases first.
                pause = _GRACE
            elif not self._integration.publisher.paused:
                pause = self._sweeper.sweep()
        except Exception:
            pause = longest
            logger.exception("the sweep of %r failed; it will be tried again", self._application)
        self._wait(pause)

    def stop(self) -> None:
        self._entry.cancel()
        try:
            self._sweeper.stop()
        except Exception:
            logger.debug("the sweep's lease could not be given back", exc_info=True)


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

    def start(self, consumer: Any) -> None:
        integration: Integration = consumer.app.triggers
        for application in integration.sweeps():
            self._timers.append(Timer(integration, application, consumer.timer))
        if isinstance(consumer.pool, TaskPool) and consumer.hub is not None:
            # Celery looks every 5 s for children that were killed, and only then starts others.
            self._upkeep = consumer.timer.call_repeatedly(_UPKEEP, consumer.pool.maintain_pool)

    def stop(self, consumer: Any) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.stop()
