"""The command ``fire``: it feeds a session."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from triggers_cli.actors import by_option
from triggers_cli.errors import OK
from triggers_cli.options import command, completes, json_option, uid_argument, wait_options
from triggers_cli.running import Operator
from triggers_cli.state import State
from triggers_core.engine.configuration import Configuration
from triggers_core.texts import did_you_mean, names

if TYPE_CHECKING:
    from triggers_core.manager import FireResult


@command(
    "fire",
    example="""triggers fire order:42 paid --kwargs '{"amount": 42}' --event-id stripe:evt_1""",
)
@uid_argument()
@click.argument("trigger", shell_complete=completes("triggers"))
@json_option("--kwargs", "The event's kwargs, or @FILE.")
@click.option("--event-id", metavar="ID", help="The same id again is a no-op that says so.")
@click.option("--once", is_flag=True, help="Do nothing if the trigger has fired before.")
@click.option("--force", is_flag=True, help="Allow the name of a task, which fires by itself.")
@click.option("--dry-run", is_flag=True, help="Only tell what it would schedule; store nothing.")
@wait_options()
@by_option()
@click.pass_obj
def fire(
    state: State,
    uid: str,
    trigger: str,
    kwargs: dict[str, Any] | None,
    event_id: str | None,
    once: bool,
    force: bool,
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    by: str,
) -> int:
    """Fire a trigger into a session.

    A session that does not exist begins with this event. What the event completes is scheduled, and
    left to the running workers unless --wait is given. With --dry-run it is only told what that
    would be; plugins that look at events before they are fired are not asked.

    Exits with 1 when --wait was given and something failed or the time was up.
    """
    if dry_run and wait:
        raise click.UsageError("--dry-run schedules nothing that could be waited for")
    operator = Operator(state, uid, wait, create=not dry_run, by=by)
    result = operator.manager.fire(
        trigger, kwargs, event_id, once=once, force=force, dry_run=dry_run
    )
    configuration = operator.manager.storage.configuration
    waited_for = result.waited_for
    slip = not waited_for and trigger not in configuration.otherwise
    if dry_run and not state.json:
        _tell_would(state, uid, trigger, result)
    elif not state.json:  # at once: what is waited for may take long
        _tell(state, operator, trigger, result)
    if slip and not (state.json or force):
        state.out.note((_nobody_waits(trigger, configuration), "yellow"))
    found, code = ([], OK) if dry_run else operator.settle(result.scheduled, timeout)
    if state.json:
        state.out.data(
            {
                "dry_run": dry_run,
                "status": result.status,
                "event_id": result.event_id,
                "number": result.number,
                "waited_for": waited_for,
                "scheduled": list(result.scheduled),
                "instances": found,
            }
        )
        return code
    if not dry_run:
        operator.tell(found)
    return code


def _tell_would(state: State, uid: str, trigger: str, result: FireResult) -> None:
    if result.status != "recorded":
        what = f"nothing would change; see event {result.number} of session {uid}"
        state.out.line((result.status, "yellow"), f": {what}")
    elif result.scheduled:
        what = names(result.scheduled)
        state.out.line(("would schedule", "green"), f": {what}, by {trigger} in session {uid}")
    else:
        state.out.line(("would schedule", "yellow"), f": nothing, by {trigger} in session {uid}")


def _tell(state: State, operator: Operator, trigger: str, result: FireResult) -> None:
    out, uid = state.out, operator.uid
    if result.status != "recorded":
        out.line(
            (result.status, "yellow"),
            f": nothing has changed; see event {result.number} of session {uid}",
        )
    else:
        out.line(("recorded", "green"), f": {trigger} is event {result.number} of session {uid}")
        place = operator.manager.storage.store.place
        if result.number == 0 and not operator.manager.storage.tasks:
            out.note(
                (
                    f"A new session in {place}. It has no tasks, as no settings that are found from"
                    f" here name any: {state.program} configure gives it some",
                    "dim",
                )
            )
        elif operator.in_a_new_place:
            out.note((f"Sessions are kept in {place}, which is new.", "dim"))
    sys.stdout.flush()


def _nobody_waits(trigger: str, configuration: Configuration) -> str:
    """What to say about a trigger that no task of the session waits for."""
    hint = did_you_mean(trigger, set(configuration.listeners) - set(configuration.tasks))
    return f"No task of this session waits for {trigger!r}{hint}"
