"""A log of our own making: a year of orders at a shop that builds bicycles.

About 3,000 events in 400 sessions, the same ones whenever and wherever they are made. Events
overtake each other (payments come before their order), repeat (parts, letters), and stop short, as
they do in life; names hold spaces, slashes and umlauts.

``python -m triggers_core.testing.sample_log FILE`` writes it as gzipped JSON Lines.

Example::

    from triggers_core.testing import sample_log
    result = backtest(sample_log.CONFIGURATIONS["orders"], sample_log.events())
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

SESSIONS = 400

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    # What the shop does: each step once, but for parts and letters.
    "orders": {
        "t_confirm": {"after": ["order placed"], "unless": ["order cancelled"], "run": "shop.Mail"},
        "t_remind": {
            "after": ["t_confirm", "payment / failed"],
            "unless": ["payment / received"],
            "run": "shop.Mail",
        },
        "t_reserve": {
            "after": ["order placed"],
            "andEvery": "part picked",
            "unless": ["order cancelled"],
            "run": "shop.Reserve",
        },
        "t_build": {
            "after": ["t_reserve", "payment / received", "frame welded"],
            "unless": ["order cancelled"],
            "run": "shop.Build",
        },
        "t_ship": {
            "after": ["t_build", "inspected"],
            "unless": ["order cancelled"],
            "run": "shop.Ship",
        },
        "t_invoice": {"after": ["t_ship"], "run": "shop.Invoice"},
        "t_answer": {"andEvery": "customer wrote", "run": "shop.Answer"},
        "t_refund": {"after": ["payment / received", "order cancelled"], "run": "shop.Refund"},
        "t_survey": {
            "after": ["t_invoice", "parcel delivered"],
            "unless": ["Rückgabe angemeldet", "customer wrote"],  # both of them
            "run": "shop.Mail",
        },
    },
    # The same events, all of them again and again: instances that wait for cascades of instances.
    "every": {
        "t_count": {"andEvery": "part picked", "run": "shop.Count"},
        "t_weigh": {"after": ["order placed"], "andEvery": "t_count", "run": "shop.Weigh"},
        "t_pack": {
            "after": ["t_weigh"],
            "andEvery": "customer wrote",
            "unless": ["inspected"],
            "run": "shop.Pack",
        },
        "t_label": {
            "after": ["t_pack", "t_count"],
            "unless": ["order cancelled"],
            "run": "shop.Label",
        },
        "t_log": {
            "andEvery": "t_weigh",
            "unless": ["t_label", "payment / failed"],
            "run": "shop.Log",
        },
    },
    # Names that are triggers and reasons to stop at once, and tasks before what they wait for.
    "crossed": {
        "t_last": {
            "after": ["t_first", "t_middle"],
            "unless": ["parcel delivered"],
            "run": "shop.Any",
        },
        "t_middle": {
            "andEvery": "t_first",
            "after": ["inspected"],
            "unless": ["inspected", "order cancelled"],
            "run": "shop.Any",
        },
        "t_first": {"after": ["payment / received"], "andEvery": "frame welded", "run": "shop.Any"},
        "t_never": {"after": ["t_last"], "unless": ["order placed"], "run": "shop.Any"},
    },
}
"""Name → the tasks of every session."""

_CITIES = ("Groningen", "Köln", "Łódź", "Aarhus", "São Paulo", "Kraków")
_PARTS = ("saddle", "chain", "lamp", "Gepäckträger", "bell / brass", "mudguard")
_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_HOUR = 3_600


class _Chance:
    """Draws from `Random.random` alone: its sequence is the same in every version of Python."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def happens(self, probability: float) -> bool:
        return self._random() < probability

    def below(self, number: int) -> int:
        return int(self._random() * number)

    def one_of(self, items: tuple[str, ...]) -> str:
        return items[self.below(len(items))]


def events(sessions: int = SESSIONS) -> list[dict[str, Any]]:
    """The log, in the order of time.

    :param sessions: how many orders; fewer are the first ones.
    :returns: `n`, `session`, `trigger`, `ts` (ISO 8601) and `kwargs` of each event.
    """
    found = [
        (at, number, step, trigger, kwargs)
        for number in range(sessions)
        for step, (at, trigger, kwargs) in enumerate(_order(number))
    ]
    found.sort(key=lambda each: each[:3])
    return [
        {
            "n": place,
            "session": f"order:{number + 1:04}",
            "trigger": trigger,
            "ts": (_BEGIN + timedelta(seconds=at)).isoformat(),
            "kwargs": kwargs,
        }
        for place, (at, number, _, trigger, kwargs) in enumerate(found)
    ]


def _order(number: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """What happens to an order: seconds since the year began, trigger, kwargs; in no order."""
    chance = _Chance(number)
    placed = chance.below(330 * 24) * _HOUR
    price = 400 + 10 * chance.below(200)
    ends = placed + (20 + chance.below(500)) * _HOUR  # whoever gives up does so here

    def later(hours: int) -> int:
        return placed + chance.below(hours * _HOUR)

    yield (
        placed,
        "order placed",
        {"city": chance.one_of(_CITIES), "price": price, "gift": chance.happens(0.1)},
    )
    while chance.happens(0.15):
        yield later(48), "payment / failed", {"reason": None}
    if chance.happens(0.85):
        paid = max(0, later(72) - _HOUR)  # a bank may be faster than our own shop
        yield paid, "payment / received", {"amount": price + 0.5, "bank": {"id": f"tr_{number:x}"}}
    for _ in range(chance.below(4) + chance.below(3)):
        yield (
            later(150),
            "part picked",
            {"part": chance.one_of(_PARTS), "count": 1 + chance.below(2)},
        )
    if chance.happens(0.8):
        yield later(200), "frame welded", {"by": chance.one_of(("Ada", "Jörg"))}
    if chance.happens(0.7):
        yield later(300), "inspected", {"faults": []}
    while chance.happens(0.3):
        yield later(600), "customer wrote", {"words": 1 + chance.below(300)}
    if chance.happens(0.15):
        yield ends, "order cancelled", {"by": "customer" if chance.happens(0.8) else "shop"}
    elif chance.happens(0.7):
        yield placed + (300 + chance.below(200)) * _HOUR, "parcel delivered", {}
        if chance.happens(0.2):
            yield (
                placed + (500 + chance.below(200)) * _HOUR,
                "Rückgabe angemeldet",
                {"why": "zu groß"},
            )
    while chance.happens(0.25):
        yield later(400), "address changed", {"city": chance.one_of(_CITIES)}


def write(file: Path) -> None:
    """Write the log as gzipped JSON Lines."""
    lines = "".join(
        json.dumps(each, ensure_ascii=False, separators=(",", ":")) + "\n" for each in events()
    )
    file.write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
