"""``check``, ``graph`` and ``schema``, through the executable."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from cli_golden import compare
from cli_process import Cli

GOOD = {
    "t_importSubject": {"after": ["firstPageReceived"], "run": "app.ImportSubject"},
    "t_importPage": {
        "after": ["t_importSubject"],
        "andEvery": "pageReceived",
        "unless": ["sessionCancelled"],
        "withParams": {"pageReceived": {"page": 1}},
        "run": "app.ImportPage",
        "extra": {"team": "intake"},
    },
}

DOUBTFUL = {
    "t_importSubject": {"after": ["firstPageReceived"], "run": "app.ImportSubject"},
    "t_importPage": {
        "after": ["t_importSubjekt"],
        "andEvery": "pageReceived",
        "run": "app.ImportPage",
    },
    "t_index": {"after": ["t_importPage", "t_report"], "run": "app.Index"},
    "t_report": {"after": ["t_index"], "run": "app.Report"},
    "t_archive": {"after": ["t_report", "page archived"], "run": "app.Archive"},
    "t_remind": {
        "after": ["pageRecieved"],
        "unless": ["sessionCancelled", "session closed"],
        "run": "app.Remind",
    },
    "t_greet": {"after": ["signedUp"], "unless": ["signedUp"], "run": "app.Greet"},
    "t_thank": {
        "after": ["t_importSubject"],
        "unless": ["firstPageReceived"],
        "run": "app.Thank",
    },
    "t_quit": {"after": ["left"], "unless": ["t_stayed"], "run": "app.Quit"},
}

WRONG = {
    **DOUBTFUL,
    "t_go": {"after": 3, "run": "app.Go"},
    "t_typo": {"afetr": ["go"], "run": "app.Go"},
    "t_never": {"run": "app.Go"},
    "t_self": {"after": ["t_self"], "run": "app.Go"},
}


def test_a_good_configuration(cli: Cli) -> None:
    checked = cli("check", cli.write("flow.json", GOOD), code=0)
    compare("check_good.txt", checked.out)
    assert cli("check", "flow.json", "--strict").code == 0


def test_what_a_person_reads(cli: Cli) -> None:
    checked = cli("check", cli.write("flow.json", WRONG), code=1)
    compare("check_wrong.txt", checked.out)
    assert checked.err == ""


def test_warnings_are_no_errors_unless_strict(cli: Cli) -> None:
    cli.write("flow.json", DOUBTFUL)
    assert cli("check", "flow.json").code == 0
    assert cli("check", "flow.json", "--strict").code == 1


def test_json(cli: Cli) -> None:
    told = cli("check", cli.write("flow.json", WRONG), "--json", code=1).json
    assert told["ok"] is False
    assert told["tasks"] == len(WRONG)
    assert [each["path"] for each in told["errors"]] == [
        "t_go.after",
        "t_typo",
        "t_never.after",
        "t_self.after",
    ]
    codes = {(each["code"], *each["tasks"]) for each in told["warnings"]}
    assert ("cycle", "t_index", "t_report") in codes
    assert ("never-runs", "t_archive") in codes
    assert ("after-and-unless", "t_greet") in codes
    assert ("unless-several", "t_remind") in codes
    assert cli("check", cli.write("good.json", GOOD), "--json").json == {
        "ok": True,
        "tasks": 2,
        "errors": [],
        "warnings": [],
    }


@pytest.mark.parametrize("content", [WRONG, {"t_x": 1}, [1], "no", {"": {}}, {"t_x": {}}])
def test_errors_are_those_of_update_configuration(cli: Cli, content: Any) -> None:
    from triggers_core.engine.configuration import parse_configuration
    from triggers_core.exceptions import InvalidInput

    cli.write("flow.json", json.dumps(content))
    told = cli("check", "flow.json", "--json", code=1).json
    with pytest.raises(InvalidInput) as error:
        parse_configuration(content)
    assert told["errors"][0]["message"] == str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"t_x": }', "flow.json, line 1, column 9: not JSON"),
        ('{"t_x": {"after": ["a"], "after": ["b"]}}', "'after' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ("\x00", "line 1, column 1"),
    ],
)
def test_what_is_no_json(cli: Cli, text: str, told: str) -> None:
    failed = cli("check", cli.write("flow.json", text), code=2)
    assert told in failed.err
    assert failed.out == ""


def test_a_file_that_is_not_there(cli: Cli) -> None:
    failed = cli("check", "flwo.json", code=2)
    assert failed.err.startswith("Error: there is no file flwo.json: name a JSON or TOML file")


def test_other_places(shop: Cli) -> None:
    assert shop("check", "shop:FLOW", code=0).out.startswith("shop:FLOW: 2 tasks, no errors")
    assert "no attribute 'FLWO'" in shop("check", "shop:FLWO", code=2).err
    flow = json.dumps({"t_ship": {"after": ["paid"], "run": "shop.Ship"}})
    assert shop("check", "-", stdin=flow, code=0).out.startswith("-: 1 task,")
    shop.write("flow.toml", '[t_ship]\nafter = ["paid"]\nrun = "shop.Ship"\n')
    assert shop("check", "flow.toml", code=0).out.startswith("flow.toml: 1 task,")
    shop.write("flow.toml", "[t_ship")
    assert "flow.toml: not TOML" in shop("check", "flow.toml", code=2).err


def test_tasks_are_looked_for_where_they_run_in_the_same_process(shop: Cli) -> None:
    shop.write("flow.json", {"t_ship": {"after": ["paid"], "run": "shop.Shipp"}})
    failed = shop("check", "flow.json", code=1)
    assert "error: t_ship.run: no task named 'shop.Shipp'" in failed.out
    assert "did you mean 'shop.Ship'?" in failed.out
    assert shop("check", "flow.json", TRIGGER_IMPORTS="").code == 0
    missing = shop("check", "flow.json", TRIGGER_IMPORTS="shpo", code=2)
    assert "TRIGGER_IMPORTS (environment variable TRIGGER_IMPORTS)" in missing.err


WORDS = {
    "t_ship": {
        "after": [
            "placed",
            {"anyOf": ["paid", "invoiceAgreed"]},
            {"atLeast": "placed.items", "of": "scanned"},
        ],
        "unless": [{"trigger": "order changed", "where": {"state": ["cancelled", "lost"]}}],
        "within": "14 days",
        "otherwise": {"late": "shipLate", "calledOff": "shipLate"},
        "run": "shop.Ship",
    },
    "t_remind": {
        "after": ["placed"],
        "unless": [{"anyOf": ["paid", "order closed"]}],
        "waiting": {"time": "2 days", "atMost": "1 day"},
        "run": "shop.Remind",
    },
    "t_excuse": {
        "andEvery": {
            "anyOf": ["shipLate", {"trigger": "asked", "where": {"times": {"atLeast": 3}}}]
        },
        "run": "shop.Excuse",
    },
}


def test_the_words_of_the_language(cli: Cli) -> None:
    checked = cli("check", cli.write("flow.json", WORDS), code=0)
    compare("check_words.txt", checked.out)
    compare("graph_words.mmd", cli("graph", "flow.json", code=0).out)
    assert "hexagons are any of" in " ".join(cli("graph", "--help", code=0).out.split())
    left = cli("check", "flow.json", "--strict", "--ignore", "unless-where", code=1)
    assert "[waiting-cut]" in left.out
    assert "unless-where" not in left.out
    jsonschema.validate(WORDS, cli("schema", code=0).json)


def test_graph(cli: Cli) -> None:
    cli.write(
        "flow.json",
        {**GOOD, "t_odd": {"after": ['a "b" <i>`c`;#'], "unless": ["x", "y"], "run": "o"}},
    )
    compare("graph.mmd", cli("graph", "flow.json", code=0).out)
    data = cli("graph", "flow.json", "--json", code=0).json
    assert {"from": "pageReceived", "to": "t_importPage", "directive": "andEvery"} in data["edges"]
    assert [task["name"] for task in data["tasks"]] == ["t_importSubject", "t_importPage", "t_odd"]
    assert "firstPageReceived" in data["triggers"]


# -- schema ----------------------------------------------------------------------------------------


@pytest.fixture
def schema(cli: Cli) -> Any:
    return cli("schema", code=0).json


def test_the_schema_is_one_and_accepts_what_is_right(schema: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD, schema)
    jsonschema.validate({"$schema": "triggers.schema.json", **DOUBTFUL}, schema)


@pytest.mark.parametrize(
    "task",
    [
        {"after": 3, "run": "x"},
        {"afetr": ["go"], "run": "x"},
        {"after": ["go"]},
        {"run": "x"},
        {"after": [], "run": "x"},
        {"after": ["go"], "andEvery": ["x"], "run": "x"},
        {"after": ["go"], "withParams": {"go": 1}, "run": "x"},
        {"after": [""], "run": "x"},
        {"after": ["x" * 201], "run": "x"},
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(schema: Any, task: Any) -> None:
    from triggers_core.engine.configuration import parse_configuration
    from triggers_core.exceptions import InvalidInput

    with pytest.raises(InvalidInput):
        parse_configuration({"t_x": task})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"t_x": task}, schema)


def test_the_schema_knows_every_directive_of_the_core(schema: Any) -> None:
    from triggers_core.engine.configuration import DIRECTIVES

    assert set(schema["$defs"]["TaskDirectives"]["properties"]) == set(DIRECTIVES)


def test_the_schema_knows_the_directives_of_plugins(cli: Cli) -> None:
    cli.write(
        "deadlines.py",
        """
