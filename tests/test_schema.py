"""The JSON Schema of configurations against the parser: neither refuses what the other accepts.

But what the schema cannot know; that is listed here.
"""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from words.refusals import REFUSED, TAKEN
from words.tasks import TaskMaker
from words.values import PATHS, POOLS

from triggers_core.engine.configuration import DIRECTIVES, parse_configuration
from triggers_core.exceptions import InvalidInput
from triggers_core.limits import Limits
from triggers_core.views.schema import configuration_schema

SCHEMA = configuration_schema({}, Limits().tasks, Limits().condition_width)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

SEVERAL_VALUES = {
    "a count of a latest leaf",
    "a count of a leaf of unless",
    "a count of an all leaf",
    "a count of itself",
    "a count of no leaf",
    "a count of two keys",
    "a counted leaf in unless",
    "a counted leaf stands elsewhere",
    "a counted leaf, twice",
    "an until of a counted leaf",
    "an until of an all leaf",
    "an until of no leaf",
    "an until of unless",
    "atLeast above the number of members",
    "equal members, written otherwise",
    "equal trees",
    "everyTime with a leaf in both",
    "its own name",
    "its own name in andEvery",
    "its own name, below",
    "keeping of a counted leaf",
    "keeping of a leaf of andEvery",
    "keeping of a leaf of unless",
    "keeping of no leaf",
    "one key for two leaves",
    "one key for two triggers",
    "otherwise is a task",
    "otherwise is counted",
    "otherwise is required",
    "within of a counted leaf",
    "within of an all leaf",
    "within of no leaf",
    "within of unless",
}
"""What needs a look at two places at once."""

UNKNOWABLE = SEVERAL_VALUES | {"too deep", "too long"}
"""And what a schema could say only at great length."""


def as_json(task: dict[str, Any]) -> Any:
    """A task as a file would hold it; None when it holds what JSON has no type for."""
    try:
        return json.loads(json.dumps({"t_0": {"run": "x", **task}}, allow_nan=False))
    except (TypeError, ValueError):
        return None


def accepts(read: Any) -> bool:
    try:
        parse_configuration(read)
    except InvalidInput:
        return False
    return True


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["$defs"]["TaskDirectives"]["properties"]) == set(DIRECTIVES)


def test_every_word_is_described_where_an_editor_shows_it() -> None:
    for name, directive in SCHEMA["$defs"]["TaskDirectives"]["properties"].items():
        assert directive["description"], name


@pytest.mark.parametrize("name", [name for name, task in TAKEN.items() if as_json(task)])
def test_it_accepts_what_is_legal(name: str) -> None:
    VALIDATOR.validate(as_json(TAKEN[name]))


@pytest.mark.parametrize("name", [name for name, task in REFUSED.items() if as_json(task)])
def test_it_refuses_what_it_can(name: str) -> None:
    assert VALIDATOR.is_valid(as_json(REFUSED[name])) == (name in UNKNOWABLE)


@pytest.mark.parametrize(
    "task",
    [
        {"after": ["placed"], "within": {"of": "placed", "time": 3.5}},
        {"after": ["placed"], "waiting": {"until": "placed.ship.on"}},
        {"after": ["placed"], "waiting": "0.5 hours"},
        {"after": "placed", "unless": {"atLeast": 2, "of": "bounced"}},
        {"after": [["a", ["b", {"anyOf": [["c", "d"], "e"]}]]]},
        {"after": [{"trigger": "a.b", "where": {"x": None, "y.z": [1, "a", True, None]}}]},
        {"andEvery": {"anyOf": ["a", {"trigger": "b", "as": "k", "where": {"n": 1}}]}},
        {"after": [], "andEvery": {"trigger": "page", "where": {"n": {"given": True}}}},
        {"after": ["a", "a", "b"], "keeping": {"a": "all", "b": "first"}},
        {"after": ["a"], "keeping": {}, "otherwise": {}, "everyTime": None, "waiting": None},
        {"after": ["a"], "otherwise": {"late": "x", "failed": "y", "skipped": "y"}},
        {"after": ["a"], "andEvery": None, "everyTime": True},
    ],
)
def test_more_that_is_legal(task: dict[str, Any]) -> None:
    assert accepts({"t_0": {"run": "x", **task}})
    VALIDATOR.validate(as_json(task))


@pytest.mark.parametrize(
    "task",
    [
        {"after": ["a"], "waiting": "0 days"},
        {"after": ["a"], "waiting": {"time": "1 day", "of": "a"}},
        {"after": ["a"], "waiting": {"until": "a.b."}},
        {"after": ["a"], "within": {"time": "1 day"}},
        {"after": ["a"], "within": "1 day "},
        {"after": ["a"], "within": 315_619_201},
        {"after": ["a"], "otherwise": ["x"]},
        {"after": ["a"], "otherwise": {"late": ""}},
        {"after": ["a"], "everyTime": "yes"},
        {"after": ["a", 1]},
        {"after": [{"trigger": "a", "anyOf": ["b"]}]},
        {"after": [{"anyOf": ["a"], "atLeast": 1, "of": ["b"]}]},
        {"after": [{"atLeast": 2}]},
        {"after": [{"of": ["a"]}]},
        {"after": [{"atLeast": "a.n", "of": ["a", "b"]}]},
        {"after": [{"atLeast": 2, "of": {"anyOf": ["a", "b"]}}]},
        {"after": [{"trigger": "a", "where": [1]}]},
        {"after": [{"trigger": "a", "where": {"x": {"y": {"z": 1}}}}]},
        {"after": ["a\u2028"]},
        {"after": ["a"], "unless": [[]]},
        {"andEvery": {"atLeast": 2, "of": "a"}},
        {"andEvery": "a", "everyTime": True},
    ],
)
def test_more_that_is_refused(task: dict[str, Any]) -> None:
    assert not accepts({"t_0": {"run": "x", **task}})
    assert not VALIDATOR.is_valid(as_json(task))


def mutated(task: Any, rng: random.Random) -> Any:
    """A task with something replaced, dropped or added, mostly to be refused then."""
    task = deepcopy(task)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            places.append((value, key))
            if isinstance(each, dict | list):
                walk(each)

    walk(task)
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.3:
        del holder[key]
    elif kind < 0.4 and isinstance(holder, dict):
        holder[rng.choice(("where", "as", "atLeast", "anyOf", "time", "of", "late"))] = "b"
    else:
        other, its = rng.choice([place for place in places if place[0] is not holder] or places)
        values = (None, 0, 1, -1, 2.5, True, "", "b", [], {}, ["b"], {"anyOf": ["b"]}, "1 day")
        holder[key] = deepcopy(rng.choice((*values, other[its])))
    if not task.get("unless", True):
        task["unless"] = []  # the parser takes whatever is empty for none, an empty text too
    return task


@pytest.mark.parametrize("seed", range(20))
def test_what_the_parser_accepts_the_schema_accepts(seed: int) -> None:
    rng = random.Random(seed)
    accepted = 0
    for _ in range(100):
        pools = {path: rng.choice(sorted(POOLS)) for path in PATHS}
        read = as_json(TaskMaker(rng, pools).task(3))
        if read is None:
            continue
        read = {"t_3": read["t_0"]}
        for _ in range(3):
            if accepts(read):
                accepted += 1
                VALIDATOR.validate(read)
            read = {"t_3": mutated(read["t_3"], rng)}
    assert accepted > 20
