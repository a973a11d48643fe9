"""The options that every command takes, before its name or after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from triggers_cli.state import State

GLOBAL: Final = "Options of every command"


class GlobalOption(click.Option):
    """An option that is stored in the `State`, wherever on the command line it stands."""

    def __init__(self, declarations: Sequence[str], **attributes: Any) -> None:
        super().__init__(declarations, expose_value=False, callback=_store, **attributes)


def _store(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    state = ctx.find_root().ensure_object(State)
    name = parameter.name or ""
    typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    # What was typed before the command's name wins over the environment, asked again after it.
    if value not in (None, False) and (typed or not getattr(state, name)):
        setattr(state, name, value)


def global_options() -> list[click.Parameter]:
    """New objects of the options of every command."""
    return [
        GlobalOption(
            ["--app", "app_path"],
            metavar="MODULE[:ATTR]",
            envvar="TRIGGERS_APP",
            help="The Application to use (ATTR: app), or the module that configures the default"
            " one. [env: TRIGGERS_APP]",
        ),
        GlobalOption(
            ["--settings", "settings_module"],
            metavar="MODULE",
            help="The settings module. [env: TRIGGERS_SETTINGS_MODULE]",
        ),
        GlobalOption(
            ["--storage", "storage_text"],
            metavar="TYPE:VALUE",
            help="sqlite:PATH or redis://HOST/DB, in place of the settings' storage.",
        ),
        GlobalOption(["--json", "json"], is_flag=True, help="Print JSON, and nothing else."),
        GlobalOption(
            ["--no-color", "no_color"],
            is_flag=True,
            help="No colours; NO_COLOR and FORCE_COLOR are heeded, too.",
        ),
    ]


class TriggersCommand(click.Command):
    """A command that takes the options of every command, and may show an example.

    :param example: lines for the end of its help: the commands that one would type.
    """

    def __init__(self, *arguments: Any, example: str = "", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.example = example
        self.params.extend(global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                (common if isinstance(parameter, GlobalOption) else own).append(record)
        for title, records in (("Options", own), (GLOBAL, common)):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write_example(self.example, formatter)


def write_example(example: str, formatter: click.HelpFormatter) -> None:
    """Put an example at the end of a help text."""
    if example:
        with formatter.section("Example"):
            for line in example.strip().splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def command(
    name: str, *, example: str = "", **attributes: Any
) -> Callable[[Callable[..., Any]], TriggersCommand]:
    """Turn a function into a command that takes the options of every command.

    :param name: what to type after ``triggers``.
    :param example: lines for the end of its help.
    :param attributes: as for `click.command`.
    """
    return click.command(name, cls=TriggersCommand, example=example, **attributes)


# -- parameters that several commands have ---------------------------------------------------------

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def uid_argument() -> Decorator:
    """The session that a command is about."""
    return click.argument("uid", shell_complete=completes("uids"))


def completes(what: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """What a parameter offers to the shell's completion: a function of `triggers_cli.completing`.

    Example::

        click.argument("config", shell_complete=completes("files"))
    """

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
        from triggers_cli import completing  # 3 ms: only a shell that completes needs it

        found: list[Any] = getattr(completing, what)(ctx, parameter, incomplete)
        return found

    return complete


def yes_option() -> Decorator:
    """The answer to the question of a destructive command."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def wait_options() -> Callable[[Callable[..., Any]], Any]:
    """Whether what a command schedules is run and awaited."""

    def decorate(function: Callable[..., Any]) -> Any:
        wait = click.option(
            "--wait/--no-wait",
            default=False,
            help="Wait until what this schedules has ended; a local runner runs it in this process,"
            " with the tasks of TRIGGER_IMPORTS. By default it is left to the workers.",
        )
        timeout = click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait at most.",
        )
        return wait(timeout(function))

    return decorate


def json_option(name: str, text: str) -> Decorator:
    """An option whose value is a JSON object, or ``@FILE`` that holds one."""
    return click.option(name, type=_json_object, metavar="JSON", help=text)


_SUCH_AS: Final = """'{"amount": 42}'"""


def _json_object(text: str) -> dict[str, Any]:
    shown = "it"
    if text.startswith("@"):
        shown = text[1:]
        try:
            with open(shown, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{shown} cannot be read: {error}") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(
            f"{shown} is not JSON: {error}. Write an object, such as {_SUCH_AS}"
        ) from None
    if not isinstance(found, dict):
        raise click.BadParameter(
            f"{shown} has to be an object, such as {_SUCH_AS}, not {json.dumps(found)[:40]}"
        )
    return found


def secrets_option() -> Decorator:
    """Whether values under telling keys are shown."""
    return click.option(
        "--secrets", is_flag=True, help="Show passwords, tokens and the like instead of ***."
    )


def limit_option(default: int, help: str = "How many at most.") -> Decorator:
    """How much of a listing is shown."""
    at_least_one = click.IntRange(min=1)
    return click.option("--limit", type=at_least_one, default=default, show_default=True, help=help)
