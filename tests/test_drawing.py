"""The graph as SVG: layers, states, and names that would like to be markup."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from triggers_core.engine.configuration import Configuration, parse_configuration
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Header
from triggers_core.limits import Limits
from triggers_core.storages.memory import MemoryStore
from triggers_core.testing import SessionDriver
from triggers_core.views.drawing import MOST_NODES, draw
from triggers_core.views.layers import layers_of

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "\"><script>alert(1)</script>&<!-- ]]>'{{ 7*7 }}"


def parsed(**tasks: dict[str, Any]) -> Configuration:
    return parse_configuration({name: {"run": "r", **each} for name, each in tasks.items()})


def drawing_of(configuration: Configuration, header: Header | None = None) -> str:
    drawing, note = draw(configuration, header)
    assert note == ""
    return drawing


def nodes(drawn: str) -> dict[str, str]:
    """Text of a node → its classes."""
    found = {}
    for group in ElementTree.fromstring(drawn).iter(f"{SVG}g"):
        kind = group.get("class", "")
        if kind.startswith("node"):
            found[" | ".join(each.text or "" for each in group.iter(f"{SVG}tspan"))] = kind
    return found


def test_layers() -> None:
    assert layers_of(["a", "b", "t"], [("a", "t"), ("b", "t")]) == [["a", "b"], ["t"]]
    assert layers_of([], []) == []
    # By the longest way; and what nothing leads to stands beside what it leads to.
    lines = [("a", "b"), ("b", "c"), ("a", "c"), ("x", "c")]
    assert layers_of(["a", "b", "c", "x"], lines) == [["a"], ["b", "x"], ["c"]]


def test_circles_are_broken() -> None:
    lines = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "c")]
    assert layers_of(["a", "b", "c"], lines) == [["a"], ["b"], ["c"]]
    drawn = drawing_of(parsed(t_a={"after": ["t_b"]}, t_b={"after": ["t_a"]}))
    assert len(nodes(drawn)) == 2


def test_layers_hold_every_node_once_and_cross_no_line_backwards() -> None:
    names = [f"n{number}" for number in range(40)]
    lines = [(names[a], names[b]) for a in range(40) for b in range(a + 1, 40) if (a * b) % 7 == 1]
    layers = layers_of(names[::-1], lines)
    at = {name: index for index, layer in enumerate(layers) for name in layer}
    assert sorted(at) == sorted(names)
    assert sum(map(len, layers)) == 40
    assert all(at[source] < at[target] for source, target in lines)


def test_the_state_of_a_session() -> None:
    store = MemoryStore()
    session = SessionDriver(store)
    session.configure(
        t_a={"after": ["go"]},
        t_b={"after": ["go", "never"], "within": "2 days"},
        t_c={"after": ["t_b"]},
    )
    session.fire("go")
    session.fail_now("t_a#0")
    snapshot = store.load(session.uid, Query())
    assert nodes(drawing_of(snapshot.configuration, snapshot.header)) == {
        "t_a | ✗ 1 failed": "node task state-failed",
        "t_b | … 1 waiting | within 2 days": "node task state-unstarted",
        "t_c | not begun": "node task state-none",
        "go | ✓ fired": "node trigger state-fired",
        "never | not fired yet": "node trigger state-unfired",
    }


def test_gates_and_what_is_fired_otherwise() -> None:
    drawn = drawing_of(
        parsed(
            t_x={
                "after": ["a", {"anyOf": ["b", {"trigger": "c", "where": {"n": 1}}]}],
                "unless": ["d"],
                "within": "1 hour",
                "otherwise": {"late": "slow", "calledOff": "slow"},
            }
        )
    )
    assert nodes(drawn)["any of"] == "node gate state-none"
    kinds = re.findall(r'class="line line-(\w+)"', drawn)
    assert sorted(kinds) == ["after"] * 4 + ["otherwise", "unless"]
    assert ">n = 1</text>" in drawn
    assert ">late, called off</text>" in drawn


def test_names_are_text() -> None:
    drawn = drawing_of(
        parsed(
            **{
                f"t_{NASTY}": {
                    "after": [{"trigger": NASTY, "where": {"x": NASTY}}],
                    "unless": [{"anyOf": ["a", f"{NASTY}2"]}],
                    "within": "1 hour",
                    "otherwise": f"{NASTY}3",
                }
            }
        )
    )
    tree = ElementTree.fromstring(drawn)
    allowed = ["svg", "title", "defs", "marker", "path", "g", "rect", "text", "tspan"]
    assert {each.tag.removeprefix(SVG) for each in tree.iter()} == set(allowed)
    attributes = {name for each in tree.iter() for name in each.attrib}
    assert not {name for name in attributes if name.startswith("on") or "href" in name}
    assert "style" not in attributes
    assert any(NASTY in (each.text or "") for each in tree.iter(f"{SVG}title"))


def test_secrets_are_masked() -> None:
    drawn = drawing_of(parsed(t={"after": [{"trigger": "a", "where": {"token": "tok_1"}}]}))
    assert "tok_1" not in drawn
    assert "token = " in drawn


def test_what_is_too_large_is_not_drawn() -> None:
    limits = Limits()
    tasks = {f"t_{n}": {"after": [f"e_{n}"], "run": "r"} for n in range(MOST_NODES // 2 + 1)}
    drawing, note = draw(parse_configuration(tasks, limits=limits))
    assert drawing == ""
    assert note.startswith("The graph has 202 nodes and 101 lines")
    assert draw(parse_configuration({})) == ("", "There are no tasks to draw.")


def test_long_names_are_cut_and_kept_in_the_title() -> None:
    name = "t_" + "long " * 30
    drawn = drawing_of(parsed(**{name.strip(): {"after": ["a"]}}))
    width = ElementTree.fromstring(drawn).get("width", "")
    assert float(width) < 600
    assert f"Task {name.strip()}," in drawn


@pytest.mark.parametrize("header", [True, False])
def test_it_stands_alone(header: bool) -> None:
    store = MemoryStore()
    session = SessionDriver(store)
    session.configure(t_a={"after": ["go"]})
    snapshot = store.load(session.uid, Query())
    drawn = drawing_of(snapshot.configuration, snapshot.header if header else None)
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    ElementTree.fromstring(drawn)
