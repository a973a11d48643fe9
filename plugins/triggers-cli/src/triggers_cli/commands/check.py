"""Commands about a configuration in a file: check, graph, schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from triggers_cli.configs import read_configuration
from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command, completes
from triggers_cli.state import State
from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import InvalidConfiguration, InvalidInput, NotFound, PluginError
from triggers_core.registries import task_runners
from triggers_core.texts import count, did_you_mean
from triggers_core.views.graph import graph_data, mermaid
from triggers_core.views.linter import CODES, Finding, lint
from triggers_core.views.schema import configuration_schema

if TYPE_CHECKING:
    from triggers_core.application import Application


@command(
    "check",
    example="triggers check flow.json\ntriggers check shop.tasks:CONFIGURATION --strict",
)
@click.argument("config", shell_complete=completes("files"))
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODE",
    shell_complete=completes("codes"),
    help="Leave out the warnings of this kind, such as near-miss; may be repeated.",
)
@click.pass_obj
def check(state: State, config: str, strict: bool, ignore: tuple[str, ...]) -> int:
    """Find errors and likely mistakes in a configuration.

    Errors are what `update_configuration` refuses: one for each task. Warnings are what it accepts
    and what is hardly meant: tasks that can never run, cycles, a trigger both in `after` and in
    `unless`, an `unless` of several names, a part of a condition that decides nothing, a `where`
    that nothing passes, a deadline or an `otherwise` without effect, tasks that set each other
    going, names that are spelled almost alike, and what plugins find. Each ends with its code, by
    which --ignore leaves it out; so does the option `ignore` of TRIGGER_PLUGIN_OPTIONS["cli"], a
    list of codes.

    With TRIGGER_IMPORTS set and a runner that executes tasks in the application's own process,
    the tasks that `run` names are looked for, too.

    CONFIG is a JSON or TOML file, pyproject.toml with a [tool.triggers.configuration], `-` for
    standard input, or MODULE:ATTRIBUTE. Exits with 1 when there is an error.
    """
    ignored = codes_to_ignore(state.app, ignore)
    read = read_configuration(config)
    parsed, problems = parse_all(state.app, read)
    findings = [] if parsed is None else find_mistakes(state.app, parsed, ignored)
    if parsed is not None:
        problems += unknown_runs(state, parsed)
    if state.json:
        state.out.data(
            {
                "ok": not problems,
                "tasks": len(read) if isinstance(read, Mapping) else 0,
                "errors": [
                    {"path": getattr(each, "path", ""), "message": str(each)} for each in problems
                ],
                "warnings": msgspec.to_builtins(findings),
            }
        )
    else:
        _print(state, config, read, problems, findings)
        if parsed is not None and not problems and not state.app.task_modules():
            state.out.note(
                ("What `run` names was not looked for: TRIGGER_IMPORTS names no module.", "dim")
            )
    return FAILED if problems or (strict and findings) else OK


def codes_to_ignore(app: Application, typed: Iterable[str] = ()) -> frozenset[str]:
    """The codes of warnings to leave out: those that were typed, and those of the settings.

    :raises click.UsageError: no such code, or the option of the settings is no list of them.
    """
    place = 'TRIGGER_PLUGIN_OPTIONS["cli"]'
    options = app.settings.TRIGGER_PLUGIN_OPTIONS.get("cli", {})
    for name in options:
        if name != "ignore":
            hint = did_you_mean(name, ["ignore"])
            raise click.UsageError(f"{place} has no option {name!r}{hint}")
    listed = options.get("ignore", [])
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise click.UsageError(f"{place}: 'ignore' has to be a list of codes, such as near-miss")
    sources = [("--ignore", each) for each in typed] + [
        (f"{place}: ignore", each) for each in listed
    ]
    for source, code in sources:
        if code not in CODES and code not in app.plugins.names:
            known = [*CODES, *sorted(app.plugins.names)]
            hint = did_you_mean(code, known) or f": take {', '.join(known)}"
            raise click.UsageError(f"{source}: there is no warning {code!r}{hint}")
    return frozenset(code for _, code in sources)


def find_mistakes(
    app: Application, parsed: Configuration, ignored: Collection[str] = ()
) -> list[Finding]:
    """What a configuration says and hardly means: ours, and what plugins find."""
    found = lint(parsed, ignored)
    if parsed.tasks and app.plugins.names:
        asked = app.plugins.lint_configuration(parsed.tasks, app.settings.TRIGGER_PLUGIN_OPTIONS)
        found += [
            Finding(code=plugin, tasks=(task,), message=text)
            for plugin, task, text in asked
            if plugin not in ignored
        ]
    return found


def parse_all(app: Application, read: Any) -> tuple[Configuration | None, list[InvalidInput]]:
    """Parse a configuration task by task, so that each task's error is told at once.

    :returns: the tasks without errors (None when there is no configuration at all), and the errors.
    """
    try:
        return app.parse(read), []
    except InvalidInput as error:
        first = error
    if not isinstance(read, Mapping) or len(read) > app.settings.limits.tasks:
        return None, [first]
    tasks, problems = {}, list[InvalidInput]()
    for name, raw in read.items():
        try:
            tasks.update(app.parse({name: raw}).tasks)
        except InvalidInput as error:
            problems.append(error)
    return Configuration(tasks), problems


def unknown_runs(state: State, parsed: Configuration) -> list[InvalidInput]:
    """The tasks whose `run` is not defined by the modules that define tasks.

    Empty when that cannot be known: there are no such modules, or the tasks run in other processes.
    """
    app = state.app
    if not app.task_modules():
        return []
    state.import_tasks()
    problems: list[InvalidInput] = []
    for task in parsed.tasks.values():
        place = f"{task.name}.using"
        try:
            runner = task_runners.get_class(task.using or app.settings.TRIGGER_RUNNER)
            if runner.executes_here:
                place = f"{task.name}.run"
                app.resolve_task(task.run, task.using)
        except (NotFound, PluginError) as error:
            problems.append(InvalidConfiguration(f"{place}: {error}", place))
    return problems


def _print(
    state: State, config: str, read: Any, problems: list[InvalidInput], findings: list[Finding]
) -> None:
    out = state.out
    for problem in problems:
        out.paragraph(str(problem), "error: ", "red")
    for finding in findings:
        named = finding.code in ("cycle", "near-miss")  # the message itself names the tasks
        subject = "" if named else f"{', '.join(finding.tasks)}: "
        out.paragraph(f"{subject}{finding.message} [{finding.code}]", "warning: ", "yellow")
    tasks = len(read) if isinstance(read, Mapping) else 0
    counts = [(tasks, "task"), (len(problems), "error"), (len(findings), "warning")]
    told = [count(amount, word) if amount else f"no {word}s" for amount, word in counts]
    style = "red" if problems else "yellow" if findings else "green"
    out.line((f"{config}: {', '.join(told)}", style))


@command("graph", example="triggers graph flow.json > flow.mmd")
@click.argument("config", shell_complete=completes("files"))
@click.pass_obj
def graph(state: State, config: str) -> None:
    """Draw a configuration, as Mermaid.

    Mermaid is text that GitHub, GitLab and many editors show as a picture. Triggers are round,
    tasks are boxes, with their deadlines and holds; hexagons are any of, some of or all of several
    conditions. Bold arrows are `andEvery`, dotted ones to a task `unless`; dotted ones from a task
    lead to what it fires `otherwise`. On the arrows stand `where` and counts.

    CONFIG is a JSON or TOML file, `-` for standard input, or MODULE:ATTRIBUTE.
    """
    parsed = state.app.parse(read_configuration(config))
    if state.json:
        state.out.data(graph_data(parsed))
    else:
        state.out.line(mermaid(parsed))


@command("schema", example="triggers schema > triggers.schema.json")
@click.pass_obj
def schema(state: State) -> None:
    """Print the JSON Schema of configurations, for editors.

    It is generated from the types, and knows the directives of the plugins that are installed here.
    An editor uses it for a file whose first key is `"$schema": "triggers.schema.json"`; the
    commands of `triggers` leave that key out.
    """
    app, limits = state.app, state.app.settings.limits
    directives = app.plugins.directives()
    state.out.data(configuration_schema(directives, limits.tasks, limits.condition_width))