from typing import Literal
from triggers_core import hookimpl

@hookimpl
def declare_directives():
    return {"deadline": int, "on_late": Literal["run", "skip"], "notBefore": list[str]}
""",
    )
    schema = cli("schema", TRIGGER_PLUGINS="deadlines", code=0).json
    jsonschema.Draft202012Validator.check_schema(schema)
    task = {"after": ["a"], "run": "x", "deadline": 3, "on_late": "run", "notBefore": ["mon"]}
    jsonschema.validate({"t_x": task}, schema)
    for wrong in ({"deadline": "3"}, {"on_late": "no"}, {"notBefore": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"t_x": {**task, **wrong}}, schema)


def test_a_file_may_name_its_schema(cli: Cli) -> None:
    cli.write("flow.json", {"$schema": "triggers.schema.json", **GOOD})
    assert cli("check", "flow.json", "--json", code=0).json["tasks"] == 2


def test_the_configuration_of_a_project(shop: Cli) -> None:
    tasks = '[tool.triggers.configuration.t_ship]\nafter = ["paid"]\nrun = "shop.Ship"\n'
    shop.write("pyproject.toml", f"[project]\nname = 'x'\n{tasks}")
    assert shop("check", "pyproject.toml", code=0).out.startswith("pyproject.toml: 1 task,")
    shop.write("pyproject.toml", '[tool.triggers]\nimports = ["shop"]\n')
    refused = shop("check", "pyproject.toml", code=2).err
    assert "pyproject.toml has no [tool.triggers.configuration]" in refused


def test_a_task_called_tool(shop: Cli) -> None:
    shop.write("flow.toml", '[tool]\nafter = ["paid"]\nrun = "shop.Ship"\n')
    assert shop("check", "flow.toml", code=0).out.startswith("flow.toml: 1 task,")
