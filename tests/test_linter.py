"""The linter, rule by rule: what it finds, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.configuration import parse_configuration
from triggers_core.views.linter import Finding, lint
from triggers_core.views.spelling import alike


def linted(**tasks: dict[str, Any]) -> list[Finding]:
    return lint(parse_configuration({name: {"run": "x", **raw} for name, raw in tasks.items()}))


def codes(**tasks: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(each.code, *each.tasks) for each in linted(**tasks)]


def test_nothing_to_find() -> None:
    assert (
        codes(
            t_a={"after": ["x"]},
            t_b={"after": ["t_a"], "andEvery": "page", "unless": ["cancelled"]},
            t_c={"after": ["t_a", "t_b"], "unless": ["late"]},
        )
        == []
    )


def test_two_tasks_that_wait_for_each_other() -> None:
    assert codes(t_a={"after": ["t_b"]}, t_b={"andEvery": "t_a"}) == [("cycle", "t_a", "t_b")]


def test_a_longer_cycle_and_what_hangs_on_it() -> None:
    found = linted(
        t_free={"after": ["x"]},
        t_a={"after": ["x", "t_c"]},
        t_b={"after": ["t_a"]},
        t_c={"after": ["t_b"]},
        t_behind={"after": ["t_c"]},
        t_far={"after": ["t_behind"]},
    )
    assert [(each.code, *each.tasks) for each in found] == [
        ("cycle", "t_a", "t_c", "t_b"),
        ("never-runs", "t_behind"),
        ("never-runs", "t_far"),
    ]
    assert "t_a → t_c → t_b → t_a" in found[0].message
    assert all(each.never_runs for each in found)


def test_two_cycles_that_share_a_task_are_both_told() -> None:
    found = codes(t_a={"after": ["t_b"]}, t_b={"after": ["t_a", "t_c"]}, t_c={"after": ["t_b"]})
    assert found == [("cycle", "t_a", "t_b"), ("cycle", "t_c", "t_b")]


def test_tasks_that_call_each_other_off_are_no_cycle() -> None:
    assert (
        codes(t_a={"after": ["x"], "unless": ["t_b"]}, t_b={"after": ["y"], "unless": ["t_a"]})
        == []
    )


def test_a_task_that_is_none() -> None:
    (found,) = linted(t_ship={"after": ["x"]}, t_mail={"after": ["t_shipp"]})
    assert (found.code, found.tasks, found.never_runs) == ("unknown-task", ("t_mail",), True)
    assert "Did you mean 't_ship'?" in found.message
    (found,) = linted(t_ship={"after": ["x"], "unless": ["t_cancelOrder"]})
    assert (found.code, found.never_runs) == ("unknown-task", False)
    assert "mean" not in found.message


def test_a_trigger_in_after_and_unless() -> None:
    (found,) = linted(t_a={"after": ["x"], "unless": ["x"]})
    assert (found.code, found.never_runs) == ("after-and-unless", True)
    (found,) = linted(t_a={"andEvery": "x", "unless": ["x"]})
    assert (found.code, found.never_runs) == ("after-and-unless", True)


def test_one_of_several_unless_in_after_as_well() -> None:
    found = linted(t_a={"after": ["x"], "unless": ["x", "y"]})
    assert [(each.code, each.never_runs) for each in found] == [
        ("after-and-unless", False),
        ("unless-several", False),
    ]


def test_an_unless_that_has_always_fired_upstream() -> None:
    tasks = {
        "t_a": {"after": ["x"]},
        "t_b": {"after": ["t_a"]},
        "t_c": {"after": ["t_b"], "unless": ["x"]},
        "t_d": {"after": ["t_c"]},
    }
    found = linted(**tasks)
    assert [(each.code, *each.tasks) for each in found] == [
        ("never-runs", "t_c"),
        ("never-runs", "t_d"),
    ]
    # Not certain: t_b could run without y.
    tasks["t_c"]["unless"] = ["x", "y"]
    assert [each.code for each in linted(**tasks)] == ["unless-several"]


def test_what_the_linter_calls_dead_is_dead() -> None:
    """The rules against the machine: no task that can never run runs, whatever fires."""
    from triggers_core.backtest import backtest

    configuration = {
        "t_a": {"after": ["x"], "run": "r"},
        "t_up": {"after": ["t_a"], "unless": ["x"], "run": "r"},
        "t_both": {"after": ["x", "y"], "unless": ["y"], "run": "r"},
        "t_one": {"after": ["t_two", "x"], "run": "r"},
        "t_two": {"after": ["t_one"], "run": "r"},
        "t_behind": {"after": ["t_two"], "run": "r"},
        "t_ghost": {"after": ["t_gone"], "run": "r"},
    }
    findings = lint(parse_configuration(configuration))
    dead = {name for each in findings if each.never_runs for name in each.tasks}
    assert dead == set(configuration) - {"t_a"}
    log = [{"session": s, "trigger": t} for s, order in enumerate(("xyxy", "yxxy")) for t in order]
    log = [{**event, "session": str(event["session"])} for event in log]
    totals = backtest(configuration, log).tasks
    assert {name for name, each in totals.items() if each.run} == {"t_a"}


def test_names_that_are_spelled_almost_alike() -> None:
    (found,) = linted(
        t_a={"after": ["pageReceived"]},
        t_b={"after": ["x"], "andEvery": "pageRecieved"},
    )
    assert (found.code, found.tasks) == ("near-miss", ("t_a", "t_b"))
    assert found.message.startswith("'pageReceived' (in t_a) and 'pageRecieved' (in t_b)")


def test_parameters_for_a_trigger_that_is_spelled_otherwise() -> None:
    (found,) = linted(
        t_a={"after": ["pageReceived"], "withParams": {"pageReceivd": {"a": 1}}},
    )
    assert found.code == "near-miss"


def test_two_tasks_may_have_names_that_are_alike() -> None:
    assert codes(t_shipped={"after": ["x"]}, t_skipped={"after": ["y"]}) == []


def test_a_trigger_may_be_called_as_a_task_without_its_prefix() -> None:
    assert codes(t_importSubject={"after": ["importSubject"]}) == []


@pytest.mark.parametrize(
    "pair",
    [
        ("pageReceived", "pageRecieved"),  # changed places
        ("pageReceived", "pagReceived"),  # one too few
        ("pageReceived", "pagesReceived"),  # one too many
        ("pageReceived", "pageReceivet"),  # a wrong one
        ("pageReceived", "page_received"),
        ("page received", "page  received"),
        ("PageReceived", "PAGERECEIVED"),
        ("T06 Determine necessity", "T06  Determine necessity"),
        ("cancelled", "canceled"),
    ],
)
def test_a_slip(pair: tuple[str, str]) -> None:
    assert [set(found) for found in alike(pair)] == [set(pair)]


@pytest.mark.parametrize(
    "pair",
    [
        ("page1", "page2"),
        ("T07-1 Draft advice", "T07-2 Draft advice"),
        ("stepA", "stepB"),
        ("locked", "unlocked"),
        ("opened", "reopened"),
        ("connected", "disconnected"),
        ("paid", "said"),
        ("left", "lift"),
        ("importSubject", "t_importSubject"),
        ("questionnaireCompleted", "questionnaireStarted"),
    ],
)
def test_no_slip(pair: tuple[str, str]) -> None:
    assert alike(pair) == []
