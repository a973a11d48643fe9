"""Commands that repair: replay, skip, fail, recover."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from triggers_cli.actors import by_option
from triggers_cli.commands.bulk import act_in_bulk, selected, selection_options
from triggers_cli.errors import FAILED, OK, exit_code_of, message_of
from triggers_cli.options import (
    command,
    completes,
    json_option,
    limit_option,
    uid_argument,
    wait_options,
    yes_option,
)
from triggers_cli.running import Operator
from triggers_cli.state import State
from triggers_core.exceptions import TriggersError
from triggers_core.methods import bulk
from triggers_core.running.sweep import recover_session

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager


def _every_failed(verb: str) -> Callable[[Callable[..., Any]], Any]:
    return click.option(
        "--all",
        "every",
        is_flag=True,
        help=f"{verb} every failed instance of the session; without UID, of all sessions.",
    )


def _chosen(operator: Operator, instances: Sequence[str], every: bool) -> list[str]:
    """The instances that a command is about.

    :raises click.UsageError: neither or both of INSTANCE and --all are given.
    """
    if bool(instances) == every:
        raise click.UsageError("name instances (such as t_ship#0), or pass --all")
    if not every:
        return list(dict.fromkeys(instances))
    found = operator.manager.storage.get_unresolved_instances()
    return [each.name for each in found if each.status == "failed"]


def _each(
    operator: Operator, names: Sequence[str], act: Callable[[str], str | None]
) -> tuple[list[str], int]:
    """Do something to each instance; the errors of some do not keep the others from it.

    :param act: returns the name of an instance that it scheduled.
    :returns: what was scheduled, and the exit code.
    """
    scheduled, code = [], OK
    for name in names:
        try:
            made = act(name)
        except TriggersError as error:
            operator.state.out.error(message_of(error), type(error).__name__)
            code = max(code, exit_code_of(error) or FAILED)
            continue
        if made is not None:
            scheduled.append(made)
    return scheduled, code


def _done(state: State, what: str, about: str) -> None:
    """Tell at once what is done and stored: what is waited for next may take long."""
    if not state.json:
        state.out.line((what, "green"), f": {about}")
        sys.stdout.flush()


@command(
    "replay",
    example="""triggers replay order:42 't_ship#0'
triggers replay order:42 't_ship#0' --kwargs '{"paid": {"amount": 42}}' --wait
triggers replay --task t_mail --error SMTPError --dry-run""",
)
@click.argument("uid", required=False, shell_complete=completes("uids"))
@click.argument("instances", nargs=-1, shell_complete=completes("failed_instances"))
@_every_failed("Replay")
@json_option("--kwargs", "Trigger → kwargs in place of the recorded ones, or @FILE; {} means none.")
@selection_options()
@wait_options()
@by_option()
@yes_option()
@click.pass_obj
def replay(
    state: State,
    uid: str | None,
    instances: tuple[str, ...],
    every: bool,
    kwargs: dict[str, Any] | None,
    task: str | None,
    error: str | None,
    older: float | None,
    prefix: str | None,
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    by: str,
    yes: bool,
) -> int:
    """Run failed instances again.

    A failed instance becomes `replayed`, and a clone of it with the same events and the same
    idempotency key is scheduled: for the running workers, unless --wait is given. With other
    kwargs, the clone has a key of its own.

    Without UID, those of all sessions that --task, --error, --older and --prefix choose: it tells
    how many, asks, and replays them one by one. Stopped with Ctrl-C, the same command goes on.

    Exits with 1 when an instance has not failed, or does not exist.
    """
    selection = selected(uid, every, instances, task, error, older, prefix, dry_run)
    if selection is not None:
        if kwargs is not None:
            raise click.UsageError("--kwargs is for the instances of one session: name it")
        return act_in_bulk(
            state, selection, bulk.replay, "replay", by=by, dry_run=dry_run, yes=yes, wait=wait
        )
    assert uid is not None, "else `selected` has refused"
    operator = Operator(state, uid, wait, by=by)
    replays: dict[str, str] = {}

    def act(name: str) -> str:
        clone = operator.manager.replay_failed_instance(name, kwargs).name
        replays[name] = clone
        _done(state, "replayed", f"{name} runs again as {clone}")
        return clone

    scheduled, code = _each(operator, _chosen(operator, instances, every), act)
    found, ended = operator.settle(scheduled, timeout)
    if state.json:
        state.out.data({"replayed": replays, "instances": found})
    else:
        if not replays and not code:
            state.out.line(f"There is no failed instance in session {uid}.")
        operator.tell(found)
    return code or ended


@command(
    "skip",
    example="""triggers skip order:42 't_mail#0' --cascade --yes
