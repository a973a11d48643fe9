"""What the linter knows of `where`s, against what events do."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from words import values

from triggers_core.engine.conditions import Leaf
from triggers_core.engine.where import Where, parse_where
from triggers_core.views.linting.wheres import exclude_each_other, implies, impossible_path

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))


def leaf(where: Any) -> Leaf:
    return Leaf("a", "a", parse_where("where", where))


@pytest.mark.parametrize(
    "where",
    [
        {"v": {"atLeast": 5, "lessThan": 3}},
        {"v": {"atLeast": 5, "lessThan": 5}},
        {"v": {"atLeast": 5, "atMost": Decimal(5), "not": 5.0}},
        {"v": {"moreThan": 1, "lessThan": "b"}},
        {"v": {"moreThan": "b", "lessThan": "a"}},
        {"v": {"given": False, "atLeast": 1}},
        {"v": {"given": False}, "v.w": 1},
        {"v": 1, "v.w": 1},
        {"v": {"atLeast": "a"}, "v.w": {"given": True}},
        {"v": {"atLeast": NOON, "lessThan": NOON.astimezone(EAST)}},
        {"v": {"atLeast": NOON, "lessThan": NOON.replace(tzinfo=None)}},
        {"v": {"moreThan": date(2024, 1, 2), "atMost": date(2024, 1, 1)}},
        {"v": {"atLeast": "2024-01-02", "lessThan": "2024-01-01"}},
    ],
)
def test_nothing_passes(where: Any) -> None:
    assert impossible_path(leaf(where).where) == "v"


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"v": {"atLeast": 3, "atMost": 3}},
        {"v": {"moreThan": 3, "lessThan": 3.5}},
        {"v": {"not": [1, 2], "given": True}},
        {"v": {"given": True}, "v.w": 1},
        {"v": {"not": 1}, "v.w": 1},
        {"v": {"given": False}, "v.w": {"given": False}},
        {"v": 1, "v.w": {"given": False}},
        {"v": {"atLeast": "2024-01-01T10:00Z", "lessThan": NOON}},
        {"v": {"atLeast": "2024-01-01", "lessThan": date(2024, 1, 2)}},
        # A text is after another one, and the moment that it means before that of the other.
        {"v": {"atLeast": "2024-01-01T12:00+02:00", "lessThan": "2024-01-01T11:00Z"}},
    ],
)
def test_something_may_pass(where: Any) -> None:
    assert impossible_path(leaf(where).where) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"v": "paid"}, {"v": "refunded"}),
        ({"v": "paid"}, {"v": {"not": ["paid", "x"]}}),
        ({"v": [1, 2]}, {"v": {"moreThan": 2}}),
        ({"v": {"atMost": 1}}, {"v": {"moreThan": 1}}),
        ({"v": None}, {"v": {"given": False}}),
        ({"v": True}, {"v": 1}),
        ({"v": NOON}, {"v": NOON + timedelta(1)}),
    ],
)
def test_leaves_that_exclude_each_other(one: Any, other: Any) -> None:
    assert exclude_each_other(leaf(one), leaf(other))
    assert not exclude_each_other(leaf(one), leaf(one))


@pytest.mark.parametrize(
    ("strong", "weak"),
    [
        ({"v": 5}, {}),
        ({"v": 5}, {"v": [4, 5.0]}),
        ({"v": [5, 6]}, {"v": {"atLeast": 5}}),
        ({"v": "x"}, {"v": {"not": ["y", 1], "given": True}}),
        ({"v": {"moreThan": 5}}, {"v": {"atLeast": 5}}),
        ({"v": {"atLeast": 5.5, "lessThan": 9}}, {"v": {"moreThan": 5, "lessThan": Decimal(9)}}),
        ({"v": 1, "w": 2}, {"v": 1}),
        ({"v.w": 1}, {"v": {"given": True}}),
        ({"v": {"not": 1}}, {"v": {"given": True}}),
    ],
)
def test_what_implies_what(strong: Any, weak: Any) -> None:
    assert implies(leaf(strong), leaf(weak))
    assert not implies(leaf(weak), leaf(strong))


def random_where(rng: random.Random, pools: dict[str, str]) -> Where | None:
    return parse_where("where", values.where(rng, pools))


@pytest.mark.parametrize("seed", range(6))
def test_no_event_tells_otherwise(seed: int) -> None:
    rng = random.Random(seed)
    told = {"impossible": 0, "implied": 0}
    for _ in range(120):
        pool = rng.choice(("numbers", "fractions", "wide", "texts", "flags", "moments", "days"))
        pools = dict.fromkeys(values.PATHS, pool)
        one, other = leaf({}), leaf({})
        one.where, other.where = random_where(rng, pools), random_where(rng, pools)
        events = [values.kwargs(rng, pools, values.START) for _ in range(60)]
        passing = [
            [x.where is None or x.where.passes(event) for event in events] for x in (one, other)
        ]
        if exclude_each_other(one, other):
            told["impossible"] += 1
            assert not any(map(all, zip(*passing, strict=True))), (one.where, other.where)
        if implies(one, other):
            told["implied"] += 1
            assert all(b for a, b in zip(*passing, strict=True) if a), (one.where, other.where)
    assert min(told.values()) > 1, told
