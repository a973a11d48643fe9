"""Exit codes, and how errors become one."""

from __future__ import annotations

from typing import Final

import click

OK: Final = 0
BAD: Final = 1
"""What was asked about does not exist or is in a bad state, or the operation failed."""
USAGE: Final = 2
"""The command line or a file is not what the command takes."""
INTERRUPTED: Final = 130
"""Ctrl-C; 128 + SIGINT, as shells report it."""
CLOSED_PIPE: Final = 141
"""Whoever read the output has gone; 128 + SIGPIPE, as shells report it."""


class NothingThere(click.ClickException):
    """What was asked about does not exist, or nothing was done."""

    exit_code = BAD


def exit_code_of(error: Exception) -> int | None:
    """The exit code for an error that people can do something about; None for a bug."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    from triggers_core.exceptions import InvalidInput, TriggersError, UnknownKey

    if isinstance(error, InvalidInput | UnknownKey):
        return USAGE
    return BAD if isinstance(error, TriggersError | OSError) else None


def message_of(error: Exception) -> str:
    """What to tell about an error."""
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return "\n".join([text or type(error).__name__, *getattr(error, "__notes__", ())])
