"""The graph of a configuration, as Mermaid and as data: gates, tests, counts, times, otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from triggers_core.engine.configuration import parse_configuration
from triggers_core.views.graph import graph_data, mermaid
from triggers_core.views.wording import span


def drawn(task: dict[str, Any]) -> list[str]:
    """The lines of one task's drawing, names in place of the numbers of nodes."""
    text = mermaid(parse_configuration({"t": {"run": "r", **task}}))
    lines = [line.strip() for line in text.splitlines()[1:]]
    for line in lines:
        node, shaped, name = line.partition('(["')
        if shaped and "|" not in node:
            name = name.removesuffix('"])')
            lines = [_named(each, node, name) for each in lines]
        elif line.split("[")[0][1:].isdigit():
            lines = [_named(each, line.split("[")[0], "t") for each in lines]
    return lines


def _named(line: str, node: str, name: str) -> str:
    return " ".join(name if word == node else word for word in line.split(" "))


def edges(task: dict[str, Any]) -> list[str]:
    return [line for line in drawn(task) if ">" in line and "<br/>" not in line]


def test_plain_tasks_have_no_gates() -> None:
    task = {"after": ["a"], "andEvery": "b", "unless": ["c", "d"]}
    assert edges(task) == [
        "a --> t",
        "b == every ==> t",
        "c -. unless all .-> t",
        "d -. unless all .-> t",
    ]
    configuration = parse_configuration({"t": {"run": "r", **task}})
    data = graph_data(configuration)
    assert list(data) == ["tasks", "triggers", "edges", "mermaid"]
    assert data["tasks"] == [{"name": "t", "run": "r"}]
    assert [list(edge) for edge in data["edges"]] == [["from", "to", "directive"]] * 4


def test_gates() -> None:
    task = {"after": ["a", {"anyOf": ["b", ["c", "d"]]}, {"atLeast": 2, "of": ["e", "f", "g"]}]}
    assert [line for line in drawn(task) if line.startswith("g") and "{{" in line] == [
        'g0{{"any of"}}',
        'g1{{"all of"}}',
        'g2{{"2 of 3"}}',
    ]
    assert edges(task)[:6] == [
        "a --> t",
        "g0 --> t",
        "b --> g0",
        "g1 --> g0",
        "c --> g1",
        "d --> g1",
    ]


def test_gates_of_and_every_and_unless() -> None:
    assert edges({"andEvery": {"anyOf": ["a", "b"]}, "unless": {"anyOf": ["c", "d"]}}) == [
        "g0 == every ==> t",
        "a --> g0",
        "b --> g0",
        "g1 -. unless .-> t",
        "c -.-> g1",
        "d -.-> g1",
    ]
    # An any-of in `after` is none of `andEvery`, even if that is one of its members.
    assert edges({"after": [{"anyOf": ["a", "b"]}], "andEvery": "a"})[-1] == "a == every ==> t"


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ({"atLeast": 3, "of": "a"}, "× 3"),
        ({"trigger": "a", "where": {"x": 'say "no"'}}, "x = 'say #34;no#34;'"),
        ({"trigger": "a", "where": {"x": [1, None]}}, "x = 1 or null"),
        ({"trigger": "a", "where": {"x": {"atLeast": 1, "lessThan": 9}}}, "x ≥ 1, x #60; 9"),
        ({"trigger": "a", "where": {"x": {"not": [True, "b"]}}}, "x is not true or 'b'"),
        ({"trigger": "a", "where": {"x.y": {"given": False}}}, "x.y is not given"),
        ({"trigger": "a", "as": "k"}, "as k"),
        ({"trigger": "a", "where": {"x": list(range(9))}}, "x = 0 or 1 or 2 or 3 or …"),
    ],
)
def test_what_a_leaf_says(condition: Any, label: str) -> None:
    assert edges({"after": [condition]}) == [f'a -->|"{label}"| t']
    assert edges({"after": ["b"], "unless": [condition]})[-1] == f'a -.->|"unless, {label}"| t'


def test_counts_that_an_event_names_and_what_is_kept() -> None:
    task = {
        "after": ["a", {"atLeast": "a.n", "of": "b"}, {"trigger": "c", "where": {"x": 1}}],
        "keeping": {"c": "latest"},
    }
    assert edges(task)[1:] == ['b -->|"× a.n"| t', 'c -->|"x = 1, the latest"| t']
    data = graph_data(parse_configuration({"t": {"run": "r", **task}}))["edges"]
    assert data[1]["count"] == "a.n"
    assert (data[2]["where"], data[2]["keeping"]) == ({"x": 1}, "latest")


def test_times_stand_on_the_node() -> None:
    [node] = [
        line
        for line in drawn(
            {
                "after": ["a"],
                "everyTime": True,
                "within": {"of": "a", "time": "90 minutes"},
                "waiting": {"time": 0.5, "atMost": "2 weeks"},
            }
        )
        if "<br/>" in line
    ]
    small = "".join(
        f"<br/><small>{text}</small>"
        for text in (
            "r",
            "every time",
            "within 90 minutes of a",
            "waiting 0.5 seconds, at most 14 days",
        )
    )
    assert node.endswith(f'["t{small}"]')


def test_otherwise_leads_to_its_triggers() -> None:
    otherwise = {"late": "x", "failed": "x", "calledOff": "y"}
    assert edges({"after": ["a"], "otherwise": otherwise})[1:] == [
        "t -. late, failed .-> x",
        "t -. called off .-> y",
    ]
    assert edges({"after": ["a"], "otherwise": "x"})[1:] == ["t -. otherwise .-> x"]
    data = graph_data(parse_configuration({"t": {"run": "r", "after": "a", "otherwise": "x"}}))
    assert data["triggers"] == ["a", "x"]
    assert data["edges"][1]["why"] == ["late", "failed", "skipped", "calledOff"]


def test_spans_are_exact() -> None:
    assert [span(seconds * 1_000_000) for seconds in (86_400, 129_600, 61, 3_600)] == [
        "1 day",
        "36 hours",
        "61 seconds",
        "1 hour",
    ]
    assert span(1) == "0.000001 seconds"
