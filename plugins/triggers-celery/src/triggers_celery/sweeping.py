"""The periodic sweep in workers, from the timer of the main process's event loop.

Not in a thread: a prefork worker's main process forks, and threads and forks do not mix.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.concurrency.prefork import TaskPool
from celery.concurrency.solo import TaskPool as SoloPool

from triggers_celery.interruptions import must_propagate
from triggers_celery.sweeper import PACE, Sweeper

if TYPE_CHECKING:
    from triggers_celery.integration import Integration

_POOL_CHECK_INTERVAL: Final = 0.5  # seconds between two looks at a prefork pool's processes
_LEASE_RENEWAL: Final = 1.0  # seconds that our own children get to renew their leases
_PAUSE_AFTER_ERROR: Final = 60.0  # seconds, where not even the interval between turns can be told


class BlockedTime:
    """How long tasks have blocked this worker's event loop, as they do in a solo pool."""

    def __init__(self, pool: Any) -> None:
        self.seconds = 0.0
        if isinstance(pool, SoloPool):
            self._apply, pool.on_apply = pool.on_apply, self._timed

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        # A clock that stops while the machine is suspended, unlike the one in `SweepTimer`.
        began = time.monotonic()
        try:
            return self._apply(*args, **kwargs)
        finally:
            self.seconds += time.monotonic() - began


class SweepTimer:
    """Calls a sweeper from a Celery worker's timer, until stopped.

    :param hub: the event loop of the worker's main process; None where that has none.
    """

    def __init__(
        self,
        integration: Integration,
        sweeper: Sweeper,
        timer: Any,
        blocked: BlockedTime,
        hub: Any = None,
    ) -> None:
        self._integration, self._sweeper, self._timer = integration, sweeper, timer
        self._blocked, self._hub = blocked, hub
        self._stopped = self._woken = False
        self._wait(PACE.pause)
        sweeper.hear(self._wake)

    def _wake(self) -> None:
        """Another process has told of something that is due. Called from a thread."""
        if self._woken or self._stopped:
            return
        self._woken = True
        if self._hub is None:
            self._timer.call_after(0, self._look_now)  # by a thread of its own
        else:
            self._hub.call_soon(self._look_now)  # before kombu 5.7 it does not wake the loop for it

    def _look_now(self) -> None:
        self._woken = False
        if not self._stopped:
            self._entry.cancel()
            self._look()

    def _wait(self, seconds: float) -> None:
        self._expected, self._blocked_before = time.time() + seconds, self._blocked.seconds
        self._entry = self._timer.call_after(seconds, self._look)

    def _look(self) -> None:
        pause = _PAUSE_AFTER_ERROR
        try:
            timing = self._sweeper.timing
            pause = timing.sweep
            blocked = self._blocked.seconds - self._blocked_before
            late = time.time() - self._expected - blocked
            if late > timing.heartbeat:
                # This worker was suspended, its children too: they renew their leases first.
                pause = _LEASE_RENEWAL
            elif not self._integration.publisher.paused:
                pause = self._sweeper.sweep()
        except BaseException as error:
            if must_propagate(error):
                raise
            self._sweeper.failed(error)
        finally:
            self._wait(pause)
            self._integration.catch_up()

    def stop(self) -> None:
        self._stopped = True
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
        self._timers: list[SweepTimer] = []
        self._pool_check: Any = None
        self._blocked: BlockedTime | None = None

    def start(self, consumer: Any) -> None:
        integration: Integration = consumer.app.triggers
        self._blocked = self._blocked or BlockedTime(consumer.pool)
        for application in integration.sweeps():
            sweeper = integration.sweeper(application)
            self._timers.append(
                SweepTimer(integration, sweeper, consumer.timer, self._blocked, consumer.hub)
            )
        if isinstance(consumer.pool, TaskPool) and consumer.hub is not None:
            # Celery looks every 5 s for children that were killed, and only then starts others.
            self._pool_check = consumer.timer.call_repeatedly(
                _POOL_CHECK_INTERVAL, consumer.pool.maintain_pool
            )

    def stop(self, consumer: Any) -> None:
        if self._pool_check is not None:
            self._pool_check.cancel()
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.stop()
        consumer.app.triggers.catch_up()
