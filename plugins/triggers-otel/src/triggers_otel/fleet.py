"""What is read from the stores when metrics are exported: how late the sweep is, who waits."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from triggers_core.application import Application
from triggers_core.failures import message_of
from triggers_core.storages.base import Store
from triggers_otel.options import NAME, Options
from triggers_otel.tallies import Bounded

logger: logging.Logger = logging.getLogger(__name__)

_MOST_COUNTED: Final = 1_000_000
"""Sessions of each group: a gauge is not to end where a page stops counting."""

T = TypeVar("T")


class Fleet:
    """The stores of the applications that were seen, as gauges on a meter."""

    def __init__(self, meter: Meter) -> None:
        self._apps: WeakSet[Application] = WeakSet()
        self._last: object = None
        self._known: WeakKeyDictionary[Store, tuple[float, Counter[str]]] = WeakKeyDictionary()
        self._triggers = Bounded()
        meter.create_observable_gauge(
            "triggers.sweep.lag",
            [self._lag],
            unit="s",
            description="How long the store's most overdue instance has waited for a sweep",
        )
        meter.create_observable_gauge(
            "triggers.sessions.waiting",
            [self._waiting],
            unit="{session}",
            description="Sessions that wait for a trigger, with nothing under way in them",
        )

    def saw(self, app: Application) -> None:
        """Told about every commit's application."""
        if app is not self._last:
            self._last = app
            self._apps.add(app)

    def _lag(self, options: CallbackOptions) -> Iterable[Observation]:
        found: dict[str, float] = {}
        for store, _ in self._stores():
            due = _asked(store, store.next_due, None)
            found[store.key] = max(found.get(store.key, 0.0), -(due or 0.0))
        return [Observation(lag, {"triggers.storage": key}) for key, lag in found.items()]

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        counts: Counter[str] = Counter()
        for store, chosen in self._stores():
            counts.update(self._waiting_in(store, chosen))
        shown: Counter[str] = Counter()
        for trigger, sessions in counts.most_common():
            shown[self._triggers((trigger,))[0]] += sessions
        return [
            Observation(sessions, {"messaging.destination.name": trigger})
            for trigger, sessions in shown.items()
        ]

    def _waiting_in(self, store: Store, options: Options) -> Counter[str]:
        if not options.waiting_groups:
            return Counter()
        until, known = self._known.get(store, (0.0, Counter()))
        now = time.monotonic()
        if now >= until:
            known = _asked(store, lambda: missing_triggers(store, options.waiting_groups), known)
            self._known[store] = now + options.waiting_every, known
        return known

    def _stores(self) -> list[tuple[Store, Options]]:
        found: dict[int, tuple[Store, Options]] = {}
        for app in list(self._apps):
            try:
                options = app.plugin_options(NAME, Options)
                places = app.places(unused=False).values() if options.metrics else ()
            except Exception as error:
                logger.warning("metrics: %s leaves its stores out: %s", app, message_of(error))
                continue
            for place in places:
                if not place.store.awaits:
                    found[id(place.store)] = place.store, options
        return list(found.values())


def missing_triggers(store: Store, groups: int) -> Counter[str]:
    """Trigger → how many sessions wait for it, by the storage's index.

    :param groups: how many groups of sessions are read at most, the largest first.
    """
    counts: Counter[str] = Counter()
    for group in store.waiting_groups(groups, most=_MOST_COUNTED):
        for trigger in group.missing:
            counts[trigger] += group.sessions
    return counts


def _asked(store: Store, ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except Exception as error:
        logger.warning("metrics: %s cannot be asked: %s", store.place, message_of(error))
        return otherwise
