"""What a simulated application is: its configurations, the events that come, and its habits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

Configuration = Mapping[str, Mapping[str, Any]]

BODY: Final = "simulated"
"""The `run` of a body that the simulation plays: it succeeds, fails, retries, skips, fires."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often something goes wrong, from 0 to 1 each."""

    errors: float = 0.02
    """An operation on the store does nothing but raise."""
    lost_replies: float = 0.02
    """One that writes takes effect, and raises."""
    lost: float = 0.06
    """A message never arrives."""
    repeated: float = 0.06
    """It arrives twice."""
    late: float = 0.15
    """It takes up to two minutes, and others overtake it."""
    crashes: float = 1.2
    """Processes that die, on average in a run."""
    freezes: float = 0.6
    """Processes that stand still for up to two minutes, on average in a run."""
    bodies: float = 0.38
    """A simulated body (`run` of a task that nobody has defined) takes its time, fires, fails,
    retries or skips."""
    operators: float = 0.05
    """An operator who looks fails what is under way, by hand: it seems to be stuck."""
    jumps: float = 0.4
    """Clocks that are set, on average in a run."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """An application to simulate.

    :ivar configurations: the session's first one, and those that replace tasks of it later.
    :ivar events: (trigger, kwargs) from which each session draws some, in any order.
    :ivar fires: how many events a session gets, at least and at most.
    :ivar all_events: each session gets every event, once, in any order, instead.
    :ivar sessions: how many sessions one seed simulates, side by side.
    """

    configurations: Sequence[Configuration]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    fires: tuple[int, int] = (3, 7)
    all_events: bool = False
    sessions: int = 4
    rates: Rates = Rates()
    plugins: Sequence[Any] = ()
    replaces_kwargs: bool = False
    """Whether some replays by hand replace the kwargs: another piece of work, with another key."""
    once: frozenset[str] = frozenset()
    """Triggers that are fired with ``once=True``."""
    at_most_once: frozenset[str] = frozenset()
    """Triggers that a session never records twice, whoever fires them."""
    body_events: Sequence[str] = ()
    """Triggers that simulated bodies may fire."""


def _task(**directives: Any) -> dict[str, Any]:
    return {**directives, "run": BODY}


FIRST: Final[Configuration] = {
    "t_open": _task(after=["placed"]),
    "t_page": _task(after=["t_open"], andEvery="page"),
    "t_ship": _task(
        after=["t_open", {"anyOf": ["paid", {"trigger": "invoiced", "where": {"ok": True}}]}],
        unless=["cancelled"],
        within=60,
        otherwise={"late": "shipLate", "failed": "shipFailed", "calledOff": "shipOff"},
    ),
    "t_vote": _task(after=[{"atLeast": 2, "of": ["ann", "bob", "cy"]}]),
    "t_pack": _task(after=["placed", {"atLeast": "placed.items", "of": "page"}]),
    "t_save": _task(after=["page"], keeping="latest", waiting=5, everyTime=True),
    "t_refund": _task(after=["paid", {"anyOf": ["shipLate", "shipFailed", "shipOff"]}]),
    "t_remind": _task(after=["placed"], unless=[{"anyOf": ["paid", "cancelled"]}], waiting=30),
}

SECOND: Final[Configuration] = {
    "t_vote": _task(after=[{"atLeast": 1, "of": ["ann", "bob", "cy"]}, "t_open"]),
    "t_report": _task(after=[{"atLeast": 2, "of": "t_page"}]),
    "t_done": _task(after=["sessionFinalized"]),
}

EVENTS: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    ("placed", {"items": 2}),
    ("placed", {"items": 1}),
    ("placed", {"items": 2}),
    ("page", {"size": 3}),
    ("page", {}),
    ("page", {}),
    ("paid", {"amount": 10}),
    ("invoiced", {"ok": True}),
    ("invoiced", {"ok": False}),
    ("cancelled", {}),
    ("ann", {}),
    ("bob", {}),
    ("cy", {}),
)


def every_word(plugins: Sequence[Any] = ()) -> Scenario:
    """The scenario that the project's own million sessions are of: all words of the language."""
    return Scenario(
        configurations=(FIRST, SECOND),
        events=EVENTS,
        plugins=plugins,
        replaces_kwargs=True,
        once=frozenset({"placed"}),
        at_most_once=frozenset({"placed", "sessionFinalized"}),
        body_events=("page",),
    )
