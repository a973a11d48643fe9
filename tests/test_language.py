"""The language of conditions: what is read, in which normal form, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from words.reference import oracle_or_skip

from triggers_core.engine.conditions import Group, Leaf, Reference
from triggers_core.engine.configuration import Configuration, Task, parse_configuration
from triggers_core.engine.durations import read_duration
from triggers_core.engine.features import FEATURES
from triggers_core.engine.records import Instance
from triggers_core.exceptions import InvalidConfiguration, LimitExceeded
from triggers_core.limits import Limits


def task(name: str = "t_x", /, **directives: Any) -> Task:
    return parse_configuration({name: {"run": "x", **directives}}).tasks[name]


def shape(condition: Leaf | Group) -> Any:
    if isinstance(condition, Leaf):
        return condition.key
    return (condition.least, *map(shape, condition.members))


# -- what is read ----------------------------------------------------------------------------------

SHIP = {
    "after": [
        "placed",
        {"anyOf": ["paid", "invoiceAgreed"]},
        {"atLeast": "placed.items", "of": "packed"},
    ],
    "unless": ["cancelled"],
    "within": "14 days",
    "otherwise": {"late": "shipLate"},
}


def test_a_rule() -> None:
    rule = task(**SHIP).rule
    assert shape(rule.required) == (3, "placed", (1, "paid", "invoiceAgreed"), "packed")
    assert rule.unless is not None
    assert shape(rule.unless) == (1, "cancelled")
    assert rule.leaves["packed"].count == Reference("placed", "items")
    assert [leaf.key for leaf in rule.shared] == ["packed"]
    assert rule.within == 14 * 86_400 * 1_000_000
    assert rule.otherwise == {"late": "shipLate"}
    assert rule.features == {"any-of", "at-least", "within", "otherwise"}


def test_leaves_with_one_key_are_one_leaf() -> None:
    paid = {"trigger": "paid", "where": {"amount": 1}}
    again = {"trigger": "paid", "where": {"amount": Decimal("1.0")}}
    rule = task(after=[paid, ["go", again]], unless=[{"anyOf": [again, "stop"]}]).rule
    assert list(rule.leaves) == ["paid", "go", "stop"]
    leaf = rule.leaves["paid"]
    assert (leaf.required, leaf.unless, leaf.every) == (True, True, False)
    assert rule.required.members[0] is leaf


def test_a_leaf_of_and_every_that_is_in_after_is_needed_once() -> None:
    rule = task(after=["a", "b"], andEvery="a").rule
    assert shape(rule.required) == (2, "a", "b")
    assert [leaf.key for leaf in rule.every] == ["a"]
    rule = task(after=["a"], andEvery={"anyOf": ["b", "c"]}).rule
    assert shape(rule.required) == (2, "a", (1, "b", "c"))
    assert [leaf.key for leaf in rule.every] == ["b", "c"]


def test_keeping_of_all_leaves_leaves_out_those_of_and_every_and_counted_ones() -> None:
    rule = task(after=["a", "b", {"atLeast": 2, "of": "c"}], andEvery="b", keeping="latest").rule
    assert {key: leaf.keep for key, leaf in rule.leaves.items()} == {
        "a": "latest",
        "b": "first",
        "c": "count",
    }


def test_records_are_shared_by_leaves_about_the_same_events() -> None:
    big = {"trigger": "paid", "where": {"amount": {"atLeast": 100}}}
    configuration = parse_configuration(
        {
            "t_a": {"after": ["go", {**big, "as": "big"}], "run": "x"},
            "t_b": {
                "after": [{"atLeast": 2, "of": big}, "go"],
                "keeping": {"go": "latest"},
                "waiting": {"until": "go.at.time"},
                "run": "x",
            },
            "t_c": {"after": "go", "keeping": "latest", "waiting": {"until": "go.end"}, "run": "x"},
        }
    )
    tasks = configuration.tasks
    own, counted = tasks["t_a"].rule.leaves["big"], tasks["t_b"].rule.leaves["paid"]
    assert own.record == counted.record
    assert len(own.record) == 12
    assert tasks["t_a"].rule.leaves["go"].record == ""
    latest = tasks["t_b"].rule.leaves["go"].record
    assert set(configuration.records) == {own.record, latest}
    assert {key: len(leaves) for key, leaves in configuration.recorded.items()} == {
        "paid": 1,
        "go": 1,
    }
    assert configuration.read_paths == {latest: ("at.time", "end")}
    assert not configuration.plain


def test_the_words_of_the_first_version_use_no_feature() -> None:
    configuration = parse_configuration(
        {
            "t_a": {
                "after": ["a", "b"],
                "andEvery": "c",
                "unless": ["d"],
                "withParams": {"a": {"n": 1}},
                "run": "x",
                "using": "threading",
                "extra": {"k": [1]},
            },
            "t_b": {"andEvery": "t_a", "run": "y"},
        }
    )
    assert configuration.plain
    assert configuration.requires == frozenset()
    # As the first version wrote it, so that old and new processes share what is stored.
    assert configuration.hash == "6cfdf93fc8c80c6c6394fbabb1b7c159"


# -- normal forms ----------------------------------------------------------------------------------

TWO_DAYS = timedelta(days=2)


@pytest.mark.parametrize(
    ("written", "normal", "features"),
    [
        ({"after": "a"}, {"after": ["a"]}, ""),
        ({"after": ("a", "b", "a")}, {"after": ["a", "b"]}, ""),
        ({"after": {"b", "a"}}, {"after": ["a", "b"]}, ""),
        ({"after": iter(["a"])}, {"after": ["a"]}, ""),
        ({"after": ["a"], "unless": "b"}, {"after": ["a"], "unless": ["b"]}, ""),
        ({"after": ["a"], "unless": None}, {"after": ["a"]}, ""),
        ({"after": [{"trigger": "a"}]}, {"after": ["a"]}, ""),
        ({"after": [{"trigger": "a", "where": {}}]}, {"after": ["a"]}, ""),
        ({"after": {"trigger": "a", "as": "a"}}, {"after": ["a"]}, ""),
        ({"andEvery": {"trigger": "a"}}, {"after": [], "andEvery": "a"}, ""),
        (
            {"after": {"anyOf": ("a", {"trigger": "b"})}},
            {"after": [{"anyOf": ["a", "b"]}]},
            "any-of",
        ),
        ({"after": [("a", "b")]}, {"after": [["a", "b"]]}, "lists"),
        (
            {"after": {"of": {"trigger": "a"}, "atLeast": 2}},
            {"after": [{"atLeast": 2, "of": "a"}]},
            "at-least",
        ),
        (
            {"after": [{"as": "k", "where": {"n": (1, 2)}, "trigger": "a"}]},
            {"after": [{"trigger": "a", "where": {"n": [1, 2]}, "as": "k"}]},
            "where as",
        ),
        (
            {"andEvery": {"anyOf": ["a", {"trigger": "b", "as": "k"}]}},
            {"after": [], "andEvery": {"anyOf": ["a", {"trigger": "b", "as": "k"}]}},
            "any-of as",
        ),
        ({"after": "a", "keeping": {}}, {"after": ["a"]}, ""),
        ({"after": "a", "keeping": "all"}, {"after": ["a"], "keeping": "all"}, "keeping"),
        ({"after": "a", "everyTime": False}, {"after": ["a"]}, ""),
        ({"after": "a", "everyTime": True}, {"after": ["a"], "everyTime": True}, "every-time"),
        ({"after": "a", "waiting": TWO_DAYS}, {"after": ["a"], "waiting": 172_800}, "waiting"),
        (
            {"after": "a", "waiting": {"time": "5 minutes", "atMost": Decimal("0.5")}},
            {"after": ["a"], "waiting": {"time": "5 minutes", "atMost": 0.5}},
            "waiting",
        ),
        (
            {"after": "a", "waiting": {"until": "a.b.c"}},
            {"after": ["a"], "waiting": {"until": "a.b.c"}},
            "waiting",
        ),
        ({"after": "a", "within": 5}, {"after": ["a"], "within": 5}, "within"),
        (
            {"after": "a", "within": {"time": "1 day", "of": "a"}},
            {"after": ["a"], "within": {"of": "a", "time": "1 day"}},
            "within",
        ),
        ({"after": "a", "otherwise": {}}, {"after": ["a"]}, ""),
        ({"after": "a", "otherwise": "o"}, {"after": ["a"], "otherwise": "o"}, "otherwise"),
        (
            {"after": "a", "otherwise": {"calledOff": "o"}},
            {"after": ["a"], "otherwise": {"calledOff": "o"}},
            "otherwise",
        ),
    ],
)
def test_normal_forms(written: Any, normal: Any, features: str) -> None:
    configuration = parse_configuration({"t_x": {"run": "x", **written}})
    found = configuration.tasks["t_x"]
    assert found.as_dict() == {"run": "x", **normal}
    assert found.features == frozenset(features.split())
    assert configuration.requires == {f"feature:{each}>=0.2" for each in features.split()}
    assert found.plain is not bool(features)
    for again in (parse_configuration(configuration), Configuration.decoded(configuration.encoded)):
        assert again.encoded == configuration.encoded
        assert again.tasks == configuration.tasks
        assert again.requires == configuration.requires
        assert shape(again.tasks["t_x"].rule.required) == shape(found.rule.required)


def test_every_feature_is_known() -> None:
    used = task(
        after=[
            ["a", {"trigger": "b", "as": "k", "where": {"n": 1}}],
            {"anyOf": ["c", {"atLeast": 2, "of": "d"}]},
        ],
        keeping={"a": "all"},
        everyTime=True,
        waiting=1,
        within=2,
        otherwise="o",
    ).features
    assert used == set(FEATURES)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"after": ["a"]}, {"after": "a"}, True),
        (
            {"after": "a", "extra": {"k": 1, "l": 2}},
            {"after": "a", "extra": {"l": 2, "k": 1}},
            True,
        ),
        ({"after": ["a"], "extra": {"k": 1}}, {"after": ["a"], "extra": {"k": True}}, False),
        ({"after": ["a"], "extra": {"k": 1}}, {"after": ["a"], "extra": {"k": 1.0}}, False),
        ({"after": ["a", "b"]}, {"after": ["b", "a"]}, False),
        (
            {"after": [{"trigger": "a", "where": {"n": 1}}]},
            {"after": [{"trigger": "a", "where": {"n": True}}]},
            False,
        ),
        ({"after": ["a"], "within": 60}, {"after": ["a"], "within": timedelta(minutes=1)}, True),
    ],
)  # fmt: skip
def test_same(one: Any, other: Any, same: bool) -> None:
    assert task(**one).same_as(task(**other)) is same


# -- rooms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directives", "instance", "expected"),
    [
        ({"after": ["a", "b"], "unless": ["c", "d"]}, {}, "a b c d"),
        ({"after": ["a", "b"], "unless": ["c", "d"]}, {"taken": "a", "noted": "d"}, "b c"),
        ({"after": ["a", "b"], "unless": ["c", "d"]}, {"noted": "d", "parent": "t_x#0"}, "c"),
        ({"after": ["a", "b"], "unless": ["b", "c"]}, {"taken": "a"}, "b c"),
        ({"after": ["a", "b"], "unless": ["b", "c"]}, {"noted": "b"}, "a c"),
        ({"after": ["a", "b"], "unless": ["b", "c"]}, {"taken": "b"}, "a c"),
        ({"after": ["a", "b"], "unless": ["b", "c"]}, {"parent": "t_x#0"}, "c"),
        ({"after": ["a"], "andEvery": {"anyOf": ["b", "c"]}}, {}, "a b c"),
        ({"after": ["a"], "andEvery": {"anyOf": ["b", "c"]}}, {"taken": "b"}, "a"),
        ({"andEvery": {"anyOf": ["b", "c"]}, "unless": "b"}, {"noted": "b"}, ""),
        ({"andEvery": {"trigger": "b", "as": "k"}}, {}, "b"),
        ({"after": ["a", {"atLeast": 2, "of": "b"}]}, {}, "a"),
        ({"after": ["a", "b"], "keeping": {"b": "latest"}}, {"taken": "a"}, ""),
        ({"after": [{"trigger": "a", "as": "k"}, "a", "b"]}, {"taken": "k"}, "a b"),
        ({"after": [{"trigger": "a", "as": "k"}]}, {"taken": "k"}, ""),
    ],
)  # fmt: skip
def test_open_triggers(directives: Any, instance: Any, expected: str) -> None:
    waiting = Instance(
        task="t_x",
        number=1,
        parent=instance.get("parent", ""),
        taken={key: [0] for key in instance.get("taken", "").split()},
        noted={key: [0] for key in instance.get("noted", "").split()},
    )
    assert task(**directives).open_triggers(waiting) == set(expected.split())


# -- durations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "micro"),
    [
        ("30 seconds", 30_000_000),
        ("1 minute", 60_000_000),
        ("2 hour", 7_200_000_000),
        ("1.5 days", 129_600_000_000),
        ("2 weeks", 1_209_600_000_000),
        ("3653 days", 315_619_200_000_000),
        ("0.0000015 seconds", 2),
        (5, 5_000_000),
        (0.1, 100_000),
        (Decimal("0.000001"), 1),
        (timedelta(microseconds=1), 1),
        (3_653 * 86_400, 315_619_200_000_000),
    ],
)
def test_durations(written: Any, micro: int) -> None:
    found, plain = read_duration("t_x.within", written)
    assert (found, type(found)) == (micro, int)
    assert read_duration("t_x.within", plain) == (micro, plain)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("2d", "'2d' is no duration: write '2 days'"),
        ("90 min", "write '90 minutes'"),
        ("1h30m", "write '90 minutes'"),
        ("1 hour and 30 seconds", "write '3630 seconds'"),
        ("14 Days", "write '2 weeks'"),
        ("5  minutes", "write '5 minutes'"),
        ("1 month", "write '30 seconds', '5 minutes'.*or a number of seconds"),
        ("P2D", "is no duration"),
        ("1:30", "is no duration"),
        ("", "is no duration"),
        ("5", "is no duration"),
        ("-5 seconds", "is no duration"),
        ("٣ days", "is no duration"),
        ("5 minutes\n", "is no duration"),
        ("9" * 5_000 + " days", "is no duration"),
        ("0 seconds", "expected a duration of a microsecond at least"),
        ("3654 days", r"3,653 days \(ten years\) at most, got '3654 days'"),
        (0, "a microsecond at least"),
        (-1, "a microsecond at least"),
        (1e-9, "a microsecond at least"),
        (float("nan"), "a microsecond at least"),
        (float("inf"), "at most"),
        (Decimal("1E+999999999"), "at most"),
        (Decimal("1E-999999999"), "at least"),
        (Decimal("sNaN"), "at least"),
        (10**1_000, "at most"),
        (timedelta(days=-1), "at least"),
        (timedelta.max, "at most"),
        (True, "expected a duration, got True: write '30 seconds'"),
        ([5], "expected a duration"),
        (None, "expected a duration"),
    ],
)
def test_no_durations(written: Any, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        read_duration("t_x.within", written)
    assert caught.value.path == "t_x.within"
    assert len(str(caught.value)) < 300


# -- refusals --------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = [found]
    return found


ANY = {"anyOf": ["a", "b"]}
BIG = {"trigger": "a", "where": {"n": 1}}
TWICE = {"atLeast": 2, "of": "a"}
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # The top of a directive.
    ({"after": b"a"}, "after", "expected a list of trigger names, got b'a': or of conditions"),
    ({"after": None}, "after", "expected a list of trigger names, got None"),
    ({"after": {"go": 1}}, "after", "expected a list of trigger names, got {'go': 1}"),
    ({"after": []}, "after", "the task waits for nothing"),
    ({"after": ""}, "after", "1 to 200 printable characters"),
    ({"after": ["a", 3]}, "after[1]", "got 3 of type int"),
    ({"after": ["a", {"x"}]}, "after[1]", "pass a str"),
    ({"after": (str(n) for n in range(10_001))}, "after", "more than 10,000 names"),
    ({"after": ["a", "t_x"]}, "after", "a task cannot wait for its own name: it would never run"),
    ({"after": [{"anyOf": ["a", {"trigger": "t_x", "as": "k"}]}]}, "after", "its own name"),
    ({"andEvery": {"anyOf": ["a", "t_x"]}}, "andEvery", "its own name"),
    # Words.
    ({"after": [{"anyof": ["a"]}]}, "after[0]", "unknown word 'anyof': did you mean 'anyOf'?"),
    ({"after": {"anyof": ["a"]}}, "after", "unknown word 'anyof': did you mean 'anyOf'?"),
    ({"after": [{"or": ["a"]}]}, "after[0]", "unknown word 'or': did you mean 'anyOf'?"),
    ({"after": [{"allOf": ["a"]}]}, "after[0]", "are a plain list of them"),
    ({"after": [{"not": "a"}]}, "after[0]", "belongs in 'unless'"),
    ({"after": [{"trigger": "a", "were": {}}]}, "after[0]", "'were': did you mean 'where'?"),
    ({"after": [{"trigger": "a", "atLeast": 2}]}, "after[0]", "'of': {'trigger': …}}"),
    ({"after": [{"trigger": "a", "anyOf": ["b"]}]}, "after[0]", "is a condition of its own"),
    ({"after": [{"where": {"n": 1}}]}, "after[0]", "no trigger is named in .*: add 'trigger'"),
    ({"after": [{}]}, "after[0]", "no trigger is named"),
    ({"after": [{"anyOf": ["a"], "as": "k"}]}, "after[0]", "'as' beside 'anyOf'"),
    ({"after": [{"atLeast": 2}]}, "after[0]", "'of' is missing: write"),
    ({"after": [{"of": ["a"]}]}, "after[0]", "'atLeast' is missing: write"),
    ({"after": [{"atLeast": 2, "of": "a", "as": "k"}]}, "after[0]", "belong to the trigger that"),
    # Leaves.
    ({"after": [{"trigger": 3}]}, "after[0].trigger", "got 3 of type int"),
    ({"after": [{"trigger": "a", "as": ""}]}, "after[0].as", "key: expected 1 to 200"),
    ({"after": [{"trigger": "a", "as": "b.c"}]}, "after[0].as", "holds a dot.*write 'b_c'"),
    ({"after": [{"trigger": "a", "where": None}]}, "after[0].where", "expected a mapping"),
    (
        {"after": ["x", {"anyOf": [{"trigger": "a", "where": {"amount": {"atleast": 1}}}]}]},
        "after[1].anyOf[0].where.amount",
        "unknown word 'atleast': did you mean 'atLeast'?",
    ),
    (
        {"after": [{"atLeast": 2, "of": {"trigger": "a", "where": {"n": {}}}}]},
        "after[0].of.where.n",
        "an empty test",
    ),
    ({"after": ["a", BIG]}, "after[1]", "has the key 'a' and other tests: give one .* with 'as'"),
    ({"after": ["a"], "unless": [BIG]}, "unless[0]", "and other tests"),
    ({"after": ["a", {"trigger": "b", "as": "a"}]}, "after[1]", "has the key 'a' and other events"),
    # Lists, anyOf, atLeast.
    ({"after": [[]]}, "after[0]", "an empty list: name what it is about, or leave it out"),
    ({"after": [{"anyOf": []}]}, "after[0].anyOf", "an empty list"),
    ({"after": [{"anyOf": "a"}]}, "after[0].anyOf", "expected a list, got 'a'"),
    ({"after": [{"anyOf": {"a"}}]}, "after[0].anyOf", "expected a list, got {'a'}"),
    ({"after": [{"atLeast": 1, "of": []}]}, "after[0].of", "an empty list"),
    ({"after": [{"atLeast": 1, "of": {"a"}}]}, "after[0].of", "expected one trigger or a list"),
    ({"after": [{"atLeast": 1, "of": ANY}]}, "after[0].of", "expected one trigger or a list"),
    ({"after": [{"atLeast": 0, "of": ["a"]}]}, "after[0].atLeast", "a whole number from 1 to 1"),
    ({"after": [{"atLeast": 3, "of": ["a", "b"]}]}, "after[0].atLeast", "from 1 to 2.*got 3"),
    ({"after": [{"atLeast": True, "of": ["a"]}]}, "after[0].atLeast", "got True"),
    ({"after": [{"atLeast": 1.0, "of": ["a"]}]}, "after[0].atLeast", "got 1.0"),
    ({"after": ["a", {"atLeast": "a.n", "of": ["b"]}]}, "after[1].atLeast", "of one trigger, not"),
    ({"after": [{"atLeast": 0, "of": "a"}]}, "after[0].atLeast", "of 1 or more.*got 0"),
    ({"after": [{"atLeast": True, "of": "a"}]}, "after[0].atLeast", "of 1 or more.*got True"),
    ({"after": [{"atLeast": 2.0, "of": "a"}]}, "after[0].atLeast", "of 1 or more.*got 2.0"),
    ({"after": [{"anyOf": ["a", "a"]}]}, "after[0].anyOf[1]", r"equal to t_x.after\[0\].anyOf"),
    ({"after": ["a", {"trigger": "a"}]}, "after[1]", r"equal to t_x.after\[0\]: one of them is"),
    ({"after": [ANY, "c", ANY]}, "after[2]", r"equal to t_x.after\[0\]"),
    ({"after": "a", "unless": [["b"], ["b"]]}, "unless[1]", r"equal to t_x.unless\[0\]"),
    ({"after": ["a", TWICE]}, "after[1].of", "'a' is counted and also stands elsewhere.*'as'"),
    ({"after": [TWICE], "unless": ["a"]}, "unless[0]", "'a' is counted and also stands elsewhere"),
    ({"after": nested(10)}, "after[0]" + "[0]" * 8, "more than 8 levels deep .*condition_depth"),
    ({"after": CIRCLE}, "after[0]" + "[0]" * 8, "more than 8 levels deep"),
    ({"after": [[str(n) for n in range(101)]]}, "after[0]", "101 members, .* 100 .*tion_width"),
    # andEvery.
    ({"andEvery": ["a"]}, "andEvery", r"expected one trigger name, got \['a'\]: or one leaf, or"),
    ({"andEvery": TWICE}, "andEvery", "expected one trigger name"),
    ({"andEvery": 3}, "andEvery", "expected one trigger name, got 3"),
    ({"andEvery": {"anyOf": "a"}}, "andEvery.anyOf", "expected a list"),
    ({"andEvery": {"anyOf": [["a"]]}}, "andEvery.anyOf[0]", "pass a str"),
    ({"andEvery": {"anyOf": [ANY]}}, "andEvery.anyOf[0]", "'anyOf' is a condition of its own"),
    ({"andEvery": {"anyOf": ["a", "a"]}}, "andEvery.anyOf[1]", "equal to"),
    ({"andEvery": {"any": ["a"]}}, "andEvery", "expected one trigger name|unknown word 'any'"),
    # keeping.
    ({"after": "a", "keeping": "last"}, "keeping", "got 'last': did you mean 'latest'?"),
    ({"after": "a", "keeping": ["a"]}, "keeping", "expected 'first', 'latest' or 'all', or a map"),
    ({"after": "a", "keeping": {"a": "last"}}, "keeping.a", "did you mean 'latest'?"),
    ({"after": "a", "keeping": {"a": 1}}, "keeping.a", "'first', 'latest' or 'all', got 1"),
    ({"after": "placed", "keeping": {"place": "all"}}, "keeping", "'place': did you mean 'placed'"),
    ({"after": "a", "unless": "b", "keeping": {"b": "all"}}, "keeping.b", "is not in 'after'"),
    ({"after": [TWICE], "keeping": {"a": "all"}}, "keeping.a", "'a' is counted"),
    ({"after": "a", "andEvery": "a", "keeping": {"a": "all"}}, "keeping.a", "stands in andEvery"),
    # References.
    ({"after": ["a", {"atLeast": "b.n", "of": "c"}]}, "after[1].atLeast", "expected 'key.path'"),
    ({"after": ["paid", {"atLeast": "payed.n", "of": "c"}]}, "after[1].atLeast", "mean 'paid'"),
    ({"after": ["a", {"atLeast": "a", "of": "c"}]}, "after[1].atLeast", "expected 'key.path'"),
    ({"after": ["a", {"atLeast": "a..n", "of": "c"}]}, "after[1].atLeast", "expected 'key.path'"),
    (
        {"after": ["a", "a.b", {"atLeast": "a.b.n", "of": "c"}]},
        "after[2].atLeast",
        "the keys 'a' and 'a.b' fit 'a.b.n': give one of them another with 'as'",
    ),
    (
        {"after": ["a", {"atLeast": "a.n", "of": "c"}], "keeping": {"a": "latest"}},
        "after[1].atLeast",
        "keeps the first event.*'a' keeps latest",
    ),
    ({"after": [{"atLeast": "c.n", "of": "c"}]}, "after[0].atLeast", "'c' keeps those that it co"),
    (
        {"after": ["a", {"atLeast": "b.n", "of": "c"}], "unless": "b"},
        "after[1].atLeast",
        "of a required leaf",
    ),
    # everyTime.
    ({"after": "a", "everyTime": 1}, "everyTime", "expected true or false, got 1"),
    ({"after": "a", "andEvery": "b", "everyTime": True}, "everyTime", "beside andEvery"),
    (
        {"after": ["a", "b"], "unless": ["b", "c"], "everyTime": True},
        "everyTime",
        "'b' is required and stands in 'unless'.*'as'",
    ),
    # waiting, within.
    ({"after": "a", "waiting": "2d"}, "waiting", "write '2 days'"),
    ({"after": "a", "waiting": {}}, "waiting", "'time' is missing: write"),
    ({"after": "a", "waiting": {"atMost": 1}}, "waiting", "'time' is missing"),
    ({"after": "a", "waiting": {"tim": 1}}, "waiting", "unknown word 'tim': did you mean 'time'?"),
    ({"after": "a", "waiting": {"time": 0}}, "waiting.time", "a microsecond at least"),
    ({"after": "a", "waiting": {"time": 1, "atMost": 0}}, "waiting.atMost", "a microsecond at"),
    ({"after": "a", "waiting": {"until": "a.b", "time": 1}}, "waiting", "leave 'time' and"),
    ({"after": "a", "waiting": {"until": 3}}, "waiting.until", "expected 'key.path'.*got 3"),
    ({"after": "a", "waiting": {"until": "b.c"}}, "waiting.until", "expected 'key.path'"),
    (
        {"after": "a", "keeping": "all", "waiting": {"until": "a.b"}},
        "waiting.until",
        "is about one event.*'a' keeps all",
    ),
    ({"after": "a", "within": 0}, "within", "a microsecond at least"),
    ({"after": "a", "within": {"of": "a"}}, "within", "'time' is missing: write"),
    ({"after": "a", "within": {"time": 1}}, "within", "'of' is missing: write"),
    ({"after": "a", "within": {"of": "b", "time": 1}}, "within.of", "'b' is no key of a required"),
    ({"after": "a", "within": {"of": "a", "time": "1d"}}, "within.time", "write '1 day'"),
    (
        {"after": "a", "unless": "b", "within": {"of": "b", "time": 1}},
        "within.of",
        "no key of a required leaf",
    ),
    ({"after": [TWICE], "within": {"of": "a", "time": 1}}, "within.of", "'a' holds several events"),
    # otherwise.
    ({"after": "a", "otherwise": ["b"]}, "otherwise", "expected a trigger's name, or a mapping"),
    ({"after": "a", "otherwise": ""}, "otherwise", "1 to 200 printable characters"),
    ({"after": "a", "otherwise": {"late": 3}}, "otherwise.late", "got 3 of type int"),
    ({"after": "a", "otherwise": {"lat": "b"}}, "otherwise", "'lat': did you mean 'late'?"),
    ({"after": "a", "otherwise": "a"}, "otherwise", "the task itself waits for 'a'"),
    ({"after": "a", "otherwise": {"late": "a"}}, "otherwise.late", "the task itself waits for 'a'"),
    ({"after": "a", "otherwise": "t_x"}, "otherwise", "its own name when it has succeeded"),
    ({"after": "a", "otherwise": "t_y"}, "otherwise", "'t_y' is a task"),
    ({"after": "a", "otherwise": {"failed": "t_y"}}, "otherwise.failed", "'t_y' is a task"),
]  # fmt: skip


@pytest.mark.parametrize(("directives", "place", "message"), REFUSED)
def test_refusals(directives: dict[str, Any], place: str, message: str) -> None:
    written = {"t_x": {"run": "x", **directives}, "t_y": {"after": ["z"], "run": "x"}}
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        parse_configuration(written)
    assert caught.value.path == f"t_x.{place}"
    assert str(caught.value).startswith(f"t_x.{place}: ")
    assert len(str(caught.value)) < 500


def test_depth_and_width_are_limits() -> None:
    wide, deep = [[str(n) for n in range(3)]], nested(5)
    limits = Limits(condition_depth=3, condition_width=2)
    for written in (wide, deep):
        with pytest.raises(LimitExceeded, match=r"Limits\.condition"):
            parse_configuration({"t_x": {"after": written, "run": "x"}}, limits)
        assert parse_configuration({"t_x": {"after": written, "run": "x"}})
    everything = parse_configuration(
        {"t_x": {"after": nested(21), "run": "x"}}, Limits(condition_depth=20)
    )
    assert Configuration.decoded(everything.encoded).tasks == everything.tasks
    with pytest.raises(ValueError, match="condition_depth"):
        Limits(condition_depth=21)


def test_lists_that_share_their_members_have_a_bound() -> None:
    shared: Any = "a"
    for _ in range(4):
        shared = [{"anyOf": [shared, str(number)]} for number in range(20)]
    with pytest.raises(InvalidConfiguration, match="more than 10,000 names"):
        parse_configuration({"t_x": {"after": shared, "run": "x"}})


def test_merged_configurations_are_checked_together() -> None:
    stored = parse_configuration({"t_x": {"after": "a", "otherwise": {"late": "o"}, "run": "x"}})
    merged = stored.updated(parse_configuration({"o": {"after": ["b"], "run": "x"}}))
    with pytest.raises(InvalidConfiguration, match="'o' is a task") as caught:
        merged.check_together()
    assert caught.value.path == "t_x.otherwise.late"
    stored.updated(parse_configuration({"p": {"after": ["b"], "run": "x"}})).check_together()


# -- against the oracle ----------------------------------------------------------------------------


def lists(members: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[Any]:
    return st.lists(members, min_size=least, max_size=3)


WHERE = st.sampled_from([{}, {"n": 1}, {"n": 1.0}, {"n": True}, {"n": {"atLeast": 3}}, {"n": []}])
LEAF = st.one_of(
    st.sampled_from(["a", "b", "c", "a.x", "d.e"]),
    st.fixed_dictionaries(
        {"trigger": st.sampled_from(["a", "b", "a.x"])},
        optional={"where": WHERE, "as": st.sampled_from(["k", "l", "a", "k.l"])},
    ),
)
COUNT = st.sampled_from([1, 2, 3, 0, True, 1.0, "a.n", "k.n", "a.x.n", "zz.n"])
TREE = st.recursive(
    LEAF,
    lambda trees: st.one_of(
        lists(trees, 0),
        st.builds(lambda of: {"anyOf": of}, lists(trees)),
        st.builds(lambda n, of: {"atLeast": n, "of": of}, COUNT, st.one_of(lists(trees), LEAF)),
    ),
    max_leaves=5,
)
DURATION = st.sampled_from([5, 0, 0.5, True, "2 days", "1.5 hours", "2d", timedelta(1)])
KEY = st.sampled_from(["a", "b", "k", "zz"])
KEEP = st.sampled_from(["first", "latest", "all"])
TASK = st.fixed_dictionaries(
    {"after": st.one_of(lists(TREE, 0), TREE)},
    optional={
        "andEvery": st.one_of(LEAF, st.builds(lambda of: {"anyOf": of}, lists(LEAF)), TREE),
        "unless": st.one_of(lists(TREE, 0), TREE),
        "keeping": st.one_of(KEEP, st.dictionaries(KEY, KEEP, max_size=2)),
        "everyTime": st.booleans(),
        "waiting": st.one_of(
            DURATION,
            st.fixed_dictionaries({"until": st.sampled_from(["a.n", "k.n", "a.x.n", "a"])}),
            st.fixed_dictionaries({}, optional={"time": DURATION, "atMost": DURATION}),
        ),
        "within": st.one_of(
            DURATION, st.fixed_dictionaries({"of": KEY}, optional={"time": DURATION})
        ),
        "otherwise": st.sampled_from(["o", "a", "t_y", "t_x", {"late": "o"}, {"lat": "o"}, {}]),
    },
)  # fmt: skip


@given(TASK)
def test_the_oracle_reads_and_refuses_the_same(written: dict[str, Any]) -> None:
    try:
        expected: Any = oracle_or_skip().Task("t_x", written, 0, {"t_x", "t_y"})
    except (AttributeError, TypeError, ValueError):
        expected = None
    other = {"after": ["z"], "run": "x"}
    try:
        configuration = parse_configuration({"t_x": {**written, "run": "x"}, "t_y": other})
    except InvalidConfiguration:
        assert expected is None
        return
    assert expected is not None
    _compare(configuration.tasks["t_x"], expected)
    stored = Configuration.decoded(configuration.encoded)
    assert (stored.tasks, stored.hash) == (configuration.tasks, configuration.hash)


def _compare(found: Task, expected: Any) -> None:
    rule = found.rule
    assert shape(rule.required)[1:] == tuple(_once(expected.required[1]))
    assert (rule.unless and shape(rule.unless)) == (expected.unless and _flat(expected.unless))
    assert [leaf.key for leaf in rule.every] == [leaf.key for leaf in expected.every]
    assert list(rule.leaves) == list(expected.leaves)
    for key, leaf in expected.leaves.items():
        mine = rule.leaves[key]
        assert (mine.trigger, mine.keep, mine.count) == (leaf.trigger, leaf.keep, leaf.count)
        assert (mine.required, mine.unless) == (leaf.required, "unless" in leaf.roles)
        assert bool(mine.record) is (not leaf.own or bool(leaf.where))
        for other, another in expected.leaves.items():
            assert mine.same(rule.leaves[other]) is leaf.same(another)
    times = (rule.waiting, rule.at_most, rule.until, rule.within, rule.within_of, rule.every_time)
    assert times == (
        expected.waiting,
        expected.at_most,
        expected.until,
        expected.within,
        expected.within_of,
        expected.every_time,
    )
    assert rule.otherwise == expected.otherwise


def _flat(tree: Any) -> Any:
    return tree if isinstance(tree, str) else (tree[0], *map(_flat, tree[1]))


def _once(members: Any) -> Iterator[Any]:
    """The members; the leaf of andEvery is one of them already where it stands in after, too."""
    for position, each in enumerate(members):
        if not isinstance(each, str) or each not in members[:position]:
            yield _flat(each)