triggers skip --task t_mail --older 30d --dry-run""",
)
@click.argument("uid", required=False, shell_complete=completes("uids"))
@click.argument("instances", nargs=-1, shell_complete=completes("failed_instances"))
@_every_failed("Skip")
@click.option("--cascade", is_flag=True, help="Go on as if it had finished.")
@json_option("--result", "The kwargs of that cascade, or @FILE.")
@selection_options()
@wait_options()
@by_option()
@yes_option()
@click.pass_obj
def skip(
    state: State,
    uid: str | None,
    instances: tuple[str, ...],
    every: bool,
    cascade: bool,
    result: dict[str, Any] | None,
    task: str | None,
    error: str | None,
    older: float | None,
    prefix: str | None,
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    by: str,
    yes: bool,
) -> int:
    """Give up on failed instances.

    A failed instance becomes `skipped`; it can never be replayed. What waits for its task goes on
    waiting, unless --cascade is given: then its task's name fires, with --result as kwargs, and
    what that schedules is left to the running workers unless --wait is given.

    Without UID, those of all sessions that --task, --error, --older and --prefix choose, as for
    `triggers replay`.

    Exits with 1 when an instance has not failed, or does not exist.
    """
    if result is not None and not cascade:
        raise click.UsageError("--result is the kwargs of the cascade: pass --cascade, too")
    selection = selected(uid, every, instances, task, error, older, prefix, dry_run)
    if selection is not None:

        def skip_one(manager: TriggerManager, name: str) -> None:
            manager.skip_failed_instance(name, cascade, result)

        return act_in_bulk(
            state, selection, skip_one, "skip", by=by, dry_run=dry_run, yes=yes, wait=wait
        )
    assert uid is not None, "else `selected` has refused"
    operator = Operator(state, uid, wait, by=by)
    names = _chosen(operator, instances, every)
    if names:
        state.confirm(f"Skip {', '.join(names)} of session {uid}, for good?", yes)
    before = operator.scheduled()
    skipped = []

    def act(name: str) -> None:
        operator.manager.skip_failed_instance(name, cascade, result)
        skipped.append(name)
        _done(state, "skipped", name)

    _, code = _each(operator, names, act)
    found, ended = operator.settle(operator.scheduled() - before, timeout)
    if state.json:
        state.out.data({"skipped": skipped, "instances": found})
    else:
        if not names:
            state.out.line(f"There is no failed instance in session {uid}.")
        operator.tell(found)
    return code or ended


@command("fail", example="triggers fail order:42 't_ship#0' --reason 'worker hangs' --yes")
@uid_argument()
@click.argument("instances", nargs=-1, required=True, shell_complete=completes("stuck_instances"))
@click.option("--reason", default="failed by hand", show_default=True, help="Kept as its error.")
@by_option()
@yes_option()
@click.pass_obj
def fail(
    state: State, uid: str, instances: tuple[str, ...], reason: str, by: str, yes: bool
) -> int:
    """Fail an instance that is stuck in scheduled or running.

    Its worker, if there still is one, is fenced off: what it returns is dropped. Afterwards the
    instance can be replayed or skipped.

    Exits with 1 when an instance is in another state, or does not exist.
    """
    operator = Operator(state, uid, wait=False, by=by)
    names = list(dict.fromkeys(instances))
    state.confirm(f"Fail {', '.join(names)} of session {uid}?", yes)
    failed = []

    def act(name: str) -> None:
        operator.manager.fail_instance(name, reason)
        failed.append(name)
        _done(state, "failed", f"{name}; triggers replay, or triggers skip")

    _, code = _each(operator, names, act)
    if state.json:
        state.out.data({"failed": failed})
    return code


@command("recover", example="triggers recover\ntriggers recover --wait")
@click.argument("uid", required=False, shell_complete=completes("uids"))
@limit_option(1_000, "How many instances at most.")
@wait_options()
@click.pass_obj
def recover(state: State, uid: str | None, limit: int, wait: bool, timeout: float | None) -> int:
    """Set overdue instances going again, in every session or in one.

    What running workers do by themselves every few seconds, done once by hand: an instance that
    nobody claimed is dispatched again, one whose worker was lost gets another attempt (or fails
    after too many), and a retry whose time has come is scheduled.

    They are left to the running workers. With --wait, this process runs them: what a crashed
    application left behind is finished, and nothing else is begun.
    """
    store = state.store()
    overdue: dict[str, list[str]] = {}
    if uid is not None:
        now = state.session(uid).store.clock()
        late = [i.name for i in store.instances(uid) if i.due_at is not None and i.due_at <= now]
        overdue = {uid: late[:limit]} if late else {}
    else:
        for due in store.due(limit):
            overdue.setdefault(due.uid, []).append(due.instance)
    told: list[dict[str, Any]] = []
    operators: list[tuple[Operator, list[str]]] = []
    code = OK
    for each, names in overdue.items():
        try:
            operator = Operator(state, each, wait)
            recovered = recover_session(operator.manager, tuple(names))
        except (TriggersError, click.UsageError) as error:
            state.out.error(f"{each}: {message_of(error)}", type(error).__name__)
            code = max(code, exit_code_of(error) or FAILED)
            continue
        again = [name for name, _ in recovered.dispatch]
        operators.append((operator, again))
        told.append({"uid": each, "again": again, "failed": recovered.failed})
        _done(state, "recovered", f"session {each}")
        for name in recovered.failed if not state.json else ():
            state.out.line(f"  {name}  ", ("failed", "red"), "  its workers were lost too often")
    for entry, (operator, again) in zip(told, operators, strict=True):
        entry["instances"], ended = operator.settle(again, timeout)
        code = max(code, ended, FAILED if entry["failed"] else OK)
        if not state.json:
            if len(told) > 1 and entry["instances"]:
                state.out.line(f"Session {entry['uid']}:")
            operator.tell(entry["instances"])
    if state.json:
        state.out.data(told)
        return code
    if not overdue:
        state.out.line("Nothing is overdue.")
    return code
