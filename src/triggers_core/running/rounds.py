"""The background sweep: which store is swept when, round robin over one store or many tenants'."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from triggers_core.engine.names import new_id
from triggers_core.exceptions import is_greenlet_exit
from triggers_core.host import between_jobs
from triggers_core.running.heartbeats import LONGEST_WAIT
from triggers_core.running.outages import Outages
from triggers_core.running.sweep import LEASE, next_look, sweep

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.running.places import Place

logger: logging.Logger = logging.getLogger(__name__)

_STORES_A_TURN: Final = 100  # looked at in one turn; the others have to wait for theirs
_STORES_HEARD: Final = 20  # of which other processes are heard: each may take a connection


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much of its thread the sweep takes up; the defaults suit a thread of its own."""

    batch: int = 1_000
    """Instances of a store in one turn: the other stores have their turn, too."""
    pause: float = 0.02
    """Seconds between two turns, however soon the next instance is due."""
    turn: float = inf
    """Seconds after which a turn leaves further stores to the next one."""
    failing: float = 0.0
    """Seconds until a store that fails is looked at again: the interval, doubling up to this."""


class _Schedule:
    """What is remembered about a store from one turn to the next."""

    __slots__ = ("_told", "at", "heard", "leading", "pause", "place")

    def __init__(self, place: Place, told: Callable[[], None]) -> None:
        self.place = place
        self._told = told
        self.at = 0.0
        """When to look at it again, by the monotonic clock."""
        self.leading = False
        """Whether this process has the store's lease for sweeping."""
        self.pause = 0.0
        """Seconds to wait after the next failure in a row; 0: none has been."""
        self.heard = False
        """Whether another process has told of something that is due, since the last turn began."""

    def hear(self) -> None:
        """Another process has stored something that falls due soon: look now. In any thread."""
        self.heard = True
        self._told()

    def watch(self) -> None:
        """Hear from other processes, where the storage can."""
        store = self.place.store
        try:
            store.watch_due(self.hear)
        except Exception:
            logger.debug("%s: other processes will not be heard", store.place, exc_info=True)

    def unwatch(self) -> None:
        """Hear nothing more."""
        try:
            self.place.store.unwatch_due(self.hear)
        except Exception:
            logger.debug("%s: cannot stop listening", self.place.store.place, exc_info=True)


