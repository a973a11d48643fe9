"""An ordered set of what falls due, for storages in memory: a list of short sorted lists.

One long list would be moved as a whole at every insertion. Nothing but lists and tuples, so that
`marshal` can pack it; and whatever is done to it may be done twice, and be interrupted between any
two steps: no list in it is ever empty, and each step leaves it in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

Entry = tuple[str, str, int]
"""Moment key, task name and number of an instance."""

DueOrder = list[list[Entry]]

_LONGEST: Final = 1_000  # entries; two lists from there on


def add(order: DueOrder, entry: Entry) -> None:
    """Add an entry, if it is not there yet."""
    if not order:
        order.append([entry])
        return
    at = min(bisect_left(order, entry, key=_last), len(order) - 1)
    some = order[at]
    position = bisect_left(some, entry)
    if position < len(some) and some[position] == entry:
        return
    some.insert(position, entry)
    if len(some) > _LONGEST:
        half = len(some) // 2
        order[at : at + 1] = [some[:half], some[half:]]


def discard(order: DueOrder, entry: Entry) -> None:
    """Take an entry out, if it is there."""
    at = bisect_left(order, entry, key=_last)
    if at == len(order):
        return
    some = order[at]
    position = bisect_left(some, entry)
    if some[position] != entry:
        return
    if len(some) == 1:
        del order[at]
    else:
        del some[position]


def entries(order: DueOrder) -> Iterator[Entry]:
    """All entries, earliest first."""
    for some in order:
        yield from some


def _last(some: list[Entry]) -> Entry:
    return some[-1]
