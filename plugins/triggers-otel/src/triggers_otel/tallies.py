"""Counts by labels, and how many labels there may be.

A counter of the SDK takes some microseconds for each `add`, which a fire would notice. So what a
fire counts is counted here, and the SDK asks for it whenever it exports.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakSet

from opentelemetry.metrics import CallbackOptions, Observation

MOST_LABELS: Final = 1_000
"""Sets of labels that one metric has; OpenTelemetry's own default limit is 2,000."""

OTHER: Final = "(other)"
"""The value of each label of all further ones: names of triggers and tasks are the application's,
and it may make them up as it goes."""

Labels = tuple[str, ...]


class Bounded:
    """Lets so many sets of labels pass, the first ones."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._known: set[Labels] = set()
        self._most = most

    def __call__(self, labels: Labels) -> Labels:
        if labels in self._known:
            return labels
        if len(self._known) >= self._most:
            return (OTHER,) * len(labels)
        self._known.add(labels)
        return labels


class Tally:
    """A count for each set of labels. Threads may share it; a forked process begins at nothing.

    :param names: of the labels.
    """

    def __init__(self, names: Sequence[str], most: int = MOST_LABELS) -> None:
        self._names, self._most = tuple(names), most
        self._others = (OTHER,) * len(self._names)
        self.clear()
        _tallies.add(self)

    def clear(self) -> None:
        """Begin at nothing."""
        self._lock = threading.Lock()
        self._counts: dict[Labels, int] = {}

    def add(self, labels: Labels) -> None:
        """Count something."""
        with self._lock:
            try:
                self._counts[labels] += 1
            except KeyError:
                full = len(self._counts) >= self._most
                kept = self._others if full else labels
                self._counts[kept] = self._counts.get(kept, 0) + 1

    def observe(self, options: CallbackOptions) -> Iterable[Observation]:
        """What the SDK asks for."""
        with self._lock:
            counts = list(self._counts.items())
        return [
            Observation(amount, dict(zip(self._names, labels, strict=True)))
            for labels, amount in counts
        ]


_tallies: WeakSet[Tally] = WeakSet()


def _clear_in_child() -> None:
    for tally in _tallies:
        tally.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_in_child)
