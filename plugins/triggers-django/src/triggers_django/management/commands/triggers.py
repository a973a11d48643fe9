"""``manage.py triggers …``: the command line of triggers-cli, with the project set up."""

from __future__ import annotations

import os
from argparse import REMAINDER
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from triggers_cli.main import main, run

_TAKEN_BY_DJANGO = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """Hands everything behind its name to the command line `triggers`."""

    help = "The command line of Triggers: sessions, explain, replay …; --help lists all."
    requires_system_checks = ()
    """None: this is there to look at what is wrong, too."""

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        """Run a command line and end the process with its exit code.

        `BaseCommand` would take some options (``--version``, ``--no-color``) for its own.
        """
        try:
            main(_without_djangos(argv[2:]), _name(argv[0]))
        finally:
            connections.close_all()

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """``manage.py help triggers``."""
        run(["--help"], prog_name=_name(prog_name))

    def add_arguments(self, parser: CommandParser) -> None:
        """Take everything that `call_command` is given."""
        parser.add_argument("arguments", nargs=REMAINDER, help="As for the command `triggers`.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it as ``call_command("triggers", "sessions", "--json")`` does.

        :raises CommandError: it ended with an exit code other than 0, its `returncode`.
        """
        code = run([str(each) for each in options["arguments"]], prog_name=_name("manage.py"))
        if code:
            raise CommandError(f"it ended with the exit code {code}", returncode=code)


def _name(program: str) -> str:
    return f"{os.path.basename(program)} triggers"


def _without_djangos(arguments: list[str]) -> list[str]:
    """What is left when ``manage.py`` has taken its own options, wherever they stand."""
    left: list[str] = []
    skip = False
    for each in arguments:
        if skip or each in _TAKEN_BY_DJANGO:
            skip = not skip
        elif not each.startswith(tuple(f"{option}=" for option in _TAKEN_BY_DJANGO)):
            left.append(each)
    return left
