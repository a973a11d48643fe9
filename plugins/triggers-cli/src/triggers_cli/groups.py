"""The commands: a table of our own, and what other distributions add. Imported when used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from triggers_cli.errors import error_in_words
from triggers_cli.options import GLOBAL, GlobalOption, write_example

if TYPE_CHECKING:
    from triggers_core.entry_points import Provider

GROUP: Final = "triggers.commands"
"""The entry-point group of commands: name → click command."""

SECTIONS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Try it": {
        "demo": ("demo", "Watch two orders, one worker and one kill -9: three seconds."),
    },
    "Before it goes live": {
        "check": ("check", "Find errors and likely mistakes in a configuration."),
        "graph": ("check", "Draw a configuration, as Mermaid."),
        "schema": ("check", "Print the JSON Schema of configurations, for editors."),
        "backtest": ("backtest", "Replay recorded events through a configuration."),
    },
    "Sessions": {
        "overview": ("overview", "Show what sessions wait for, and what failed, in groups."),
        "sessions": ("sessions", "List what is stuck: failed, overdue, waiting."),
        "show": ("session", "Show a session, or one of its instances."),
        "explain": ("session", "Say what tasks have, wait for, and why they did not run."),
        "events": ("session", "List the events of a session."),
        "find": ("overview", "Find sessions, events, missing triggers and failures."),
        "configurations": ("overview", "List the configurations that sessions have."),
        "fire": ("fire", "Fire a trigger into a session."),
        "configure": ("configure", "Add tasks to a session, or replace those of the same name."),
    },
    "Repair": {
        "replay": ("repair", "Run failed instances again."),
        "skip": ("repair", "Give up on failed instances."),
        "fail": ("repair", "Fail an instance that is stuck in scheduled or running."),
        "recover": ("repair", "Set overdue instances going again."),
    },
    "The end of sessions": {
        "close": ("lifecycle", "Let a session accept no more events."),
        "delete": ("lifecycle", "Erase a session."),
        "prune": ("lifecycle", "Erase sessions that nothing has changed for a while."),
    },
    "This installation": {
        "storage": ("storage", "Set up the tables or the file that sessions are kept in."),
        "plugins": ("installation", "List the plugins, their hooks and their order."),
        "settings": ("installation", "List the settings and where their values come from."),
        "completion": ("installation", "Print the completion script of a shell."),
    },
}
"""Section of the help → command → (module of `triggers_cli.commands`, what it does)."""

OWN: Final = {name: place for section in SECTIONS.values() for name, place in section.items()}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*OWN, *(name for name in sorted(_added()) if name not in OWN)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OWN:
            module = import_module(f"triggers_cli.commands.{OWN[cmd_name][0]}")
            found: click.Command = getattr(module, cmd_name)
            return found
        providers = _added().get(cmd_name)
        return None if providers is None else load_command(cmd_name, providers)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click would import every command, 150 ms, to ask it what it does.
        names = [each for each in self.list_commands(ctx) if each.startswith(incomplete)]
        added = _added()
        items = [
            CompletionItem(
                name, help=OWN[name][1] if name in OWN else short_help(name, added[name])
            )
            for name in names
        ]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args and self.get_command(ctx, args[0]) is None:
                # 30 ms: only for this message
                from triggers_core.entry_points import KNOWN_DISTRIBUTIONS
                from triggers_core.texts import did_you_mean

                if (home := KNOWN_DISTRIBUTIONS[GROUP].get(args[0])) is not None:
                    install = f"python -m pip install {home}"
                    message = f"the command {args[0]!r} is not installed: {install}"
                    raise click.UsageError(message, ctx) from error
                hint = did_you_mean(args[0], self.list_commands(ctx))
                hint = hint if hint.endswith("?") else f": `{ctx.command_path} --help` lists them"
                raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])
        added = [
            (name, short_help(name, providers))
            for name, providers in sorted(_added().items())
            if name not in OWN
        ]
        if added:
            with formatter.section("From plugins"):
                formatter.write_dl(added)
        records = [
            (record, isinstance(parameter, GlobalOption))
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx))
        ]
        with formatter.section(GLOBAL):
            formatter.write_dl([record for record, common in records if common])
        with formatter.section("Options"):
            formatter.write_dl([record for record, common in records if not common])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        exits = [
            ("0", "all is well"),
            ("1", "what was asked about is in a bad state or does not exist"),
            ("2", "the command line or a file is wrong"),
            ("130", "interrupted"),
        ]
        with formatter.section("Exit codes"):
            formatter.write_dl(exits)
        write_example("triggers check flow.json\ntriggers COMMAND --help", formatter)


def _added() -> dict[str, list[Provider]]:
    """The commands of other distributions, by name. Nothing of theirs is imported."""
    # 26 ms: most command lines name a command of our own.
    from triggers_core.entry_points import find_providers

    found: dict[str, list[Provider]] = {}
    for provider in find_providers(GROUP):
        found.setdefault(provider.name, []).append(provider)
    return found


def load_command(name: str, providers: list[Provider]) -> click.Command:
    """Import a command that another distribution adds.

    :raises click.ClickException: it cannot be imported, is no command, or two claim the name.
    """
    if len(providers) > 1:
        owners = " and by ".join(map(str, providers))
        raise click.ClickException(
            f"the command {name!r} is provided by {owners}: uninstall one of them"
        )
    [provider] = providers
    place = f"the command {name!r} ({provider}, {provider.path})"
    try:
        loaded: Any = provider.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        told = error_in_words(error)
        raise click.ClickException(f"{place} cannot be loaded: {told}") from error
    if not isinstance(loaded, click.Command):
        raise click.ClickException(f"{place} is no click command, but a {type(loaded).__name__}")
    return loaded


def short_help(name: str, providers: list[Provider]) -> str:
    """What a command of another distribution does; a broken one says why it is."""
    try:
        return load_command(name, providers).get_short_help_str(limit=60)
    except click.ClickException as error:
        return f"({error.format_message()})"
