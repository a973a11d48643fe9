"""The linter and the language of conditions: what is legal and hardly meant."""

from __future__ import annotations

import random
from typing import Any

import pytest
from words.tasks import EVENTS, TaskMaker, name_of
from words.values import PATHS, POOLS, kwargs

from triggers_core.backtest import backtest
from triggers_core.engine.configuration import parse_configuration
from triggers_core.exceptions import TriggersError
from triggers_core.views.linter import CODES, Finding, lint


def linted(**tasks: dict[str, Any]) -> list[Finding]:
    return lint(parse_configuration({name: {"run": "x", **raw} for name, raw in tasks.items()}))


def codes(**tasks: dict[str, Any]) -> list[tuple[str, ...]]:
    found = linted(**tasks)
    assert {each.code for each in found} <= set(CODES)
    return [(each.code, *each.tasks) for each in found]


def leaf(trigger: str, key: str = "", **where: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"trigger": trigger, "where": where}
    return {**found, "as": key} if key else found


EMPTY = {"atLeast": 5, "lessThan": 3}


def test_nothing_to_find_in_what_is_meant() -> None:
    assert (
        codes(
            t_ship={
                "after": [
                    "placed",
                    {"anyOf": ["paid", "invoiceAgreed"]},
                    {"atLeast": "placed.items", "of": "packed"},
                ],
                "unless": ["cancelled"],
                "within": "14 days",
                "otherwise": {"late": "shipLate"},
            },
            t_remind={
                "after": ["placed"],
                "unless": [{"anyOf": ["paid", "cancelled"]}],
                "waiting": "2 days",
            },
            t_importPage={"andEvery": "pageReceived"},
            t_report={"after": ["opened", {"atLeast": "opened.pages", "of": "t_importPage"}]},
            t_refund={"after": ["paid", "shipLate"]},
            t_index={
                "after": ["edited"],
                "keeping": "latest",
                "waiting": {"time": "5 minutes", "atMost": "1 hour"},
                "everyTime": True,
            },
            t_batch={"after": [{"atLeast": 10, "of": "scanned"}], "everyTime": True},
            t_late={"after": [leaf("graded", mark={"lessThan": 4})], "within": "1 day"}
            | {"after": [leaf("graded", mark={"lessThan": 4}), "enrolled"]},
            t_two={"after": [leaf("moved", "out", to="out"), leaf("moved", "in", to="in")]},
        )
        == []
    )


# -- what cannot hold ------------------------------------------------------------------------------


def test_a_cycle_whichever_way_is_taken() -> None:
    found = linted(
        t_a={"after": [{"anyOf": ["t_b", "t_c"]}]},
        t_b={"after": ["t_a"]},
        t_c={"after": ["t_a"]},
        t_d={"after": [{"anyOf": ["t_b", "t_c"]}]},
    )
    assert [(each.code, *each.tasks) for each in found] == [
        ("cycle", "t_a", "t_b"),
        ("cycle", "t_c", "t_a"),
        ("never-runs", "t_d"),
    ]
    assert all(each.never_runs for each in found)
    assert "t_b and t_c never come" in found[2].message


def test_no_cycle_where_there_is_another_way() -> None:
    tasks: dict[str, Any] = {"t_b": {"after": ["t_a"]}, "t_a": {}}
    for condition in ({"anyOf": ["t_b", "go"]}, {"atLeast": 1, "of": ["t_b", "go"]}):
        tasks["t_a"] = {"after": [condition]}
        assert [each.code for each in linted(**tasks)] == ["circle"]
    tasks["t_a"] = {"after": [{"atLeast": 2, "of": ["t_b", "go"]}]}
    assert [each.code for each in linted(**tasks)] == ["cycle"]
    # A count may be 0.
    tasks["t_a"] = {"after": ["go", {"atLeast": "go.n", "of": "t_b"}]}
    assert "cycle" not in [each.code for each in linted(**tasks)]


def test_names_that_are_no_tasks() -> None:
    (found,) = linted(t_a={"after": [{"anyOf": ["x", "t_gone"]}]})
    assert (found.code, found.never_runs) == ("unknown-task", False)
    (found,) = linted(t_a={"after": ["x"], "unless": [{"anyOf": ["y", "t_gone"]}]})
    assert (found.code, found.never_runs) == ("unknown-task", False)
    two = linted(t_a={"after": [{"anyOf": ["t_here", "t_gone"]}]})
    assert [each.code for each in two] == ["unknown-task", "unknown-task", "never-runs"]
    # What a task fires otherwise is known.
    assert codes(t_a={"after": ["x", "y"], "otherwise": "t_bad"}, t_b={"after": ["t_bad"]}) == []


