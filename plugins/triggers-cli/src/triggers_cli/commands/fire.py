"""Commands that feed a session: fire, configure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from triggers_cli.commands.check import codes_to_ignore, find_mistakes
from triggers_cli.configs import read_configuration
from triggers_cli.options import command, completes, json_option, uid_argument, wait_options
from triggers_cli.running import Operator
from triggers_cli.state import State
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.texts import count, did_you_mean

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
@wait_options()
@click.pass_obj
def fire(
    state: State,
    uid: str,
    trigger: str,
    kwargs: dict[str, Any] | None,
    event_id: str | None,
    once: bool,
    force: bool,
    wait: bool,
    timeout: float | None,
) -> int:
    """Fire a trigger into a session.

    A session that does not exist begins with this event. What the event completes is scheduled, and
    left to the running workers unless --wait is given.

    Exits with 1 when --wait was given and something failed or the time was up.
    """
    operator = Operator(state, uid, wait, create=True)
    result = operator.manager.fire(trigger, kwargs, event_id, once=once, force=force)
    tasks = operator.manager.storage.tasks
    waited_for = not tasks or any(trigger in each.listens_to for each in tasks.values())
    if not state.json:  # at once: what is waited for may take long
        _tell(state, operator, trigger, result)
    if not (waited_for or state.json or force):
        state.out.note((_nobody_waits(trigger, tasks), "yellow"))
    found, code = operator.settle(result.scheduled, timeout)
    if state.json:
        state.out.data(
            {
                "status": result.status,
                "event_id": result.event_id,
                "number": result.number,
                "waited_for": waited_for,
                "scheduled": list(result.scheduled),
                "instances": found,
            }
        )
        return code
    operator.tell(found)
    return code


def _tell(state: State, operator: Operator, trigger: str, result: FireResult) -> None:
    out, uid = state.out, operator.uid
    if result.status != "recorded":
        out.line(
            (result.status, "yellow"),
            f": nothing has changed; see event {result.number} of session {uid}",
        )
    else:
        out.line(("recorded", "green"), f": {trigger} is event {result.number} of session {uid}")
        if result.number == 0 and not operator.manager.storage.tasks:
            place = operator.manager.storage.store.place
            out.note((f"A new session in {place}. It has no tasks: triggers configure", "dim"))
    sys.stdout.flush()


def _nobody_waits(trigger: str, tasks: Mapping[str, Task]) -> str:
    """What to say about a trigger that no task of the session waits for."""
    waited = {name for task in tasks.values() for name in task.listens_to} - set(tasks)
    hint = did_you_mean(trigger, waited)
    return f"No task of this session waits for {trigger!r}{hint}"


@command("configure", example="triggers configure order:42 flow.json")
@uid_argument()
@click.argument("config", shell_complete=completes("files"))
@wait_options()
@click.pass_obj
def configure(state: State, uid: str, config: str, wait: bool, timeout: float | None) -> int:
    """Add tasks to a session, or replace those of the same name.

    The first configuration of a session applies the events recorded before it. A later one
    re-evaluates the unstarted instances of the tasks that it replaces; no task is removed.

    CONFIG is a JSON or TOML file, `-` for standard input, or MODULE:ATTRIBUTE. It is checked as a
    whole before anything is stored; likely mistakes are told by `triggers check`.
    """
    parsed = state.app.parse(read_configuration(config))
    operator = Operator(state, uid, wait, more=parsed.tasks.values(), create=True)
    configured = operator.manager.update_configuration(parsed)
    if not state.json:
        tasks = operator.manager.storage.tasks
        many = count(len(tasks), "task")
        if configured.changed:
            state.out.line(("configured", "green"), f": session {uid} has {many}")
        else:
            state.out.line(("unchanged", "yellow"), f": session {uid} has these tasks already")
        sys.stdout.flush()
    found, code = operator.settle(configured.scheduled, timeout)
    if state.json:
        state.out.data(
            {
                "changed": configured.changed,
                "config_version": configured.version,
                "scheduled": list(configured.scheduled),
                "instances": found,
            }
        )
        return code
    operator.tell(found)
    _hint(state, config, parsed)
    return code


def _hint(state: State, config: str, parsed: Configuration) -> None:
    findings = len(find_mistakes(state.app, parsed, codes_to_ignore(state.app)))
    if findings:
        state.out.note((f"{count(findings, 'warning')}: triggers check {config}", "yellow"))
