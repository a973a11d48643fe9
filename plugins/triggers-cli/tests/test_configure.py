"""``configure``: what the past means for new tasks, and what moves when tasks are replaced."""

from __future__ import annotations

from typing import Any

import pytest
from cli_process import Cli, statuses

LATER: dict[str, Any] = {
    "t_thank": {"after": ["paid"], "run": "shop.Thank"},
    "t_check": {"after": ["paid", "checked"], "unless": ["packed"], "run": "shop.Thank"},
    "t_remind": {"after": ["paid"], "waiting": "2 days", "run": "shop.Thank"},
    "t_haste": {"after": ["paid", "checked"], "within": 0.000001, "run": "shop.Thank"},
}


@pytest.fixture
def fed(orders: Cli) -> Cli:
    """A session with a past."""
    orders("configure", "o", "shop:FLOW", code=0)
    for trigger in ("paid", "other", "packed"):
        orders("fire", "o", trigger, code=0)
    orders.write("later.json", LATER)
    return orders


def test_what_the_past_means(fed: Cli) -> None:
    told = fed("configure", "o", "later.json", "--past", "--json", code=0).json
    assert told["began"] == ["t_thank#0", "t_check#0", "t_remind#0", "t_haste#0"]
    assert told["scheduled"] == ["t_thank#0"]
    assert told["held"] == ["t_remind#0"]
    assert told["late"] == ["t_haste#0"]
    assert told["called_off"] == ["t_check#0"]
    assert (told["changed"], told["config_version"], told["moved"]) == (True, 2, [])
    assert statuses(fed, "o")["t_thank#0"] == "scheduled"


def test_without_the_past(fed: Cli) -> None:
    told = fed("configure", "o", "later.json", "--json", code=0).json
    assert (told["began"], told["scheduled"]) == ([], [])


def test_a_dry_run_only_tells(fed: Cli) -> None:
    dry = ("configure", "o", "later.json", "--past", "--dry-run")
    before = statuses(fed, "o")
    assert fed(*dry, code=0).out == (
        "dry run: session o would have 6 tasks; nothing is stored\n"
        "  began with the past: t_thank#0, t_check#0, t_remind#0 and t_haste#0\n"
        "  to run now: t_thank#0\n"
        "  held back: t_remind#0\n"
        "  late: t_haste#0\n"
        "  called off: t_check#0\n"
    )
    told = fed(*dry, "--json", code=0).json
    assert statuses(fed, "o") == before
    assert told.pop("dry_run") is True
    done = fed(*dry[:-1], "--json", code=0).json
    done.pop("instances")
    assert told == done


def test_a_dry_run_creates_nothing(orders: Cli) -> None:
    dry = ("configure", "o", "shop:FLOW", "--dry-run")
    assert "there is no SQLite file" in orders(*dry, code=1).err
    assert not (orders.folder / "orders.db").exists()
    assert "--dry-run runs nothing" in orders(*dry, "--wait", code=2).err


def test_what_moves(fed: Cli) -> None:
    fed("configure", "o", "later.json", "--past", code=0)
    fed.write("sooner.json", {"t_remind": {**LATER["t_remind"], "waiting": 0.000001}})
    shown = fed("configure", "o", "sooner.json", code=0).out
    assert "  moved: t_remind#0\n" in shown
    assert "  t_remind#0  scheduled\n" in shown
    assert statuses(fed, "o")["t_remind#0"] == "scheduled"


def test_many_are_counted(fed: Cli) -> None:
    many = {f"t_{n:02}": {"after": ["paid", "x"], "run": "shop.Thank"} for n in range(12)}
    fed.write("many.json", many)
    assert "t_09#0 and 2 more\n" in fed("configure", "o", "many.json", "--past", code=0).out
