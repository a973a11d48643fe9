"""Commands about this installation: plugins, settings, completion."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from triggers_cli.completing import script
from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command
from triggers_cli.output import Cell, to_line
from triggers_cli.state import State
from triggers_core.registries import storage_backends, task_runners, trigger_managers

_STYLES = {"loaded": "green", "failed": "red", "blocked": "dim", "unlisted": "dim"}


@command("plugins", example="triggers plugins --json")
@click.pass_obj
def plugins(state: State) -> int:
    """List the plugins, their hooks and their order.

    Loaded ones come first, in the order in which they run; then those that are installed and not
    loaded, and why; then the storages, runners and managers. Commands that other distributions add
    to this program are listed by `triggers --help`.

    Exits with 1 when a plugin failed to load.
    """
    infos = state.app.plugins.infos()
    if state.json:
        state.out.data(msgspec.to_builtins(infos))
    elif not infos:
        state.out.line(
            "There are no plugins with hooks: python -m pip install triggers-retry, for example."
        )
    else:
        rows = []
        for each in infos:
            source = " ".join(part for part in (each.distribution, each.version) if part)
            about = each.error or ", ".join(each.hooks)
            status = (each.status, _STYLES.get(each.status))
            rows.append((each.order, each.name, status, source or each.path, about))
        head = ("#", "PLUGIN", "STATUS", "FROM", "HOOKS, OR WHY IT IS NOT LOADED")
        state.out.table(head, rows, ("#",), wrap=True)
    if not state.json:
        found: list[tuple[Cell, ...]] = []
        for what, registry in (
            ("storage", storage_backends),
            ("runner", task_runners),
            ("manager", trigger_managers),
        ):
            for item in registry.items():
                source = " ".join(part for part in (item.distribution, item.version) if part)
                told: Cell = (item.error, "red") if item.error else item.path
                found.append((what, item.key, source or "registered in code", told))
        state.out.line()
        state.out.table(
            ("KIND", "KEY", "FROM", "CLASS, OR WHY IT CANNOT BE USED"), found, wrap=True
        )
    return FAILED if any(each.status == "failed" for each in infos) else OK


@command("settings", example="triggers settings\ntriggers settings --settings shop.settings --json")
@click.pass_obj
def settings(state: State) -> None:
    """List the settings and where their values come from.

    Code wins over the environment, the environment over the settings module, that over
    [tool.triggers] in pyproject.toml, and that over the defaults. Passwords and the like are shown
    as ***.
    """
    described = [
        {**msgspec.to_builtins(each), "problem": None} for each in state.app.settings.describe()
    ]
    problems = state.app.settings.problems()
    for each in described:
        # Set in code, but by an option of this command line.
        if state.storage_text is not None and each["name"].startswith("TRIGGER_STORAGE_"):
            each["origin"] = "--storage"
    if state.json:
        unread = [
            {"name": _name_in(each), "value": None, "origin": None, "problem": each}
            for each in problems
        ]
        state.out.data([*described, *unread])
        return
    rows: list[tuple[Any, ...]] = [
        (
            each["name"],
            (each["origin"], "dim" if each["origin"] == "default" else None),
            to_line(each["value"], 200),
        )
        for each in described
    ]
    state.out.table(("SETTING", "FROM", "VALUE"), rows, wrap=True)
    for problem in problems:
        state.out.paragraph(problem, "not read: ", "yellow")


def _name_in(problem: str) -> str | None:
    """The name that a problem of the settings is about, if it can be told."""
    found = re.search(r"\bTRIGGERS?_\w+", problem)
    return found.group() if found else None


@command(
    "completion",
    example="""eval "$(triggers completion bash)"       # in ~/.bashrc
triggers completion fish > ~/.config/fish/completions/triggers.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Commands, options, files, and the uids, tasks, instances and triggers of sessions are completed.
    Names that would have to be quoted in a shell are left out: they are data, and could hold
    anything.
    """
    state: State = ctx.obj
    text = script(ctx.find_root().command, shell)
    if state.json:
        state.out.data({"shell": shell, "script": text})
    else:
        state.out.line(text)
