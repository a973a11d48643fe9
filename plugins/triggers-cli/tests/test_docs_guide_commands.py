"""The commands that the Guide tells people to type are commands that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from doc_pages import DOCS, Page

from triggers_cli.main import cli

PAGES = [Page(file) for file in sorted((DOCS / "guide").rglob("*.md"))]


def commands(page: Page) -> Iterator[str]:
    """Each `triggers …` of a page, inline or in a console block."""
    yield from re.findall(r"`(triggers [a-z][^`]*)`", page.text)
    yield from (each.line for each in page.commands if each.line.startswith("triggers "))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_commands_can_be_typed(page: Page) -> None:
    for line in commands(page):
        command: click.Command = cli
        context = click.Context(cli, info_name="triggers")
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        options = [word for word in words if word.startswith("-")]
        known = {
            option
            for parameter in command.get_params(click.Context(command))
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(options) <= known, line
