"""The stores that the sweeps of an application look after: its own, managers' and plugins' ones."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from triggers_core.engine.recovery import Recovered
from triggers_core.exceptions import InvalidInput
from triggers_core.running.outages import describe
from triggers_core.running.sweep import sweep
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

_MAX_STORES: Final = 10_000  # of managers, that are remembered
_ASK_AGAIN: Final = 30.0  # seconds until `stores_to_sweep` is asked again


class Place:
    """A store that sweeps look after, and what makes the manager of a session in it."""

    __slots__ = ("_app", "_seen", "_storage", "store")

    def __init__(
        self, app: Application, storage: SessionStorage, seen: TriggerManager | None
    ) -> None:
        self._app, self._storage, self._seen = app, storage, seen
        self.store: Store = storage.store

    def manager(self, uid: str) -> TriggerManager:
        """The manager of one of its sessions; of the kind that has been seen on this store."""
        if self._seen is not None:
            return self._seen.sibling(uid)
        self._app.import_tasks()
        return self._app.manager_on(type(self._storage).on(self.store, uid))


class Places:
    """Every store of an application, once each. Managers tell of theirs as they are made."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._seen: OrderedDict[int, TriggerManager] = OrderedDict()
        self._named: tuple[float, list[SessionStorage | Store]] | None = None
        self._turn = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        """In the child of a fork: whoever held the lock is not there."""
        # Entered again by a signal handler that makes a manager while this thread is in it.
        self._lock = threading.RLock()

    def saw(self, manager: TriggerManager) -> None:
        """Told about every manager: its store is looked after from now on."""
        store = manager.storage.store
        if id(store) in self._seen:
            return
        with self._lock:
            self._seen[id(store)] = manager
            while len(self._seen) > _MAX_STORES:
                self._seen.popitem(last=False)

    def take_seen(self) -> dict[int, Store]:
        """The stores of managers, by their identity; from now on they are not known any more."""
        with self._lock:
            seen = list(self._seen.values())
            self._seen.clear()
        return {id(each): each for each in (manager.storage.store for manager in seen)}

    def forget(self) -> None:
        """The settings have changed: all that was learnt from them is asked for again."""
        self._named = None

    def all(self, unused: bool = True) -> dict[object, Place]:
        """What is the same for two stores of the same sessions → one of them.

        :param unused: its own store too, if nobody has used it yet: that makes its file.
        """
        app = self._app
        found: dict[object, Place] = {}
        with self._lock:
            seen = list(self._seen.values())
        for manager in seen:
            found.setdefault(_key_of(manager.storage.store), Place(app, manager.storage, manager))
        if unused or app.has_store:
            own = app.storage_class.on(app.store, "~")
            found.setdefault(_key_of(own.store), Place(app, own, None))
        for named in self._stores_of_plugins():
            storage = named if isinstance(named, SessionStorage) else SessionStorage.on(named, "~")
            found.setdefault(_key_of(storage.store), Place(app, storage, None))
        return found

    def _stores_of_plugins(self) -> list[SessionStorage | Store]:
        known, now = self._named, time.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        settings, stores = self._app.settings, []
        for plugin, each in self._app.plugins.stores_to_sweep(
            settings.TRIGGER_STORAGE_TYPE, settings.TRIGGER_STORAGE_OPTIONS
        ):
            if isinstance(each, SessionStorage | Store):
                stores.append(each)
            else:
                logger.error(
                    "plugin %r: stores_to_sweep named a %s, which is left out: it has to name"
                    " stores, or sessions of them",
                    *(plugin, type(each).__name__),
                )
        self._named = (now + _ASK_AGAIN, stores)
        return stores

    def recover(self, limit: int) -> list[Recovered]:
        """Sweep all of them; see `Application.recover`."""
        recovered: list[Recovered] = []
        timing, left = self._app.rules.timing, limit

        def look_after(place: Place) -> None:
            nonlocal left
            if left > 0:
                swept = sweep(place.store, place.manager, left, timing)
                left -= swept.instances
                recovered.extend(swept.recovered)

        self._in_each("sweep", look_after)
        return recovered

    def prune(self, older_than: float, resolved_only: bool) -> int:
        """Erase old sessions in all of them; see `Application.prune`."""
        erased = 0

        def prune_one(place: Place) -> None:
            nonlocal erased
            erased += place.store.prune(older_than, resolved_only)

        self._in_each("prune", prune_one)
        return erased

    def _in_each(self, what: str, work: Callable[[Place], None]) -> None:
        places = list(self.all().values())
        self._turn = (self._turn + 1) % len(places)  # every store is the first one in turn
        for place in (*places[self._turn :], *places[: self._turn]):
            try:
                work(place)
            except InvalidInput:
                raise
            except Exception as error:
                if len(places) == 1:
                    raise
                logger.error("%s: the %s failed: %s", place.store.place, what, describe(error))


def _key_of(store: Store) -> object:
    if store.in_this_process or type(store).place is Store.place:
        return id(store)
    return (type(store), store.place)
