"""The stores that a worker looks after: the application's own, and those of its tenants.

Where a `storage_load` hook gives sessions stores of their own, only the uids tell which there are.
A prefork worker's main process runs no bodies, but it sees the messages: it learns from them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from triggers_celery.interruptions import must_pass
from triggers_core.running.outages import Outages

if TYPE_CHECKING:
    from triggers_core.application import Application, Place

logger = logging.getLogger(__name__)

_MOST_STORES: Final = 10_000
_MOST_UIDS: Final = 10_000  # that are remembered as known, and that wait to be looked up
_LOOK_UPS: Final = 100  # uids to look up in one turn: each may open a file


class Look:
    """What is remembered about a store from one turn of the sweep to the next."""

    __slots__ = ("at", "failures", "leading", "manager", "store")

    def __init__(self, place: Place) -> None:
        self.store = place.store
        self.manager = place.manager
        """Makes the manager of one of its sessions."""
        self.at = 0.0
        """When to look again, by the steady clock."""
        self.leading = False
        """Whether this process has the store's lease for sweeping."""
        self.failures = 0


class Tenants:
    """The stores of one application, as far as this process knows them; bounded."""

    def __init__(
        self, application: Application, outages: Outages, steady: Callable[[], float]
    ) -> None:
        self._application, self._outages, self._steady = application, outages, steady
        self._looks: OrderedDict[object, Look] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._new: deque[str] = deque(maxlen=_MOST_UIDS)
        self._asked_at: float | None = None

    def learn(self, uid: str) -> None:
        """Note a session's uid; its store is looked up by the next turn of the sweep."""
        if uid in self._known:
            return self._known.move_to_end(uid)
        self._known[uid] = None
        if len(self._known) > _MOST_UIDS:
            self._known.popitem(last=False)
        self._new.append(uid)

    def looks(self) -> list[Look]:
        """All stores that are known by now, those first that were not looked at for longest."""
        now, every = self._steady(), self._application.rules.timing.sweep
        look_ups = min(len(self._new), _LOOK_UPS)
        for _ in range(look_ups):
            self._guarded("uid", "finding the store of a session to sweep", self._look_up)
        if look_ups or self._asked_at is None or now - self._asked_at >= every:
            self._asked_at = now
            if not self._guarded("stores", "finding the stores to sweep", self._ask):
                self._guarded("others", "finding the other stores", partial(self._ask, False))
        return sorted(self._looks.values(), key=_at)

    @property
    def more(self) -> bool:
        """Whether uids are still to be looked up."""
        return bool(self._new)

    def _ask(self, own: bool = True) -> None:
        for key, place in self._application.places(unused=own).items():
            if key not in self._looks:
                self._looks[key] = Look(place)
            self._looks.move_to_end(key)
        while len(self._looks) > _MOST_STORES:
            self._looks.popitem(last=False)

    def _look_up(self) -> None:
        uid = self._new.popleft()
        try:
            self._application.manager(uid)  # the application remembers its store
        except BaseException:
            self._known.pop(uid, None)  # its next message gives another chance
            raise

    def _guarded(self, key: str, what: str, do: Callable[[], None]) -> bool:
        what = f"{self._application!r}: {what}"
        try:
            do()
        except BaseException as error:  # the stores that are known are looked after all the same
            if must_pass(error):
                raise
            self._outages.failed(key, what, error)
            return False
        self._outages.works(key, what)
        return True

    def __iter__(self) -> Iterator[Look]:
        return iter(list(self._looks.values()))


def _at(look: Look) -> float:
    return look.at