class Rounds:
    """Looks after all stores of an application, in turns of bounded size, fairly.

    A store that fails does not keep the others from being looked after.

    :param propagates: whether an error ends the thread that sweeps, and must not be kept.
    :param clock: returns monotonic seconds; for tests.
    """

    def __init__(
        self,
        app: Application,
        outages: Outages,
        pace: Pace | None = None,
        propagates: Callable[[BaseException], bool] = is_greenlet_exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._outages, self._clock = app, outages, clock
        self.pace: Pace = pace or Pace()
        self._propagates = propagates
        self._owner = new_id()
        self.unused = False
        """Whether the application's own store is looked after before anybody uses it."""
        self.wake: Callable[[], None] | None = None
        """Has the next turn begin now, from any thread; None: other processes are not heard."""
        self._schedules: dict[object, _Schedule] = {}
        self._everywhere = threading.Event()
        self._watched: set[_Schedule] = set()

    def look_everywhere(self) -> None:
        """The next turn looks at every store: something has changed in one of them."""
        self._everywhere.set()

    def turn(self, unbounded: bool = False) -> float:
        """One turn; returns after how many seconds the next should follow.

        :param unbounded: look at all stores whose time has come, however long that takes.
        """
        between_jobs()
        try:
            return self._turn(unbounded)
        finally:
            between_jobs()

    def _turn(self, unbounded: bool) -> float:
        schedules = self._schedules = self._known()
        if self._everywhere.is_set():
            self._everywhere.clear()
            for each in schedules.values():
                each.at = 0.0
        for each in schedules.values():
            if each.heard:
                each.heard, each.at = False, 0.0
        began = self._clock()
        waiting = sorted(schedules.values(), key=_at)
        for schedule in waiting if unbounded else waiting[:_STORES_A_TURN]:
            if schedule.at > began:
                break
            schedule.at = self._clock() + self._look_after(schedule)
            if self._clock() - began > self.pace.turn and not unbounded:
                break
        now = self._clock()
        soonest = min((each.at for each in waiting), default=now + LONGEST_WAIT)
        return max(self.pace.pause, min(soonest - now, self._longest(1)))

    def _known(self) -> dict[object, _Schedule]:
        what = f"{self._app!r}: finding the stores to sweep"
        try:
            places = self._app.places(self.unused)
        except BaseException as error:
            if not self.unused or self._propagates(error):
                raise
            # Its own store cannot be opened; the others are looked after all the same.
            self._outages.failed("stores", what, error)
            places = self._app.places(unused=False)
        else:
            self._outages.works("stores", what)
        schedules = {}
        for key, place in places.items():
            schedule = schedules[key] = self._schedules.get(key) or _Schedule(place, self._told)
            if schedule.place.store is not place.store:
                self._unwatch(schedule)
            schedule.place = place  # of the kind of manager that was seen last
        for key in self._schedules.keys() - schedules.keys():
            self._unwatch(self._schedules[key])
        return schedules

    def _longest(self, stores: int) -> float:
        """Seconds until a store is looked at again, at the latest: many tenants take turns."""
        every = self._app.rules.timing.sweep * max(1.0, stores / _STORES_A_TURN)
        return min(every, LONGEST_WAIT)

    def _look_after(self, schedule: _Schedule) -> float:
        """Sweep a store whatever happens; returns after how many seconds to look at it again."""
        place = schedule.place.store.place
        self._watch(schedule)
        longest = self._longest(len(self._schedules))
        try:
            wait = self._sweep(schedule, longest)
        except BaseException as error:
            if self._propagates(error):
                raise
            schedule.leading = False
            wait = min(schedule.pause or longest, max(longest, self.pace.failing))
            schedule.pause = 2 * wait
            self._outages.failed(place, f"{place}: the sweep", error)
            return wait
        schedule.pause = 0.0
        self._outages.works(place, f"{place}: the sweep")
        return wait

    def _told(self) -> None:
        wake = self.wake
        if wake is not None:
            wake()

    def _watch(self, schedule: _Schedule) -> None:
        if self.wake is None:
            return
        if schedule not in self._watched and len(self._watched) >= _STORES_HEARD:
            return
        self._watched.add(schedule)
        schedule.watch()

    def _unwatch(self, schedule: _Schedule) -> None:
        if schedule in self._watched:
            self._watched.discard(schedule)
            schedule.unwatch()

    def _sweep(self, schedule: _Schedule, longest: float) -> float:
        store, timing = schedule.place.store, self._app.rules.timing
        soonest = next_look(store)
        if soonest is not None and soonest <= 0:
            lease = min(3 * timing.sweep, 3 * LONGEST_WAIT)
            schedule.leading = store.acquire_lease(LEASE, self._owner, lease)
            if not schedule.leading:
                return longest
            if sweep(store, schedule.place.manager, self.pace.batch, timing).more:
                return 0.0  # a backlog is worked off without pauses
            soonest = next_look(store)
            if soonest is not None and soonest <= 0:
                # Overdue and still here: it was just tried, and could not be changed.
                return longest
        return longest if soonest is None else min(soonest, longest)

    def release(self) -> None:
        """Let another process sweep at once, and hear nothing more of others."""
        for schedule in list(self._schedules.values()):
            self._unwatch(schedule)
            if not schedule.leading:
                continue
            schedule.leading = False
            try:
                schedule.place.store.release_lease(LEASE, self._owner)
            except Exception:
                logger.debug("the sweep's lease could not be given back", exc_info=True)


def _at(schedule: _Schedule) -> float:
    return schedule.at