def test_a_where_that_nothing_passes() -> None:
    (found,) = linted(t_a={"after": [leaf("paid", amount=EMPTY)]})
    assert (found.code, found.never_runs) == ("never-passes", True)
    assert "its test of amount" in found.message
    (found,) = linted(t_a={"after": [{"anyOf": [leaf("paid", amount=EMPTY), "agreed"]}]})
    assert (found.code, found.never_runs) == ("never-passes", False)
    found, _ = linted(t_a={"after": ["x"], "unless": [leaf("paid", amount=EMPTY)]})
    assert (found.code, found.never_runs) == ("never-passes", False)


def test_more_events_than_a_task_fires() -> None:
    counting: dict[str, Any] = {"after": [{"atLeast": 2, "of": "t_b"}]}
    (found,) = linted(t_a=counting, t_b={"after": ["x"]})
    assert (found.code, found.tasks, found.never_runs) == ("counts-too-many", ("t_a",), True)
    assert codes(t_a=counting, t_b={"after": ["x"], "everyTime": True}) == []
    assert codes(t_a=counting, t_b={"andEvery": "x"}) == []
    assert codes(t_a={"after": [{"atLeast": 1, "of": "t_b"}]}, t_b={"after": ["x"]}) == []


def test_counts_that_an_event_cannot_name() -> None:
    def counted(test: Any) -> list[tuple[str, ...]]:
        count = {"atLeast": "placed.n", "of": "scanned"}
        return codes(t_a={"after": [leaf("placed", n=test), count]})

    assert counted({"atMost": 0}) == [("holds-at-once", "t_a")]
    assert counted([0]) == [("holds-at-once", "t_a")]
    assert counted({"lessThan": 0}) == [("never-passes", "t_a")]
    assert counted("many") == [("never-passes", "t_a")]
    assert counted({"atLeast": 1}) == counted({"atMost": 3}) == []


def test_an_unless_that_holds_before() -> None:
    either = [{"anyOf": ["x", "y"]}]
    (found,) = linted(t_a={"after": ["x"], "unless": either})
    assert (found.code, found.never_runs) == ("after-and-unless", True)
    (found,) = linted(t_a={"after": ["x"]}, t_b={"after": ["t_a"], "unless": either})
    assert (found.code, found.tasks, found.never_runs) == ("never-runs", ("t_b",), True)
    assert "by the time t_a can have finished, x has fired" in found.message
    assert codes(t_a={"after": [{"anyOf": ["x", "z"]}], "unless": ["y"]}) == []
    # Two of them are no certainty where three are needed.
    counted = {"after": [{"atLeast": 2, "of": "x"}]}
    many = [{"atLeast": 3, "of": {"trigger": "x", "as": "many"}}]
    assert codes(t_a={**counted, "unless": many}) == []
    (found,) = linted(t_a={**counted, "unless": [{"trigger": "x", "as": "one"}]})
    assert (found.code, found.never_runs) == ("never-runs", True)


def test_a_where_that_stands_on_both_sides() -> None:
    paid, dear = leaf("paid", amount={"atLeast": 10}), leaf("paid", "dear", amount={"atLeast": 5})
    found, told = linted(t_a={"after": [paid], "unless": [dear]})
    assert (found.code, found.never_runs, told.code) == ("never-runs", True, "unless-where")
    (found,) = linted(
        t_a={"after": [paid], "unless": [leaf("paid", "too", amount={"atLeast": 10.0})]}
    )
    assert (found.code, found.never_runs) == ("after-and-unless", True)
    (found,) = linted(t_a={"after": [paid], "unless": [leaf("paid", "k", amount={"lessThan": 9})]})
    assert found.code == "unless-where"
    assert "also if another one passes paid, for which it waits" in found.message
    (found,) = linted(t_a={"after": ["x"], "unless": [leaf("paid", status="refunded")]})
    assert found.code == "unless-where"
    assert "has ever passed" in found.message


def test_several_conditions_in_unless() -> None:
    (found,) = linted(t_a={"after": ["x"], "unless": ["y", {"anyOf": ["z", "w"]}]})
    assert found.code == "unless-several"
    assert "{'anyOf': […]}" in found.message
    (found,) = linted(t_a={"after": ["x", ["q"]], "unless": ["y", "z"]})
    assert "write {'anyOf': […]} around them" in found.message
    (found,) = linted(t_a={"after": ["x"], "unless": ["y", "z"]})
    assert "fire one more trigger with each of them" in found.message


