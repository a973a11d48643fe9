"""`check` in a pre-commit hook: warnings that are meant are left out, those of plugins told."""

from __future__ import annotations

import json

import pytest
from cli_process import Cli

FLOW = {
    "t_ship": {"after": ["paid", "packed"], "run": "x"},
    "t_mail": {"after": ["t_elsewhere"], "run": "x"},
    "t_after": {"after": ["t_mail"], "run": "x"},
    "t_log": {"andEvery": "pakced", "run": "x"},
}

HINTS = """
from triggers_core import hookimpl

@hookimpl
def lint_configuration(tasks, options):
    limit = options.get("hints", {}).get("limit", 1)
    found = {name: "waits for a lot" for name, task in tasks.items() if len(task.after) > limit}
    return {**found, "t_of_nobody": "is not here"}
"""

BROKEN = """
from triggers_core import hookimpl

@hookimpl
def lint_configuration(tasks):
    raise ValueError("no mood")
"""


def codes(cli: Cli, *options: str, code: int = 0, **environment: str) -> list[str]:
    told = cli("check", "flow.json", "--json", *options, code=code, **environment).json
    return [each["code"] for each in told["warnings"]]


@pytest.fixture
def flow(cli: Cli) -> Cli:
    cli.write("flow.json", FLOW)
    return cli


def test_what_is_ignored_is_neither_told_nor_counted(flow: Cli) -> None:
    assert codes(flow) == ["unknown-task", "never-runs", "near-miss"]
    assert codes(flow, "--strict", code=1) == codes(flow)
    # A task of another file is a trigger like any other: nothing follows from its not being here.
    assert codes(flow, "--ignore", "unknown-task", "--strict", code=1) == ["near-miss"]
    every = ("--ignore", "unknown-task", "--ignore", "near-miss")
    assert codes(flow, *every, "--strict") == []
    assert "no warnings" in flow("check", "flow.json", *every, "--strict", code=0).out


def test_codes_of_the_settings(flow: Cli) -> None:
    flow.write(
        "pyproject.toml",
        '[tool.triggers.plugin_options.cli]\nignore = ["unknown-task", "near-miss"]\n',
    )
    assert codes(flow, "--strict") == []
    assert "warning" not in flow("configure", "o", "flow.json", code=0).err


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (("--ignore", "near-mis"), "", "there is no warning 'near-mis': did you mean 'near-miss'?"),
        ((), '{"cli": {"ignore": ["xyz"]}}', "there is no warning 'xyz': "),
        ((), '{"cli": {"ignore": "near-miss"}}', "'ignore' has to be a list of codes"),
        ((), '{"cli": {"ignroe": []}}', "has no option 'ignroe': did you mean 'ignore'?"),
    ],
)
def test_codes_that_are_none(
    flow: Cli, options: tuple[str, ...], environment: str, told: str
) -> None:
    variables = {"TRIGGER_PLUGIN_OPTIONS": environment} if environment else {}
    assert told in flow("check", "flow.json", *options, code=2, **variables).err


def test_what_plugins_find(flow: Cli) -> None:
    flow.write("hints.py", HINTS)
    plugins = {"TRIGGER_PLUGINS": "hints"}
    told = flow("check", "flow.json", code=0, **plugins)
    assert "warning: t_ship: waits for a lot [hints]\n" in told.out
    assert "t_of_nobody" not in told.out
    assert codes(flow, **plugins)[-1] == "hints"
    assert "hints" not in codes(flow, "--ignore", "hints", **plugins)
    options = json.dumps({"hints": {"limit": 9}})
    assert "hints" not in codes(flow, TRIGGER_PLUGIN_OPTIONS=options, **plugins)


def test_a_plugin_that_fails_hides_nothing(flow: Cli) -> None:
    flow.write("broken.py", BROKEN)
    told = flow("check", "flow.json", code=0, TRIGGER_PLUGINS="broken")
    assert "[near-miss]" in told.out
    assert "plugin 'broken': its lint_configuration failed" in told.err


def test_tasks_that_would_keep_a_session_open(cli: Cli) -> None:
    pytest.importorskip("triggers_finalize")
    flow = {
        "t_ship": {"after": ["paid"], "run": "x"},
        "t_mail": {"andEvery": "moved", "run": "x"},
        "t_end": {"after": ["sessionFinalized"], "run": "x"},
    }
    cli.write("flow.json", flow)
    told = cli("check", "flow.json", "--strict", code=1, TRIGGER_PLUGINS="finalize")
    assert "warning: t_mail: may never begin" in told.out
    assert "[finalize]" in told.out
    flow["t_mail"]["optional"] = True
    cli.write("flow.json", flow)
    cli("check", "flow.json", "--strict", code=0, TRIGGER_PLUGINS="finalize")


def test_a_long_way_round_is_cut(cli: Cli) -> None:
    ring = {f"t_{i}": {"after": [f"t_{(i + 1) % 1_000}"], "run": "x"} for i in range(1_000)}
    cli.write("ring.json", ring)
    told = cli("check", "ring.json", code=0).out
    [line] = [each for each in told.splitlines() if "[cycle]" in each]
    assert "(993 more)" in line
    assert len(line) < 300
    [found] = cli("check", "ring.json", "--json", code=0).json["warnings"]
    assert len(found["tasks"]) == 1_000


def test_places_inside_a_directive_read_as_they_are_written(cli: Cli) -> None:
    pytest.importorskip("triggers_retry")
    cli.write(
        "flow.py", 'FLOW = {"t_a": {"after": ["x"], "run": "x", "retry": {"times": {1, 2}}}}\n'
    )
    told = cli("check", "flow:FLOW", code=1, TRIGGER_PLUGINS="retry").out
    assert told.startswith("error: t_a.retry.times: ")
    assert "value" not in told.splitlines()[0].split(":")[1]


@pytest.mark.parametrize(
    ("directive", "distribution"), [("retry", "triggers-retry"), ("optional", "triggers-finalize")]
)
def test_directives_of_plugins_that_are_not_loaded(
    cli: Cli, directive: str, distribution: str
) -> None:
    cli.write("flow.json", {"t_a": {"after": ["x"], "run": "x", directive: True}})
    assert f"python -m pip install {distribution}" in cli("check", "flow.json", code=1).out
