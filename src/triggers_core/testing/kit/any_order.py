"""Whether a workflow does the same whatever order events come in, twice, late or with a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Final, get_args

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.records import Status
from triggers_core.exceptions import InvalidArgument
from triggers_core.testing.kit import orders, wording
from triggers_core.testing.kit.orders import Duplicates, Fired, Order
from triggers_core.texts import short_repr

if TYPE_CHECKING:
    from triggers_core.testing.kit.session import SessionUnderTest
    from triggers_core.testing.kit.workbench import Triggers

Session = Callable[["SessionUnderTest"], None]

_UID: Final = "session 1"
_TRIES: Final = 300  # runs to make a failing order simpler


@dataclass
class AnyOrder:
    """What is proven: a configuration, its events, and what is expected of them.

    `runs`, `check`: what has to hold in each order. Without them, each order has to lead to what
    the order as written leads to.
    """

    configuration: Mapping[str, Any] | Configuration | None
    events: list[Fired]
    runs: Mapping[str, int] | None
    wait: Any
    prepare: Session | None
    check: Session | None
    may_fail: Collection[str]
    as_written: dict[str, list[str]] | None = None
    """Task → statuses of its instances, in the order as written."""


def prove(
    bench: Triggers,
    case: AnyOrder,
    *,
    duplicates: bool | Duplicates,
    delays: Sequence[Any],
    crash: bool,
    seed: int,
    sample: int,
) -> int:
    """Try the orders; returns how many.

    :raises AssertionError: with the shortest order found in which something else happens.
    """
    __tracebackhide__ = True
    if case.configuration is not None:
        case.configuration = bench.app.parse(case.configuration)
    if case.runs is None and case.check is None:
        _run(bench, case, Order(tuple(range(len(case.events)))))
        case.as_written = _statuses(bench)
    tried = 0
    with _quiet():
        for stage in _stages(bench, case, duplicates, delays, crash, Random(seed), sample):
            for order in stage:
                tried += 1
                if _run(bench, case, order) is not None:
                    shortest = _shortest(bench, case, order)
                    break
            else:
                continue
            break
        else:
            return tried
    problem = _run(bench, case, shortest)  # once more, with its log
    assert problem is not None
    why = bench.why(bench.sessions[0], None)
    raise AssertionError(wording.failure(case, shortest, problem, tried, seed, why))


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong in a proof does so on purpose, and often."""
    log = logging.getLogger("triggers_core")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _stages(
    bench: Triggers,
    case: AnyOrder,
    duplicates: bool | Duplicates,
    delays: Sequence[Any],
    crash: bool,
    random: Random,
    sample: int,
) -> Iterator[Iterator[Order]]:
    """The simplest orders first, so that what is found is short."""
    count, modes = len(case.events), _modes(duplicates)
    yield orders.plain(count, random, sample)
    for mode in modes:
        yield orders.doubled(count, mode, random, sample)
    if delays:
        yield orders.delayed(count, delays, random, sample)
    if crash:
        yield _crashes(bench, case, random, sample)
    if bool(modes) + bool(delays) + crash > 1:
        yield islice(_mixed(bench, case, modes, delays, crash, random), sample // 4)


def _modes(duplicates: bool | Duplicates) -> tuple[Duplicates, ...]:
    modes: tuple[Duplicates, ...] = get_args(Duplicates)
    if isinstance(duplicates, bool):
        return modes if duplicates else ()
    if duplicates not in modes:
        raise InvalidArgument(
            "duplicates: expected True, 'redelivered' (with the same event id) or 'repeated'"
            f" (without one), got {short_repr(duplicates)}"
        )
    return (duplicates,)


def _crashes(bench: Triggers, case: AnyOrder, random: Random, sample: int) -> Iterator[Order]:
    count = len(case.events)
    points = _points(bench, case, Order(tuple(range(count))))
    found = list(orders.plain(count, random, sample))
    if len(found) * sum(points) <= orders.ALL:
        for order in found:
            for place, reached in enumerate(_points(bench, case, order)):
                for point in range(1, reached + 1):
                    yield replace(order, crash=(place, point))
        return
    for _ in range(sample):
        yield _with_crash(random.choice(found), max(points), random)


def _with_crash(order: Order, most: int, random: Random) -> Order:
    """An order with a crash drawn at random; beyond the last point of a fire, there is none."""
    crash = (random.randrange(len(order.sequence)), random.randint(1, most))
    return replace(order, crash=crash)


def _mixed(
    bench: Triggers,
    case: AnyOrder,
    modes: Sequence[Duplicates],
    delays: Sequence[Any],
    crash: bool,
    random: Random,
) -> Iterator[Order]:
    """Everything that was asked for at the same time, at random."""
    count = len(case.events)
    most = max(_points(bench, case, Order(tuple(range(count))))) if crash else 0
    while True:
        sequence = list(range(count))
        mode = random.choice(modes) if modes else None
        if mode:
            sequence += random.sample(sequence, random.randint(1, count))
        random.shuffle(sequence)
        order = Order(tuple(sequence), mode)
        if delays:
            order = orders.with_delays(order, delays, random)
        yield _with_crash(order, most, random) if crash else order


# -- one order -------------------------------------------------------------------------------------


def _run(bench: Triggers, case: AnyOrder, order: Order) -> str | None:
    """Go through an order in a new session; what is wrong with what came of it."""
    try:
        _carry_out(bench, case, order, None)
        return _problem(bench, case)
    except Exception as error:
        code = "\n".join(f"    {line}" for line in wording.code(case, order))
        error.add_note(f"raised when the events came like this:\n\n{code}")
        raise


def _points(bench: Triggers, case: AnyOrder, order: Order) -> list[int]:
    """How many crash points there are after each fire of an order."""
    counted: list[int] = []
    _carry_out(bench, case, order, counted)
    return counted


def _carry_out(bench: Triggers, case: AnyOrder, order: Order, counted: list[int] | None) -> None:
    bench.erase()
    session = bench.session(case.configuration, _UID)
    if case.prepare is not None:
        case.prepare(session)
    for place, number in enumerate(order.sequence):
        if place in order.delays:
            session.advance(order.delays[place])
        _fire(bench, session, case.events[number], order, place, counted)
    if case.wait is not None:
        session.advance(case.wait)


def _fire(
    bench: Triggers,
    session: SessionUnderTest,
    event: Fired,
    order: Order,
    place: int,
    counted: list[int] | None,
) -> None:
    event_id = wording.event_id(order, place)
    if counted is None and (order.crash is None or order.crash[0] != place):
        session.fire(event.trigger, event.kwargs, event_id)
        return
    at = order.crash[1] if order.crash is not None and order.crash[0] == place else None
    with bench.crash(at) as points:
        session.fire(event.trigger, event.kwargs, event_id)
    if counted is not None:
        counted.append(len(points.reached))
    if points.dead:
        session.fire(event.trigger, event.kwargs, event_id)
        session.advance(wording.RECOVERY)


def _problem(bench: Triggers, case: AnyOrder) -> str | None:
    session = bench.sessions[0]
    for task, expected in (case.runs or {}).items():
        ran = session.ran(task)
        if ran != expected:
            return f"{task} ran {wording.times(ran)}, expected {wording.times(expected)}"
    found = _statuses(bench)
    if case.as_written is not None and found != case.as_written:
        return wording.difference(found, case.as_written)
    for task, statuses in found.items():
        if Status.FAILED in statuses and task not in case.may_fail:
            return f"{task} failed"
    if case.check is not None:
        try:
            case.check(session)
        except AssertionError as error:
            return f"the check failed: {error}" if str(error) else "the check failed"
    return None


def _statuses(bench: Triggers) -> dict[str, list[str]]:
    session = bench.sessions[0]
    found: dict[str, list[str]] = {task: [] for task in session.manager.storage.tasks}
    for instance in session.manager.storage.store.instances(session.uid):
        found.setdefault(instance.task, []).append(instance.status.value)
    return {task: sorted(statuses) for task, statuses in found.items()}


def _shortest(bench: Triggers, case: AnyOrder, order: Order) -> Order:
    """A failing order with the fewest fires and delays, near to the order as written."""
    tries = _TRIES
    while True:
        for simpler in _simpler(order):
            tries -= 1
            if tries < 0:
                return order
            if _run(bench, case, simpler) is not None:
                order = simpler
                break
        else:
            return order


def _simpler(order: Order) -> Iterator[Order]:
    if order.crash is not None:
        yield replace(order, crash=None)
    for place in order.delays:
        yield replace(order, delays={k: v for k, v in order.delays.items() if k != place})
    for place in range(len(order.sequence)):
        if order.is_repeated(place):
            yield order.without(place)
    for place, (first, second) in enumerate(zip(order.sequence, order.sequence[1:], strict=False)):
        if first > second:
            yield order.swapped(place)
