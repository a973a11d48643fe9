"""Keeping the leases of running attempts alive, from one thread for a whole process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from triggers_core.attempts import Heartbeat
from triggers_core.exceptions import LeaseLost, NotFound, TriggersError
from triggers_core.protocol import Rules
from triggers_core.storages.base import Store

logger = logging.getLogger(__name__)


class Lease:
    """One running attempt's hold on its instance."""

    def __init__(
        self, store: Store, uid: str, instance: str, token: str, rules: Rules, lost: threading.Event
    ) -> None:
        self.store, self.uid, self.instance, self.token = store, uid, instance, token
        self.rules, self.lost = rules, lost
        self.released = False

    def renew(self) -> None:
        """One heartbeat; a rejection sets `lost`, a storage that fails is tried again later."""
        try:
            beat = Heartbeat(instance=self.instance, token=self.token)
            self.store.commit(self.uid, beat, self.rules)
        except (LeaseLost, NotFound):
            if self.released:  # the attempt ended while this heartbeat was on its way
                return
            self.lost.set()
            logger.warning("%s %s: lost its lease while running", self.uid, self.instance)
        except TriggersError:
            logger.exception("%s %s: heartbeat failed", self.uid, self.instance)


class Heartbeats:
    """The leases of this process. The thread starts with the first one and ends when told to."""

    def __init__(self, interval: float) -> None:
        """:param interval: seconds between two heartbeats."""
        self.interval = interval
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Renew a lease for as long as the block runs."""
        with self._lock:
            self._held.add(lease)
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(
                    target=self._beat_forever, name="triggers-heartbeat", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                lease.released = True
                self._held.discard(lease)

    def beat(self) -> None:
        """Renew every lease once."""
        with self._lock:
            held = [lease for lease in self._held if not lease.lost.is_set()]
        for lease in held:
            lease.renew()

    def _beat_forever(self) -> None:
        while not self._stop.wait(self.interval):
            self.beat()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
