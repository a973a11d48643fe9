"""The stores that a worker looks after: the application's own, and those of its tenants.

Where a `storage_load` hook gives sessions stores of their own, only the uids tell which there are.
A prefork worker's main process runs no bodies, but it sees the messages: it learns from them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from triggers_celery.interruptions import must_pass
from triggers_core.outages import Outages
from triggers_core.storages.base import Store

if TYPE_CHECKING:
    from triggers_core.application import Application

logger = logging.getLogger(__name__)

_MOST_STORES: Final = 10_000
_MOST_UIDS: Final = 10_000  # that are remembered as known, and that wait to be looked up
_LOOK_UPS: Final = 100  # uids to look up in one turn: each may open a file


class Look:
    """What is remembered about a store from one turn of the sweep to the next."""

    __slots__ = ("at", "failures", "leading", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
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
        self._looks: OrderedDict[int, Look] = OrderedDict()
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
        if self._asked_at is None or now - self._asked_at >= every:
            self._asked_at = now
            self._guarded("stores", "finding the stores to sweep", self._ask)
        for _ in range(min(len(self._new), _LOOK_UPS)):
            self._guarded("uid", "finding the store of a session to sweep", self._look_up)
        return sorted(self._looks.values(), key=_at)

    @property
    def more(self) -> bool:
        """Whether uids are still to be looked up."""
        return bool(self._new)

    def _ask(self) -> None:
        stores: Any = getattr(self._application, "stores", lambda: [self._application.store])
        for found in stores():
            self._add(found)

    def _look_up(self) -> None:
        uid = self._new.popleft()
        try:
            self._add(self._application.storage(uid))
        except BaseException:
            self._known.pop(uid, None)  # its next message gives another chance
            raise

    def _add(self, found: Any) -> None:
        store: Store = getattr(found, "store", found)
        look = self._looks.get(id(store))
        if look is None:
            self._looks[id(store)] = Look(store)  # kept alive here, so the id stays its own
            if len(self._looks) > _MOST_STORES:
                self._looks.popitem(last=False)
        else:
            self._looks.move_to_end(id(store))

    def _guarded(self, key: str, what: str, do: Callable[[], None]) -> None:
        what = f"{self._application!r}: {what}"
        try:
            do()
        except BaseException as error:  # the stores that are known are looked after all the same
            if must_pass(error):
                raise
            self._outages.failed(key, what, error)
        else:
            self._outages.works(key, what)

    def __iter__(self) -> Iterator[Look]:
        return iter(list(self._looks.values()))


def _at(look: Look) -> float:
    return look.at

