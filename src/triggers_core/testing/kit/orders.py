"""The orders in which events can come: all of them where they are few, else a seeded sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, permutations, product
from random import Random
from typing import Any, Final, Literal

from triggers_core.exceptions import InvalidArgument
from triggers_core.texts import short_repr

ALL: Final = 5_040
"""Up to so many orders are tried one by one: those of seven events. Of more, a sample is."""

Duplicates = Literal["redelivered", "repeated"]
"""Whether a second delivery has the event id of the first one, or is a fire of its own."""


@dataclass(frozen=True)
class Fired:
    """An event as it is written: a trigger and its kwargs."""

    trigger: str
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Order:
    """One way in which the events can come.

    `sequence` holds the numbers of the events; where one stands twice, it comes twice.
    """

    sequence: tuple[int, ...]
    duplicates: Duplicates | None = None
    delays: Mapping[int, Any] = field(default_factory=dict)
    """Place in the sequence → how long before it time passes."""
    crash: tuple[int, int] | None = None
    """The place in the sequence, and the operation after its fire, at which the process dies."""

    def is_repeated(self, place: int) -> bool:
        """Whether the event at a place has come before."""
        return self.sequence[place] in self.sequence[:place]

    @property
    def inversions(self) -> int:
        """How far it is from the order as written."""
        sequence = self.sequence
        return sum(
            first > second
            for place, first in enumerate(sequence)
            for second in sequence[place + 1 :]
        )

    def without(self, place: int) -> Order:
        """The same without the fire at a place."""
        moved = {
            each - (each > place): delay for each, delay in self.delays.items() if each != place
        }
        crash = self.crash
        if crash is not None:
            crash = None if crash[0] == place else (crash[0] - (crash[0] > place), crash[1])
        sequence = (*self.sequence[:place], *self.sequence[place + 1 :])
        return replace(self, sequence=sequence, delays=moved, crash=crash)

    def swapped(self, place: int) -> Order:
        """The same with the fires at a place and at the next one exchanged."""
        sequence = list(self.sequence)
        sequence[place : place + 2] = sequence[place + 1], sequence[place]
        return replace(self, sequence=tuple(sequence))


def read_events(events: Sequence[object]) -> list[Fired]:
    """The events of an order: names, or names with kwargs.

    :raises InvalidArgument: names the place.
    """
    if isinstance(events, str) or not isinstance(events, Sequence) or not events:
        raise InvalidArgument(f"events: expected a list of triggers, got {short_repr(events)}")
    return [_read_event(f"events[{place}]", each) for place, each in enumerate(events)]


def _read_event(place: str, event: object) -> Fired:
    if isinstance(event, str):
        return Fired(event)
    if isinstance(event, tuple | list) and len(event) == 2 and isinstance(event[0], str):
        trigger, kwargs = event
        if kwargs is None or isinstance(kwargs, Mapping):
            return Fired(trigger, kwargs)
    raise InvalidArgument(
        f"{place}: expected a trigger, or (trigger, kwargs), got {short_repr(event)}"
    )


def plain(count: int, random: Random, most: int) -> Iterator[Order]:
    """The orders of so many events."""
    if math.factorial(count) <= ALL:
        return map(Order, permutations(range(count)))
    return islice(_shuffles(list(range(count)), random), most)


def doubled(count: int, how: Duplicates, random: Random, most: int) -> Iterator[Order]:
    """The orders of so many events, each of which comes twice."""
    total = math.factorial(2 * count) >> count
    found: Iterator[Order]
    if total <= ALL:
        found = map(Order, _distinct([2] * count))
    else:
        found = islice(_shuffles([*range(count), *range(count)], random), most)
    return (replace(each, duplicates=how) for each in found)


def delayed(count: int, durations: Sequence[Any], random: Random, most: int) -> Iterator[Order]:
    """The orders of so many events, with each duration, or none, before each event but the first.

    The order without any delay is left out.
    """
    gaps = (len(durations) + 1) ** (count - 1) - 1
    if math.factorial(count) * gaps <= ALL:
        for order in plain(count, random, most):
            for chosen in product((None, *durations), repeat=count - 1):
                if any(each is not None for each in chosen):
                    yield replace(order, delays=_delays(chosen))
        return
    for order in islice(_shuffles(list(range(count)), random, again=True), most):
        yield with_delays(order, durations, random)


def with_delays(order: Order, durations: Sequence[Any], random: Random) -> Order:
    """An order with delays drawn at random."""
    chosen = [random.choice((None, *durations)) for _ in order.sequence[1:]]
    return replace(order, delays=_delays(chosen))


def _delays(chosen: Sequence[Any]) -> dict[int, Any]:
    return {place + 1: each for place, each in enumerate(chosen) if each is not None}


def _distinct(left: list[int], done: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The distinct sequences of numbers, of which `left` says how often each comes."""
    if not any(left):
        yield done
    for number, times in enumerate(left):
        if times:
            left[number] -= 1
            yield from _distinct(left, (*done, number))
            left[number] += 1


def _shuffles(numbers: list[int], random: Random, again: bool = False) -> Iterator[Order]:
    """The order as written, then others at random; each once, but for `again`."""
    seen = set()
    while True:
        sequence = tuple(numbers)
        if again or sequence not in seen:
            seen.add(sequence)
            yield Order(sequence)
        random.shuffle(numbers)
