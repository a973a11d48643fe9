"""Values for the kwargs of random events, and tests of them that pass about half of the time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

START = 1_704_103_200
"""When scenarios begin: 2024-01-01 at 10:00 UTC, in seconds since 1970."""

_MOMENT = datetime(2024, 1, 1, 10, 0, tzinfo=UTC)
_EAST = timezone(timedelta(hours=2))
_ID = UUID("12345678-1234-5678-1234-567812345678")
_LATER = _MOMENT + timedelta(seconds=30)

# What may stand where a test looks: each pool has values that are equal, nearly so, and not at all.
POOLS: dict[str, Sequence[Any]] = {
    "numbers": [1, 1.0, Decimal(1), 2, 2.5, Decimal("2.5"), True, "1", 3],
    "fractions": [0.1, Decimal("0.1"), Decimal("0.10"), 0.3, Decimal("0.3"), 0, False, -0.5],
    "wide": [10**20, 1e20, Decimal("1E20"), 2**53 + 1, float(2**53), -1],
    "texts": ["a", "b", "é", "e\u0301", "A", "", "10", "9"],
    "flags": [True, False, 1, 0, None, "true"],
    "moments": [
        _MOMENT,
        _MOMENT.astimezone(_EAST),
        "2024-01-01T10:00:00Z",
        "2024-01-01T12:00:00+02:00",
        _MOMENT.replace(tzinfo=None),
        "2024-01-01T10:00:00",
        _LATER,
        "2024-01-01T10:00:30+00:00",
        date(2024, 1, 1),
    ],
    "days": [
        date(2024, 1, 1),
        "2024-01-01",
        date(2024, 1, 2),
        "2024-01-02",
        "20240102",
        "someday",
        datetime(2024, 1, 1),
        "2024-01-01T00:00:00",
    ],
    "ids": [_ID, str(_ID), UUID(int=1), b"x", b"y", "x"],
    "rest": [None, "a", 1, True, [1], ["a"], {"x": 1}, [], {}],
}
NESTED = "d.x"
PATHS = ("v", "w", NESTED)

_ORDER = (int, float, Decimal, str, datetime, date)
_PLAIN = (type(None), bool, int, float, Decimal, str, date, UUID, bytes)

COUNTS: Sequence[Any] = [0, 1, 1, 2, 2, 2, 3, 2.0, Decimal("3.0"), 2.5, True, "2", None, -1]
"""What an event may say where a counted leaf looks for its number."""


def until_value(rng: random.Random, now: float) -> Any:
    """What an event may say where `waiting.until` looks: mostly a moment about now."""
    moment = datetime.fromtimestamp(now, UTC) + timedelta(
        seconds=rng.choice((-10, 10, 20, 20, 30, 60))
    )
    kind = rng.randrange(10)
    if kind < 4:
        return moment.astimezone(rng.choice((UTC, _EAST)))
    if kind < 7:
        return moment.astimezone(rng.choice((UTC, _EAST))).isoformat()
    return rng.choice((moment.replace(tzinfo=None), moment.date(), "soon", 17, None, True))


def kwargs(rng: random.Random, pools: dict[str, str], now: float) -> dict[str, Any]:
    """Kwargs of an event: each of the paths that tests look at is there most of the time.

    :param pools: path → pool of `POOLS`, the same for a whole scenario.
    """
    made: dict[str, Any] = {}
    for path in PATHS:
        if rng.random() < 0.8:
            put(made, path, rng.choice(POOLS[pools[path]]))
    if rng.random() < 0.05:
        made["d"] = rng.choice((None, "text", [1], {}))
    if rng.random() < 0.8:
        made["n"] = rng.choice(COUNTS)
    if rng.random() < 0.8:
        made["at"] = until_value(rng, now)
    return made


def put(made: dict[str, Any], path: str, value: Any) -> None:
    """Put a value where a path leads."""
    *outer, last = path.split(".")
    for name in outer:
        made = made.setdefault(name, {})
    made[last] = value


def where(rng: random.Random, pools: dict[str, str]) -> dict[str, Any]:
    """Tests for one path, or for two."""
    paths = rng.sample(PATHS, rng.choice((1, 1, 1, 2)))
    return {path: _test(rng, POOLS[pools[path]]) for path in paths}


def _test(rng: random.Random, pool: Sequence[Any]) -> Any:
    values = [each for each in pool if isinstance(each, _PLAIN)]
    ordered = [each for each in values if isinstance(each, _ORDER) and not isinstance(each, bool)]
    kind = rng.randrange(10)
    if kind < 2:
        return rng.choice(values)
    if kind < 5:
        return rng.sample(values, min(3, len(values)))
    if kind < 6:
        return {"not": rng.sample(values, 2)}
    if kind < 7:
        return {"not": rng.choice(values)}
    if kind < 8:
        return {"given": rng.random() < 0.7}
    test: dict[str, Any] = {}
    for word in rng.sample(("atLeast", "atMost", "moreThan", "lessThan"), rng.choice((1, 1, 1, 2))):
        test[word] = rng.choice(ordered or ["a"])
    if rng.random() < 0.3:
        test["not"] = rng.choice(values)
    if rng.random() < 0.2:
        test["given"] = rng.random() < 0.9
    return test