# -- what decides nothing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        ["x", {"anyOf": ["x", "y"]}],
        [["x", {"anyOf": ["x", "y"]}], "z"],
        ["x", ["z", {"anyOf": ["x", "y"]}]],
        ["x", {"atLeast": 2, "of": ["x", "y", "z"]}],
        [{"anyOf": ["x", ["x", "y"]]}],
        [{"anyOf": ["paid", leaf("paid", "big", amount={"atLeast": 100})]}],
        [leaf("paid", "big", amount={"atLeast": 100}), {"anyOf": ["paid", "y"]}],
        [{"anyOf": ["paid", {"atLeast": 2, "of": {"trigger": "paid", "as": "twice"}}]}],
    ],
)
def test_a_member_that_never_decides(after: Any) -> None:
    assert codes(t_a={"after": after}) == [("shadowed", "t_a")]
    assert ("shadowed", "t_a") in codes(t_a={"after": "q", "unless": [after]})


@pytest.mark.parametrize(
    "after",
    [
        ["x", {"anyOf": ["y", "z"]}],
        [{"anyOf": [["x", "y"], ["x", "z"]]}],
        [{"anyOf": ["x", {"atLeast": 2, "of": ["y", "z"]}]}],
        [{"atLeast": 2, "of": ["x", ["x", "y"], "z"]}],
        ["paid", {"anyOf": [leaf("paid", "big", amount={"atLeast": 100}), "y"]}],
    ],
)
def test_members_that_decide(after: Any) -> None:
    assert "shadowed" not in [each[0] for each in codes(t_a={"after": after})]


def test_one_event_that_fills_two_leaves() -> None:
    big = leaf("paid", "big", amount={"atLeast": 100})
    assert codes(t_a={"after": ["paid", big]}) == [("one-event-for-two", "t_a")]
    assert codes(t_a={"after": [big], "andEvery": "paid"}) == [("one-event-for-two", "t_a")]
    twice = {"trigger": "paid", "as": "again"}
    (found,) = linted(t_a={"after": ["paid", twice]})
    assert "{'atLeast': 2, 'of': 'paid'}" in found.message
    (found,) = linted(t_a={"after": ["paid", {"atLeast": 2, "of": twice}]})
    assert "count one more" in found.message
    small = leaf("paid", "small", amount={"lessThan": 100})
    assert codes(t_a={"after": [small, big]}) == []
    assert codes(t_a={"after": [{"anyOf": [leaf("paid", "x", a=1), leaf("paid", "y", b=1)]}]}) == []


def test_events_that_may_not_come() -> None:
    count = {"atLeast": "placed.n", "of": "scanned"}
    choice = {"anyOf": ["placed", "by hand"]}
    assert codes(t_a={"after": [choice, count]}) == [("may-not-come", "t_a")]
    assert codes(t_a={"after": [{"anyOf": [["placed", count], "by hand"]}]}) == []
    assert codes(t_a={"after": ["placed", {"anyOf": [count, "by hand"]}]}) == []
    assert codes(t_a={"after": [choice], "unless": [count]}) == [("may-not-come", "t_a")]
    (found,) = linted(t_a={"after": [choice], "waiting": {"until": "placed.at"}})
    assert (found.code, "waiting lasts until placed.at" in found.message) == ("may-not-come", True)
    found, *_ = linted(t_a={"after": [choice, "x"], "within": {"of": "placed", "time": 9}})
    assert (found.code, "there is no deadline" in found.message) == ("may-not-come", True)


# -- times and otherwise ---------------------------------------------------------------------------


def test_a_deadline_does_not_cut_a_hold_short() -> None:
    (found,) = linted(t_a={"after": ["x", "y"], "within": "1 day", "waiting": "36 hours"})
    assert found.code == "within-and-waiting"
    assert "its within (1 day) is shorter than its waiting (36 hours)" in found.message
    assert codes(t_a={"after": ["x", "y"], "within": "1 day", "waiting": "1 day"}) == []
    assert (
        codes(
            t_a={"after": ["x", "y"], "within": "1 day"}
            | {"waiting": {"time": "2 hours", "atMost": "1 day"}}
        )
        == []
    )


def test_a_deadline_that_never_decides() -> None:
    for after in (["x"], [{"anyOf": ["x", "y"]}], [{"atLeast": 1, "of": "x"}]):
        assert codes(t_a={"after": after, "within": 10}) == [("within-idle", "t_a")]
    for after in (["x", "y"], [{"atLeast": 2, "of": "x"}], [{"anyOf": ["x", ["y", "z"]]}]):
        assert codes(t_a={"after": after, "within": 10}) == []
    assert codes(t_a={"after": ["x"], "within": 10, "waiting": {"until": "x.at"}}) == []


def test_a_hold_that_ends_before_its_time() -> None:
    waiting = {"time": "1 hour", "atMost": "5 minutes"}
    assert codes(t_a={"after": ["x"], "waiting": waiting}) == [("waiting-cut", "t_a")]


