"""The command line, from click's own objects: every command, with its options and an example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import click

# A command that another distribution of this environment adds is none of this project's.
_OURS: Final = ("triggers_",)


def all_commands() -> dict[str, click.Command]:
    """Name → command, groups' own commands among them (``storage init``)."""
    from triggers_cli.main import cli

    ctx = click.Context(cli, info_name="triggers")
    found: dict[str, click.Command] = {}
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        assert command is not None
        found.update(_with_parts(name, command, ctx))
    return found


def _with_parts(
    name: str, command: click.Command, ctx: click.Context
) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        inner = click.Context(command, info_name=name.split()[-1], parent=ctx)
        for part in command.list_commands(inner):
            found = command.get_command(inner, part)
            assert found is not None
            yield from _with_parts(f"{name} {part}", found, inner)


def markdown() -> str:
    """A section for each section of the help, and in it one for each command."""
    from triggers_cli.groups import SECTIONS

    commands = all_commands()
    places = {name: title for title, part in SECTIONS.items() for name in part}
    titles = [*SECTIONS, "From plugins"]
    parts = [_shared()]
    for title in titles:
        here = [name for name in commands if places.get(name.split()[0], titles[-1]) == title]
        if here:
            parts.append(f"## {title}")
            parts += [_section(name, commands[name]) for name in here]
    return "\n\n".join(parts)


def _shared() -> str:
    from triggers_cli.options import global_options

    return "\n\n".join(
        [
            "## Options of every command",
            "Before the command's name or after it.",
            *(_option(each) for each in global_options() if isinstance(each, click.Option)),
        ]
    )


def _section(name: str, command: click.Command) -> str:
    from triggers_cli.options import GlobalOption

    ctx = click.Context(command, info_name=f"triggers {name}")
    usage = " ".join(command.collect_usage_pieces(ctx))
    options = [
        each
        for each in command.params
        if isinstance(each, click.Option) and not isinstance(each, GlobalOption) and not each.hidden
    ]
    example = getattr(command, "example", "")
    parts = [
        f"### {name}",
        f"```text\ntriggers {name} {usage}\n```",
        _prose(inspect.cleandoc(command.help or "")),
        *map(_option, options),
    ]
    if example:
        parts += ["Example:", f"```text\n{example.strip()}\n```"]
    return "\n\n".join(filter(None, parts))


def _prose(text: str) -> str:
    """A help text as Markdown: what click keeps as it stands is code."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("\b\n"):
            blocks.append(f"```text\n{block[2:]}\n```")
        else:
            blocks.append(_escaped(block))
    return "\n\n".join(blocks)


def _escaped(text: str) -> str:
    return re.sub(r"([*_<>#\[\]`])", r"\\\1", text)


def _option(option: click.Option) -> str:
    record: Any = option.get_help_record(click.Context(click.Command("triggers")))
    names, text = record
    return f"`{names}`\n: {_escaped(text)}"
