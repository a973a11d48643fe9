"""The command ``configure``: the tasks of a session, and what the past means for them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from triggers_cli.actors import by_option
from triggers_cli.commands.check import codes_to_ignore, find_mistakes
from triggers_cli.commands.moving import configure_many, where_options
from triggers_cli.configs import read_configuration
from triggers_cli.errors import OK
from triggers_cli.options import command, completes, wait_options, yes_option
from triggers_cli.running import Operator
from triggers_cli.state import State
from triggers_core.engine.configuration import Configuration
from triggers_core.methods.moving import Sessions
from triggers_core.texts import count, names

if TYPE_CHECKING:
    from triggers_core.engine.commands import Configured

_SHOWN: Final = 10  # instances that a line names
_LED_TO: Final = {
    "due": "was due before",
    "began": "began with the past",
    "moved": "moved",
    "scheduled": "to run now",
    "held": "held back",
    "late": "late",
    "called_off": "called off",
}
"""List of `Configured` → what is told of the instances in it."""


@command(
    "configure",
    example="""triggers configure order:42 flow.json
triggers configure order:42 flow.json --past --dry-run
triggers configure flow.json --where-prefix order: --dry-run""",
)
@click.argument("uid", metavar="[UID]", shell_complete=completes("uids_or_files"))
@click.argument("config", metavar="CONFIG", required=False, shell_complete=completes("files"))
@where_options()
@click.option(
    "--past",
    is_flag=True,
    help="Apply the recorded events to the tasks that are new, each at its own time: what is late"
    " by now is late at once, and a hold does not end before now.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what it would lead to.")
@click.option(
    "--look-at",
    type=click.IntRange(min=1),
    default=1_000,
    show_default=True,
    metavar="SESSIONS",
    help="With --where-…: how many sessions the look beforehand is taken at.",
)
@by_option()
@wait_options()
@yes_option()
@click.pass_obj
def configure(
    state: State,
    uid: str,
    config: str | None,
    where_prefix: str | None,
    where_configuration: str | None,
    past: bool,
    dry_run: bool,
    look_at: int,
    by: str,
    wait: bool,
    timeout: float | None,
    yes: bool,
) -> int:
    """Add tasks to a session, or replace those of the same name.

    The first configuration of a session applies the events recorded before it; a later one does so
    with --past, for the tasks that are new. Unstarted instances of tasks that it replaces keep what
    they have, and are looked at anew; no task is removed.

    Tells what began, what runs now, is held back, late or called off because of it, and which
    instances moved. With --dry-run nothing is stored, and nothing runs.

    With --where-prefix or --where-configuration in place of UID, the same for all open sessions
    that are meant (both: that answer to both). It tells what it would lead to, asks, and configures
    one session after the other. Stopped with Ctrl-C, the same command goes on.

    CONFIG is a JSON or TOML file, `-` for standard input, or MODULE:ATTRIBUTE. It is checked as a
    whole before anything is stored; likely mistakes are told by `triggers check`.
    """
    if dry_run and wait:
        raise click.UsageError("--dry-run runs nothing: there is nothing to --wait for")
    if where_prefix is not None or where_configuration is not None:
        if config is not None:
            raise click.UsageError("with --where-…, name no UID: only the configuration")
        if wait:
            raise click.UsageError("--wait is for one session: name it")
        return configure_many(
            state,
            Sessions(prefix=where_prefix or "", configuration=where_configuration or ""),
            state.app.parse(read_configuration(uid)),
            past=past,
            by=by,
            dry_run=dry_run,
            yes=yes,
            most=look_at,
            led_to=_LED_TO,
        )
    if config is None:
        raise click.UsageError(
            "name a session and a configuration: triggers configure UID CONFIG; or choose sessions"
            " with --where-prefix or --where-configuration"
        )
    parsed = state.app.parse(read_configuration(config))
    operator = Operator(state, uid, wait, more=parsed.tasks.values(), create=not dry_run, by=by)
    configured = operator.manager.update_configuration(parsed, past=past, dry_run=dry_run)
    if not state.json:
        _tell(state, operator, parsed, configured, dry_run)
    if dry_run:
        if state.json:
            state.out.data({"dry_run": True, **_data(configured)})
        else:
            _hint(state, config, parsed)
        return OK
    found, code = operator.settle(configured.scheduled, timeout)
    if state.json:
        state.out.data({**_data(configured), "instances": found})
        return code
    operator.tell(found)
    _hint(state, config, parsed)
    return code


def _data(configured: Configured) -> dict[str, Any]:
    led_to = msgspec.structs.asdict(configured)
    return {"config_version" if name == "version" else name: led_to[name] for name in led_to}


def _tell(
    state: State, operator: Operator, parsed: Configuration, configured: Configured, dry_run: bool
) -> None:
    out, uid = state.out, operator.uid
    many = count(len({*operator.manager.storage.tasks, *parsed.tasks}), "task")
    if not configured.changed:
        out.line(("unchanged", "yellow"), f": session {uid} has these tasks already")
    elif dry_run:
        out.line(("dry run", "yellow"), f": session {uid} would have {many}; nothing is stored")
    else:
        out.line(("configured", "green"), f": session {uid} has {many}")
    for name, told in _LED_TO.items():
        # What runs is told once more when it is known what became of it.
        instances = getattr(configured, name) if dry_run or name != "scheduled" else ()
        if instances:
            shown = names(instances)
            if len(instances) > _SHOWN:
                shown = f"{', '.join(instances[:_SHOWN])} and {len(instances) - _SHOWN:,} more"
            out.line(f"  {told}: {shown}")
    sys.stdout.flush()


def _hint(state: State, config: str, parsed: Configuration) -> None:
    findings = len(find_mistakes(state.app, parsed, codes_to_ignore(state.app)))
    if findings:
        state.out.note((f"{count(findings, 'warning')}: triggers check {config}", "yellow"))