def test_every_time_of_what_comes_once() -> None:
    task = {"after": ["t_b"], "everyTime": True}
    assert codes(t_a=task, t_b={"after": ["x"]}) == [("every-time-once", "t_a")]
    assert codes(t_a=task, t_b={"andEvery": "x"}) == []


def test_reasons_that_never_come() -> None:
    otherwise = {"late": "isLate", "calledOff": "off", "failed": "bad"}
    hears = {"t_b": {"after": [{"anyOf": ["isLate", "off", "bad"]}]}}
    task: dict[str, Any] = {"after": ["x", "y"], "otherwise": otherwise}
    found = linted(t_a=task, **hears)
    assert [each.code for each in found] == ["otherwise-never"] * 2 + ["waits-for-otherwise"] * 2
    assert "it has no within" in found[0].message
    assert "it has no unless" in found[1].message
    assert codes(t_a={**task, "within": 10, "unless": ["z"]}, **hears) == []
    # One trigger for whatever reason is no claim that each may come.
    assert codes(t_a={"after": ["x"], "otherwise": "bad"}, t_b={"after": ["bad"]}) == []


def test_nobody_waits_for_what_is_fired_otherwise() -> None:
    (found,) = linted(t_a={"after": ["x"], "otherwise": "bad"})
    assert found.code == "otherwise-unheard"
    assert "fires bad, for which no task waits" in found.message
    assert (
        codes(t_a={"after": ["x"], "otherwise": "bad"}, t_b={"after": "y", "unless": "bad"}) == []
    )


def test_what_a_task_that_cannot_run_would_fire() -> None:
    dead = {"after": [leaf("x", n=EMPTY)], "otherwise": {"failed": "bad"}}
    found = codes(t_a=dead, t_b={"after": ["bad"]})
    assert found == [("never-passes", "t_a"), ("waits-for-otherwise", "t_b")]


# -- circles ---------------------------------------------------------------------------------------


def circle(first: dict[str, Any], second: dict[str, Any]) -> Finding:
    [found] = linted(t_a=first, t_b=second)
    assert (found.code, found.tasks, found.never_runs) == ("circle", ("t_a", "t_b"), False)
    return found


def test_a_circle_without_end() -> None:
    both = {"everyTime": True}
    begin: dict[str, Any] = {"after": [{"anyOf": ["go", "t_b"]}], **both}
    assert "without end" in circle(begin, {"after": ["t_a"], **both}).message
    assert "without end" in circle(begin, {"andEvery": "t_a"}).message
    again = {"after": [{"anyOf": ["go", "again"]}], "otherwise": {"failed": "bad"}, **both}
    failing = {"after": ["bad"], "otherwise": {"failed": "again"}, **both}
    assert "Limits.cascade_depth" in circle(again, failing).message


def test_a_circle_that_ends() -> None:
    begin: dict[str, Any] = {"after": [{"anyOf": ["go", "t_b"]}], "everyTime": True}
    assert "t_b runs only once" in circle(begin, {"after": ["t_a"]}).message
    slow = circle(begin, {"after": ["t_a", "paid"], "everyTime": True})
    assert "with each event that they wait for besides" in slow.message


def test_no_circle_through_what_never_comes() -> None:
    begin: dict[str, Any] = {"after": [{"anyOf": ["go", "isLate"]}], "everyTime": True}
    task = {"after": ["t_a", "x"], "otherwise": {"late": "isLate"}, "everyTime": True}
    assert "circle" not in [each.code for each in linted(t_a=begin, t_b=task)]
    assert circle(begin, {**task, "within": 10})


# -- against the machine ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_what_the_linter_calls_dead_never_runs(seed: int) -> None:
    rng = random.Random(seed)
    dead = 0
    for _ in range(40):
        pools = {path: rng.choice(sorted(POOLS)) for path in PATHS}
        maker = TaskMaker(rng, pools)
        configuration = {
            name_of(rank): {**maker.task(rank), "run": "r"} for rank in rng.sample(range(6), 4)
        }
        try:
            parsed = parse_configuration(configuration)
        except TriggersError:
            continue
        never = {name for each in lint(parsed) if each.never_runs for name in each.tasks}
        if not never:
            continue
        dead += len(never)
        log = [
            {
                "session": str(session),
                "trigger": rng.choice((*EVENTS, *(f"x_{n}" for n in range(5)))),
                "ts": 1_704_103_200 + 10 * at,
                "kwargs": kwargs(rng, pools, 1_704_103_200 + 10 * at),
            }
            for session in range(8)
            for at in range(20)
        ]
        totals = backtest(parsed, log).tasks
        assert not [name for name in never if totals[name].run], configuration
    assert dead > 0
