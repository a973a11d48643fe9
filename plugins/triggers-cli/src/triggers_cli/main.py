"""The command ``triggers``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from triggers_cli import errors
from triggers_cli.groups import LazyGroup
from triggers_cli.options import global_options
from triggers_cli.output import Output
from triggers_cli.state import GIVEN_UP, State

COMPLETING = "_TRIGGERS_COMPLETE"

HELP = """Run a task once a combination of events has happened.

Look at sessions and configurations, try them, and repair what failed."""


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from triggers_cli import __version__
        from triggers_core import __version__ as core

        click.echo(f"triggers-cli {__version__}, triggers-core {core}")
        ctx.exit()


cli = LazyGroup(
    "triggers",
    help=HELP,
    params=[
        *global_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the versions.",
        ),
    ],
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    no_args_is_help=True,
)
"""The command line; for documentation tools, and for tests of plugins that add commands."""


def run(arguments: Sequence[str], state: State | None = None, prog_name: str = "triggers") -> int:
    """Run a command line in this process.

    :param state: gets the options.
    :param prog_name: how the command was called, for usage and help.
    :returns: the exit code.
    """
    state = state or State()
    state.program = prog_name
    if COMPLETING in os.environ:
        from triggers_cli.completing import register  # 3 ms: only a shell that completes needs it

        register()
    if os.path.isdir(os.curdir) and "" not in sys.path:
        # For the application's own modules. Last: a file here must not shadow an installed one.
        sys.path.append(os.getcwd())
    try:
        code = cli.main([*arguments], prog_name, standalone_mode=False, obj=state)
        return _flushed(code if isinstance(code, int) else errors.OK)
    except (click.Abort, KeyboardInterrupt):
        if state.works_here and not state.gives_up:  # before anybody began to wait for the work
            state.gives_up = True
            state.out.note(GIVEN_UP)
        state.out.note("Interrupted.")
        return errors.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return errors.USAGE
    except Exception as error:
        return _report(error, state, arguments)
    except BaseException as error:  # a module or a hook that calls sys.exit(0): all is not well
        if COMPLETING in os.environ:
            raise  # so click ends when it has told the shell
        out = state.out if state.json else Output("--json" in arguments, state.no_color)
        out.error(errors.ended_by(error), type(error).__name__)
        return errors.FAILED
    finally:
        if not state.gives_up:
            state.close()


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = errors.CLOSED_PIPE
    if code == errors.CLOSED_PIPE:
        # The interpreter flushes stdout once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _report(error: Exception, state: State, arguments: Sequence[str]) -> int:
    code = errors.exit_code_of(error)
    hint = errors.hint_for(error)
    if code is None and hint:
        code = errors.USAGE
    if code is None:
        raise error
    # A wrong command line may never have been read as far as --json.
    out = state.out if state.json else Output("--json" in arguments, state.no_color)
    kind = "UsageError" if isinstance(error, click.UsageError) else type(error).__name__
    out.error(errors.message_of(error), kind)
    if hint and not out.json:
        out.note(hint)
    if isinstance(error, click.UsageError) and error.ctx is not None and not out.json:
        out.note((f"Help: {error.ctx.command_path} --help", "dim"))
    return code


def main(arguments: Sequence[str] | None = None, prog_name: str = "triggers") -> NoReturn:
    """The console script: run a command line, and end the process with its exit code.

    :param arguments: those of the process, by default.
    :param prog_name: how the command was called, for usage and help.
    """
    state = State()
    code = run(sys.argv[1:] if arguments is None else arguments, state, prog_name)
    if state.gives_up:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the interpreter would wait for the threads that run bodies
    sys.exit(code)
