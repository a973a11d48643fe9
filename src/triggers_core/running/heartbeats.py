"""Heartbeats: renew the leases of running attempts, from one thread for a whole process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from triggers_core.engine.attempts import Heartbeat
from triggers_core.engine.protocol import Rules
from triggers_core.exceptions import LeaseLost, NotFound, is_greenlet_exit
from triggers_core.host import OwnThread, between_jobs
from triggers_core.running.outages import Outages, is_outage
from triggers_core.storages.base import Store

logger: logging.Logger = logging.getLogger(__name__)

LONGEST_WAIT: Final = 86_400.0
"""Seconds; waits of threads are cut to it. Much more than that overflows in the system's clock."""

_LONG: Final = 600.0  # seconds after which a body is worth a word; then at doubling intervals
_STOP_WAIT: Final = 10.0  # seconds that the thread gets to end; it may hang in its storage


class Lease:
    """One running attempt's hold on its instance."""

    def __init__(
        self, store: Store, uid: str, instance: str, token: str, rules: Rules, lost: threading.Event
    ) -> None:
        self.store: Store = store
        self.uid: str = uid
        self.instance: str = instance
        self.token: str = token
        self.rules: Rules = rules
        self.lost: threading.Event = lost
        self.released = False
        self.began: float = time.monotonic()
        self._tell_after = _LONG

    def renew(self) -> None:
        """One heartbeat; a rejection sets `lost`.

        :raises Exception: whatever the storage raises; it is tried again later.
        """
        self._tell_of_long_ones()
        try:
            beat = Heartbeat(instance=self.instance, token=self.token)
            self.store.commit(self.uid, beat, self.rules)
        except (LeaseLost, NotFound):
            # The attempt ended, or another thread was told so, while this heartbeat was on its way.
            if self.released or self.lost.is_set():
                return
            self.lost.set()
            logger.warning("%s %s: lost its lease while running", self.uid, self.instance)

    def _tell_of_long_ones(self) -> None:
        """Say that a body is running for long: it may hang, and its lease shows only that we live.

        At doubling intervals.
        """
        seconds = time.monotonic() - self.began
        if seconds >= self._tell_after:
            while self._tell_after <= seconds:
                self._tell_after *= 2
            logger.warning(
                "%s %s: has been running for %d minutes. If it hangs, it does so for ever: a"
                " time_limit on its task (or in TRIGGER_TIMING) ends that",
                *(self.uid, self.instance, seconds // 60),
            )


class Heartbeats:
    """The leases of this process. The thread starts with the first one and ends when told to.

    A thread that died, or that could not be started, is started again with the next lease; `beat`
    renews them all meanwhile.
    """

    def __init__(self, interval: float, outages: Outages | None = None) -> None:
        """Renew nothing yet.

        :param interval: seconds between two heartbeats.
        :param outages: what is said while renewals fail goes there; a log of its own by default.
        """
        self.interval: float = min(interval, LONGEST_WAIT)
        self._outages = outages or Outages(logger)
        self._held: dict[Lease, None] = {}  # in the order of the claims
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Renew a lease for as long as the block runs."""
        try:
            with self._lock:
                self._held[lease] = None
            self.revive()
            yield
        finally:
            lease.released = True
            with self._lock:
                self._held.pop(lease, None)

    def revive(self) -> None:
        """See to it that the thread lives, if there is anything to renew. Never raises."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if not self._held or (self._thread is not None and self._thread.is_alive()):
                return
            self._stop = stop = threading.Event()
            thread = OwnThread(
                target=self._beat_forever, args=(stop,), name="triggers-heartbeat", daemon=True
            )
            try:
                thread.start()
            except Exception as error:  # no thread to be had, for now
                self._outages.failed("thread", "starting the thread of the heartbeats", error, True)
                return
            self._thread = thread
        self._outages.works("thread", "starting the thread of the heartbeats")

    def beat(self) -> None:
        """Renew every lease once. What fails is logged and tried again; nothing is raised."""
        with self._lock:
            held = [lease for lease in self._held if not lease.lost.is_set()]
        for lease in held:
            try:
                lease.renew()
            except BaseException as error:  # the other leases need their heartbeat, too
                if is_greenlet_exit(error):
                    raise
                self._outages.failed(*_failing(lease, whole=is_outage(error)), error)
            else:
                self._outages.works(*_failing(lease))
                self._outages.works(*_failing(lease, whole=False))

    def _beat_forever(self, stop: threading.Event) -> None:
        while not stop.wait(self.interval):
            between_jobs()
            self.beat()
            between_jobs()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_WAIT)


def _failing(lease: Lease, whole: bool = True) -> tuple[Hashable, str]:
    """What fails, or works, as an outage's key and words: a whole storage, or one attempt."""
    if whole:
        return lease.store.place, f"{lease.store.place}: renewing leases"
    return lease.token, f"{lease.uid} {lease.instance}: renewing its lease"
