"""The commands that the documentation tells people to type are commands that there are."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_process import Cli
from cli_session import EVENTS, FLOW
from doc_pages import DOCS, Page, every_text

from triggers_cli.main import cli as group
from triggers_core.settings import Settings
from triggers_core.testing.fake_distributions import FakeDistributions

PAGE = Page(DOCS / "cli.md")
ELSEWHERE = {"triggers webhook", "triggers web"}
"""Commands of another distribution, which may be missing here."""


def commands(page: Page) -> Iterator[str]:
    """Each `triggers …` of a page, inline or in a console block."""
    yield from re.findall(r"`(triggers [a-z][^`…]*)`", page.text)
    yield from (each.line for each in page.commands if each.line.startswith("triggers "))


@pytest.mark.parametrize("page", every_text(), ids=lambda page: page.name)
def test_its_commands_can_be_typed(page: Page) -> None:
    for line in commands(page):
        command: click.Command = group
        context = click.Context(group, info_name="triggers")
        words = shlex.split(line, comments=True)[1:]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words.pop(0))
            if found is None and any(line.startswith(each) for each in ELSEWHERE):
                return
            assert found is not None, line
            command = found
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        known = {"--help"} | {
            option
            for parameter in command.get_params(click.Context(command))
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(options) <= known, line


def test_a_command_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    entry = tomllib.loads(PAGE.piece('[project.entry-points."triggers.commands"]', "toml"))
    [(name, target)] = entry["project"]["entry-points"]["triggers.commands"].items()
    folder = tmp_path / "site"
    fake = FakeDistributions(folder)
    package, _, module = target.partition(":")[0].partition(".")
    (folder / package).mkdir(parents=True)
    (folder / package / f"{module}.py").write_text(PAGE.piece("import click"))
    fake.add("shop-stats", {name: target}, group="triggers.commands")
    cli.environment["PYTHONPATH"] = str(folder)
    cli("fire", "order:1", "paid", code=0)
    assert cli(name, "--json", code=0).json == {"failed": 0}
    assert cli(name, code=0).out == "0 sessions\n"


def test_the_totals_of_a_backtest(cli: Cli) -> None:
    shown = json.loads(PAGE.piece('{"sessions"', "json"))
    (cli.folder / "flow.json").write_text(FLOW)
    (cli.folder / "events.csv").write_text(EVENTS)
    told = cli("backtest", "flow.json", "events.csv", "--json", code=0).json
    assert {name: told[name] for name in ("sessions", "events", "tasks")} == shown


def test_what_is_not_reported(cli: Cli) -> None:
    options = tomllib.loads(PAGE.piece("[tool.triggers.plugin_options.cli]", "toml"))
    given = options["tool"]["triggers"]["plugin_options"]
    assert given == Settings.isolated(TRIGGER_PLUGIN_OPTIONS=given).TRIGGER_PLUGIN_OPTIONS
    names = {"t_a": "pageReceived", "t_b": "pageRecieved"}
    cli.write(
        "flow.json", {name: {"after": [each], "run": "shop.Ship"} for name, each in names.items()}
    )
    assert "near-miss" in cli("check", "flow.json").out
    (cli.folder / "pyproject.toml").write_text(PAGE.piece("[tool.triggers.plugin", "toml"))
    assert "near-miss" not in cli("check", "flow.json").out


def test_the_hook_of_pre_commit(cli: Cli) -> None:
    [entry] = re.findall(r"entry: triggers (.+)", PAGE.piece("- repo: local", "yaml"))
    cli.write("flow.json", {"t_a": {"after": ["paid"], "run": "shop.Ship"}})
    cli(*entry.split(), "flow.json", code=0)


def test_completion_can_be_sourced(cli: Cli) -> None:
    lines = [each.line for each in PAGE.commands if "completion" in each.line]
    for line, shell in zip(lines, ("bash", "fish"), strict=True):
        assert f"triggers completion {shell}" in line
        assert "triggers" in cli("completion", shell, code=0).out
