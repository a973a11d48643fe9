"""The background sweep's way around the stores of an application: one, or thousands of tenants."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from triggers_core.engine.names import new_id
from triggers_core.exceptions import is_greenlet_exit
from triggers_core.running.heartbeats import LONGEST_WAIT
from triggers_core.running.outages import Outages
from triggers_core.running.sweep import LEASE, next_look, sweep
from triggers_core.storages.base import Store

if TYPE_CHECKING:
    from triggers_core.application import Application, Place

logger: logging.Logger = logging.getLogger(__name__)

SHORTEST_NAP: Final = 0.02  # seconds between two turns, however soon the next instance is due
_STORES_A_TURN: Final = 100  # looked at in one turn; the others have to wait for theirs
_BATCH: Final = 1_000  # instances of a store in one turn: the other stores have their turn, too


class Rounds:
    """Looks after all stores of an application, in turns of bounded size, fairly.

    A store that fails does not keep the others from being looked after.
    """

    def __init__(self, app: Application, outages: Outages) -> None:
        self._app, self._outages = app, outages
        self._owner = new_id()
        self.unused = False
        """Whether the application's own store is looked after before anybody uses it."""
        self._times: dict[object, float] = {}
        """Store's key → when to look at it again, by the monotonic clock."""
        self._leading: dict[object, Store] = {}
        self._everywhere = threading.Event()

    def look_everywhere(self) -> None:
        """The next turn looks at every store: something has changed in one of them."""
        self._everywhere.set()

    def turn(self) -> float:
        """One turn; returns after how many seconds the next should follow."""
        places = self._app.places(self.unused)
        if self._everywhere.is_set():
            self._everywhere.clear()
            self._times.clear()
        now = time.monotonic()
        waiting = sorted(places, key=lambda key: self._times.get(key, 0.0))
        for key in waiting[:_STORES_A_TURN]:
            if self._times.get(key, 0.0) > now:
                break
            self._times[key] = time.monotonic() + self._guarded(key, places[key], len(places))
        self._times = {key: at for key, at in self._times.items() if key in places}
        soonest = min((self._times.get(key, 0.0) for key in places), default=now + LONGEST_WAIT)
        pause = min(soonest - time.monotonic(), self._longest(1))
        return max(SHORTEST_NAP, pause)

    def _longest(self, stores: int) -> float:
        """Seconds until a store is looked at again, at the latest: many tenants take turns."""
        every = self._app.rules.timing.sweep * max(1.0, stores / _STORES_A_TURN)
        return min(every, LONGEST_WAIT)

    def _guarded(self, key: object, place: Place, stores: int) -> float:
        longest, store = self._longest(stores), place.store
        try:
            wait = self._look(key, place, longest)
        except BaseException as error:
            if is_greenlet_exit(error):
                raise
            self._outages.failed(store.place, f"{store.place}: the sweep", error)
            return longest
        self._outages.works(store.place, f"{store.place}: the sweep")
        return wait

    def _look(self, key: object, place: Place, longest: float) -> float:
        store, timing = place.store, self._app.rules.timing
        soonest = next_look(store)
        if soonest is not None and soonest <= 0:
            if not store.acquire_lease(LEASE, self._owner, min(3 * timing.sweep, 3 * LONGEST_WAIT)):
                return longest
            self._leading[key] = store
            if sweep(store, place.manager, _BATCH, timing).more:
                return 0.0  # a backlog is worked off without pauses
            soonest = next_look(store)
            if soonest is not None and soonest <= 0:
                # Overdue and still here: it was just tried, and could not be changed.
                return longest
        return longest if soonest is None else min(soonest, longest)

    def release(self) -> None:
        """Let another process sweep at once."""
        leading, self._leading = self._leading, {}
        for store in leading.values():
            try:
                store.release_lease(LEASE, self._owner)
            except Exception:
                logger.debug("the sweep's lease could not be given back", exc_info=True)
