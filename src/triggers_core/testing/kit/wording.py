"""What a failed proof says: what is wrong, the order as code to paste, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from triggers_core.testing.kit.orders import Order

if TYPE_CHECKING:
    from triggers_core.testing.kit.any_order import AnyOrder

RECOVERY: Final = "2 minutes"
"""After so long another process has taken over what one that died had begun: a lease, and the time
until a message is sent again, are a minute each (`Timing`)."""


def times(number: int) -> str:
    """A number of times, in words."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def event_id(order: Order, place: int) -> str | None:
    """The id under which the event at a place is fired, where it is delivered or sent again."""
    number = order.sequence[place] + 1
    if order.duplicates == "redelivered":
        return f"event {number}"
    if order.crash is not None:
        return f"event {number}, again" if order.is_repeated(place) else f"event {number}"
    return None


def _nth(number: int) -> str:
    return (
        "The first order that was tried"
        if number == 1
        else f"Number {number:,} of the orders that were tried"
    )


def difference(found: Mapping[str, list[str]], expected: Mapping[str, list[str]]) -> str:
    """What has become of the tasks, and what becomes of them in the order as written."""
    return "; ".join(
        f"{task} is {_several(found.get(task, []))}, and {_several(statuses)} in the order as"
        " written"
        for task, statuses in expected.items()
        if found.get(task, []) != statuses
    )


def _several(statuses: list[str]) -> str:
    return " and ".join(statuses) or "missing"


def failure(
    case: AnyOrder, order: Order, problem: str, tried: int, seed: int, explained: str
) -> str:
    """The message of the `AssertionError`."""
    lines = [f"{problem}, when the events come like this:", ""]
    lines += (f"    {line}" for line in code(case, order))
    lines += ["", f"({_nth(tried)}; seed={seed}.)", "", explained]
    if order.duplicates == "repeated" and len(set(order.sequence)) < len(order.sequence):
        lines += [
            "",
            "An event came twice without an event id, so it counts as two. If whoever sends it"
            " gives it one\n(fire(..., event_id=...)), ask for duplicates='redelivered'.",
        ]
    return "\n".join(lines)


def code(case: AnyOrder, order: Order) -> Iterator[str]:
    """The order as code, to be pasted into a test."""
    yield "s = triggers.session(CONFIG)"
    if case.prepare is not None:
        yield "prepare(s)"
    for place, number in enumerate(order.sequence):
        if place in order.delays:
            yield f"s.advance({order.delays[place]!r})"
        event = case.events[number]
        arguments = [repr(event.trigger), *([repr(dict(event.kwargs))] if event.kwargs else [])]
        known_as = event_id(order, place)
        if known_as is not None:
            arguments.append(f"event_id={known_as!r}")
        fire = f"s.fire({', '.join(arguments)})"
        if order.crash is not None and order.crash[0] == place:
            yield f"with triggers.crash(at={order.crash[1]}):"
            yield f"    {fire}"
            yield f"{fire}  # the sender tries again"
            yield f"s.advance({RECOVERY!r})  # another process takes over"
        else:
            yield fire + ("  # again" if order.is_repeated(place) else "")
    if case.wait is not None:
        yield f"s.advance({case.wait!r})"
    for task, expected in (case.runs or {}).items():
        yield f"assert s.ran({task!r}) == {expected}"
    if case.check is not None:
        yield "check(s)"
