"""The test kit's proof that the order of events does not matter, and what it says when it does."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from triggers_core import TaskContext, TriggerTask
from triggers_core.exceptions import InvalidArgument
from triggers_core.testing import SessionUnderTest, Triggers
from triggers_core.testing.kit import orders
from triggers_core.testing.kit.orders import Order

SHIP = {"after": ["paid", "stockReserved"], "unless": ["cancelled"], "run": "shop.Ship"}
CONFIG = {"t_ship": SHIP}
NOTE = {"t_note": {"andEvery": "changed", "run": "shop.Note"}}
FRAGILE = {"t_sum": {"after": ["first", "second"], "run": "test_kit_orders.Fragile"}}


class Fragile(TriggerTask):
    """A body that leans on the order of events."""

    name = "test_kit_orders.Fragile"

    def _run(self, context: TaskContext) -> dict[str, Any]:
        numbers = {
            key: event[0].number for key in context.trigger_kwargs if (event := context.events(key))
        }
        if numbers["second"] < numbers["first"]:
            raise KeyError("first")
        return {}


def why(triggers: Triggers, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        triggers.assert_any_order(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("triggers", ["memory", "sqlite"], indirect=True)
def test_everything_at_once(triggers: Triggers) -> None:
    tried = triggers.assert_any_order(
        CONFIG,
        [("paid", {"amount": 120}), "stockReserved"],
        runs={"t_ship": 1},
        duplicates=True,
        delays=["1 hour", "3 days"],
        crash=True,
        sample=60,
    )
    assert tried >= 2 + 2 * 6 + 2 * 2 + 2 * 10 + 60 // 4


def test_without_expectations_every_order_is_like_the_one_that_is_written(
    triggers: Triggers,
) -> None:
    events = ["paid", "stockReserved", "cancelled"]
    assert triggers.assert_any_order(CONFIG, events[:2]) == 2
    message = why(triggers, CONFIG, events)
    assert message.startswith(
        "t_ship is abandoned, and finished in the order as written, when the events come like this:"
    )
    assert "s.fire('cancelled')\n    s.fire('stockReserved')" in message


def test_a_failure_is_code_to_paste_and_explains(triggers: Triggers) -> None:
    message = why(
        triggers, CONFIG, ["paid", ("stockReserved", {"n": 1}), "cancelled"], {"t_ship": 1}
    )
    assert message.startswith("t_ship ran never, expected once")
    assert "t_ship#0: abandoned: cancelled fired" in message
    assert "seed=0" in message
    code = message.split("\n\n")[1]
    with pytest.raises(AssertionError):
        exec(
            "\n".join(line.strip() for line in code.splitlines()),
            {"triggers": triggers, "CONFIG": CONFIG},
        )
    assert triggers.session(uid="session 1").status("t_ship") == "abandoned"


def test_an_event_that_comes_twice(triggers: Triggers) -> None:
    triggers.assert_any_order(NOTE, ["changed"], {"t_note": 1}, duplicates="redelivered")
    message = why(triggers, NOTE, ["changed", "other"], {"t_note": 1}, duplicates=True)
    assert message.count("s.fire(") == 3, "the shortest one"
    assert "s.fire('changed')  # again" in message
    assert "ask for duplicates='redelivered'" in message


def test_an_event_that_comes_late(triggers: Triggers) -> None:
    hurry = {"t_ship": {**SHIP, "within": "2 days", "otherwise": "late"}}
    events = ["paid", "stockReserved"]
    triggers.assert_any_order(hurry, events, {"t_ship": 1}, delays=["47 hours"])
    message = why(triggers, hurry, events, {"t_ship": 1}, delays=["1 hour", "3 days"])
    assert "s.fire('paid')\n    s.advance('3 days')\n    s.fire('stockReserved')" in message
    assert "1 hour" not in message


def test_time_at_the_end_and_what_bodies_do(triggers: Triggers) -> None:
    remind = {"t_remind": {"after": ["placed"], "waiting": "2 days", "run": "x"}}
    triggers.assert_any_order(remind, ["placed"], {"t_remind": 0})
    triggers.assert_any_order(remind, ["placed"], {"t_remind": 1}, wait="2 days")

    def busy(s: SessionUnderTest) -> None:
        s.retries("t_ship", times=2, cooldown=60)

    def delivered(s: SessionUnderTest) -> None:
        assert s.status("t_ship") == "finished"

    events = ["paid", "stockReserved"]
    triggers.assert_any_order(
        CONFIG, events, {"t_ship": 3}, prepare=busy, check=delivered, wait="1 hour"
    )
    message = why(triggers, CONFIG, events, prepare=busy, check=delivered)
    assert message.startswith("the check failed")
    assert "prepare(s)" in message
    assert "check(s)" in message


def test_a_crash_that_shows(triggers: Triggers) -> None:
    """A deadline that is shorter than it takes until another process goes on."""
    hurry = {
        "t_b": {"after": ["t_a", "go"], "within": "1 minute", "run": "b"},
        "t_a": {"after": ["go"], "run": "a"},
    }
    triggers.assert_any_order(hurry, ["go"], {"t_b": 1})
    message = why(triggers, hurry, ["go"], {"t_b": 1}, crash=True)
    assert "with triggers.crash(at=" in message
    assert "s.fire('go', event_id='event 1')  # the sender tries again" in message
    code = message.split("\n\n")[1]
    lines = [line.removeprefix("    ") for line in code.splitlines()]
    with pytest.raises(AssertionError):
        exec("\n".join(lines), {"triggers": triggers, "CONFIG": hurry})


def test_a_worker_dies_and_a_process_too(triggers: Triggers) -> None:
    triggers.assert_any_order(
        CONFIG,
        ["paid", "stockReserved"],
        {"t_ship": 1},
        crash=True,
        prepare=lambda s: s.dies("t_ship"),
        wait="5 minutes",
    )


def test_a_body_that_fails_in_one_order(triggers: Triggers) -> None:
    events = ["first", "second"]
    message = why(triggers, FRAGILE, events, {"t_sum": 1})
    assert message.startswith("t_sum failed")
    assert "KeyError" in message
    triggers.assert_any_order(FRAGILE, events, {"t_sum": 1}, may_fail={"t_sum"})


def test_what_is_raised_tells_the_order(triggers: Triggers) -> None:
    def check(s: SessionUnderTest) -> None:
        raise LookupError("no such table")

    with pytest.raises(LookupError) as caught:
        triggers.assert_any_order(CONFIG, ["paid"], check=check)
    assert "s.fire('paid')" in caught.value.__notes__[0]


def test_other_sessions_and_the_time_of_the_test_are_left_alone(triggers: Triggers) -> None:
    s = triggers.session(CONFIG)
    s.fire("paid")
    now = triggers.clock.now
    triggers.assert_any_order(CONFIG, ["paid"], {"t_ship": 0}, wait="30 days", crash=True)
    assert triggers.clock.now == now
    assert triggers.sessions == [s]
    s.fire("stockReserved")
    assert s.ran("t_ship") == 1


def test_impossible_events(triggers: Triggers) -> None:
    for events in ("paid", [], [3], [("paid", {}, 1)], [("paid", 3)]):
        with pytest.raises(InvalidArgument, match=r"^events"):
            triggers.assert_any_order(CONFIG, events, {"t_ship": 0})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="redelivered"):
        triggers.assert_any_order(CONFIG, ["paid"], duplicates="twice")  # type: ignore[arg-type]


# -- which orders there are ------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 8))
def test_all_orders_of_a_few_events(count: int) -> None:
    found = list(orders.plain(count, Random(0), 10))
    assert len({each.sequence for each in found}) == len(found) == math.factorial(count)
    assert found[0].inversions == 0


def test_a_sample_of_many_orders_begins_as_written_and_follows_the_seed() -> None:
    found = list(orders.plain(8, Random(0), 100))
    assert len({each.sequence for each in found}) == len(found) == 100
    assert found[0].sequence == tuple(range(8))
    assert found == list(orders.plain(8, Random(0), 100))
    assert found != list(orders.plain(8, Random(1), 100))


@pytest.mark.parametrize(("count", "number"), [(1, 1), (2, 6), (3, 90), (4, 2_520), (5, 100)])
def test_orders_in_which_each_event_comes_twice(count: int, number: int) -> None:
    found = list(orders.doubled(count, "repeated", Random(0), 100))
    assert len({each.sequence for each in found}) == len(found) == number
    assert all(sorted(each.sequence) == sorted([*range(count)] * 2) for each in found)


def test_orders_with_delays() -> None:
    found = list(orders.delayed(3, ["a", "b"], Random(0), 10))
    assert len({(each.sequence, *each.delays.items()) for each in found}) == 6 * (9 - 1)
    assert len(list(orders.delayed(6, ["a", "b"], Random(0), 10))) == 10


def test_a_fire_less() -> None:
    order = Order((1, 0, 1, 2), "repeated", {1: "a", 2: "b", 3: "c"}, (3, 7))
    assert order.without(2) == Order((1, 0, 2), "repeated", {1: "a", 2: "c"}, (2, 7))
    assert order.without(3) == Order((1, 0, 1), "repeated", {1: "a", 2: "b"}, None)
