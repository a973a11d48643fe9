"""Exit codes, and how errors become one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from triggers_core.exceptions import InvalidInput, TriggersError, UnknownKey

OK: Final = 0
FAILED: Final = 1
"""What was asked about does not exist or is in a bad state, or the operation failed."""
USAGE: Final = 2
"""The command line or a file is not what the command takes."""
INTERRUPTED: Final = 130
"""Ctrl-C; 128 + SIGINT, as shells report it."""
CLOSED_PIPE: Final = 141
"""Whoever read the output has gone; 128 + SIGPIPE, as shells report it."""


class NothingThere(click.ClickException):
    """What was asked about does not exist, or nothing was done."""

    exit_code = FAILED


def exit_code_of(error: Exception) -> int | None:
    """The exit code for an error that people can do something about; None for a bug."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, InvalidInput | UnknownKey):
        return USAGE
    return FAILED if isinstance(error, TriggersError | OSError) else None


def message_of(error: Exception) -> str:
    """What to tell about an error."""
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return "\n".join([text or type(error).__name__, *getattr(error, "__notes__", ())])


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Import somebody's module: whatever it raises is a wrong command line, never the end of all.

    A script without ``if __name__ == "__main__"`` ends in `sys.exit(0)`: if that got through, the
    command would have done nothing and said that all is well.

    :param what: what is being loaded, for the message.
    :raises click.UsageError: it raised; only a Ctrl-C passes.
    """
    try:
        yield
    except (KeyboardInterrupt, click.ClickException):
        raise
    except BaseException as error:
        raise click.UsageError(f"{what}: {error_in_words(error)}") from error


def error_in_words(error: BaseException) -> str:
    """An error of somebody's code: what, where, and what that means if it is no `Exception`."""
    from triggers_core.redaction import error_text  # 5 ms: only what goes wrong needs it

    if isinstance(error, SystemExit):
        return (
            f"{_place(error)}sys.exit({error.code if error.code is not None else ''}) is called"
            " while it is imported. Is it a script? What it does belongs under"
            ' if __name__ == "__main__":'
        )
    try:
        text = error_text(error)
    except BaseException:
        text = type(error).__name__
    return text if isinstance(error, Exception) else f"{_place(error)}{text}"


def ended_by(error: BaseException) -> str:
    """What to tell when somebody's code raised what would have ended this program."""
    what = "sys.exit() was called" if isinstance(error, SystemExit) else type(error).__name__
    return f"{_place(error)}{what}, in code that this command calls; it has not come to its end"


def _place(error: BaseException) -> str:
    """Where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}: "


def hint_for(error: BaseException) -> str:
    """What to do about an error that other software raised, if that is known."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        kind = type(each)
        if kind.__module__ == "django.core.exceptions" and kind.__name__ in (
            "ImproperlyConfigured",
            "AppRegistryNotReady",
        ):
            return (
                "Django is not set up in this process. Name with --app (or TRIGGERS_APP) a module"
                " that sets DJANGO_SETTINGS_MODULE and calls django.setup(), and put the modules"
                " with tasks into TRIGGER_IMPORTS"
            )
        each = each.__cause__ or each.__context__
    return ""
