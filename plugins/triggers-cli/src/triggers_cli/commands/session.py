"""Commands that look at one session: show, explain, events. They change nothing and run nothing."""

from __future__ import annotations

import shlex
from typing import Any

import click

from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command, completes, limit_option, secrets_option, uid_argument
from triggers_cli.output import STATUS_STYLES, Cell, to_line
from triggers_cli.state import State
from triggers_core.engine.features import FEATURE
from triggers_core.engine.records import Header, Status
from triggers_core.engine.standing import is_idle
from triggers_core.exceptions import TaskNotFound
from triggers_core.explain import explain as explain_task
from triggers_core.redaction import mask, mask_url
from triggers_core.storages.session import SessionStorage, TaskInstance
from triggers_core.texts import clock, count, duration, moment
from triggers_core.views.session import event_data, instance_data, session_data, status_counts

_OPEN_AT_MOST = 20


@command(
    "show",
    example="triggers show order:42\ntriggers show order:42 't_ship#0'",
)
@uid_argument()
@click.argument("instance", required=False, shell_complete=completes("instances"))
@secrets_option()
@click.pass_obj
def show(state: State, uid: str, instance: str | None, secrets: bool) -> int:
    """Show a session, or one of its instances.

    The session: how many instances of each task are where, and what is unresolved. An instance
    (such as t_ship#0): its kwargs, its result, and its error with the traceback.

    Exits with 1 when there is no such session or instance, or something in it has failed.
    """
    storage = state.session(uid)
    if instance is not None:
        found = storage[instance]
        data = instance_data(found, secrets)
        if state.json:
            state.out.data(data)
        else:
            _print_instance(state, found, data, storage.store.clock())
        return FAILED if found.status == "failed" else OK
    header = storage.header
    assert header is not None
    if state.json:
        state.out.data(session_data(storage))
    else:
        _print_session(state, storage, header)
    return FAILED if header.total(Status.FAILED) else OK


def _print_session(state: State, storage: SessionStorage, header: Header) -> None:
    out, now = state.out, storage.store.clock()
    out.line(("Session ", None), (storage.uid, "bold"), f": {header.state.value}")
    changed = duration(now - header.updated_at)
    out.line(f"  {count(header.events, 'event')}; the last change {changed} ago")
    if header.waiting_since is not None:
        since = header.waiting_since
        out.line(f"  nothing under way since {clock(since, now)} ({duration(now - since)})")
    if plugins := _plugins(header):
        out.line(f"  requires the plugins {', '.join(plugins)}")
    counts = {name: status_counts(header, name) for name in storage.tasks}
    if not counts:
        out.line("  has no configuration yet: the first one applies these events")
    else:
        used = [status for status in STATUS_STYLES if any(c[status] for c in counts.values())]
        heads = ["TASK", *(status.upper() for status in used)]
        rows: list[tuple[Cell, ...]] = [
            (
                name,
                *(
                    (f"{each[status]:,}", STATUS_STYLES[status] if each[status] else "dim")
                    for status in used
                ),
            )
            for name, each in counts.items()
        ]
        out.line()
        out.table(heads, rows, heads[1:])
    tasks = storage.tasks
    unresolved = [
        each
        for each in storage.get_unresolved_instances()
        if each.task not in tasks or not is_idle(tasks[each.task].rule, each.record)
    ]
    if unresolved:
        out.line()
        order = ("failed", "running", "scheduled", "unstarted")
        unresolved.sort(key=lambda each: order.index(each.status))
        table = [
            (each.name, (each.status.value, STATUS_STYLES[each.status]), _remark(each, now))
            for each in unresolved[:_OPEN_AT_MOST]
        ]
        out.table(("UNRESOLVED", "STATUS", ""), table)
        if len(unresolved) > _OPEN_AT_MOST:
            out.line(f"and {len(unresolved) - _OPEN_AT_MOST:,} more")
    out.note((f"Why: {state.program} explain {shlex.quote(storage.uid)}", "dim"))


def _plugins(header: Header) -> list[str]:
    """What a process must have beside the core."""
    return [each for each in header.requires if not each.startswith(FEATURE)]


def _remark(instance: TaskInstance, now: float) -> str:
    error = instance.metadata.get("error")
    if instance.status == "failed" and isinstance(error, dict):
        return mask_url(f"{error.get('type', '')}: {error.get('message', '')}".splitlines()[0])[:80]
    if instance.status == "unstarted" and instance.due_at is not None:
        what = "late" if instance.not_before is None else "scheduled"
        return f"{what} {_when(instance.due_at, now)}"
    return f"attempt {instance.attempt}" if instance.attempt else ""


_CONTENT = ("kwargs", "result", "metadata")
_MOMENTS = ("created_at", "started_at", "ended_at", "due_at", "lease_until")
_WORDS = {
    "created_at": "created",
    "started_at": "started",
    "ended_at": "ended",
    "due_at": "due",
    "lease_until": "lease ends",
    "holder": "runs in",
}


def _when(at: float, now: float) -> str:
    """A moment as `explain` tells it."""
    ago = f"{duration(now - at)} ago" if at <= now else f"in {duration(at - now)}"
    return f"{clock(at, now)} ({ago})"


def _print_instance(state: State, instance: TaskInstance, data: dict[str, Any], now: float) -> None:
    out = state.out
    status = instance.status.value
    out.line((instance.name, "bold"), ": ", (status, STATUS_STYLES[status]))
    for key, value in data.items():
        if key in ("name", "status", "moment", *_CONTENT) or value in (None, 0):
            continue
        shown = _when(getattr(instance, key), now) if key in _MOMENTS else value
        out.line(f"  {_WORDS.get(key, key.replace('_', ' '))}: {shown}")
    metadata = dict(data["metadata"])
    error = metadata.pop("error", None)
    sections = [("kwargs", data["kwargs"]), ("result", data["result"]), ("metadata", metadata)]
    for title, content in sections:
        if content:
            out.line(f"  {title}:")
            for name, value in content.items():
                out.line(f"    {name}: {to_line(value)}")
    if isinstance(error, dict):
        out.line("  error: ", (f"{error.get('type')}: {error.get('message')}", "red"))
        if error.get("context"):
            out.line(f"    context: {to_line(error['context'])}")
        for line in str(error.get("traceback", "")).splitlines():
            out.line((f"    {line}", "dim"))


# -- explain ---------------------------------------------------------------------------------------


@command(
    "explain",
    example="triggers explain order:42\ntriggers explain order:42 t_ship",
)
@uid_argument()
@click.argument("task", required=False, shell_complete=completes("tasks"))
@click.pass_obj
def explain(state: State, uid: str, task: str | None) -> int:
    """Say what tasks have, wait for, and why they did not run.

    Without TASK, every task of the session is explained. Exits with 1 when there is no such session
    or task, or when something that it tells about has failed.
    """
    storage = state.session(uid)
    try:
        header = storage.header
        asks = header is not None and _plugins(header)  # only plugins in use can know more
        explanation = explain_task(
            storage,
            task,
            state.app.rules if asks else None,
            state.app.plugins.explain_trigger if asks else None,
        )
    except TaskNotFound as error:
        if task is not None and "#" in task:
            name = task.rpartition("#")[0]
            typed, where = state.program, shlex.quote(uid)
            error.add_note(f"To look at an instance: {typed} show {where} '{task}'")
            error.add_note(f"To ask about its task: {typed} explain {where} '{name}'")
        raise
    if state.json:
        state.out.data(mask(explanation.data))
    else:
        for line in mask_url(str(explanation)).splitlines():
            _print_explained(state, line)
    instances = [each for task in explanation.tasks for each in task.instances]
    return FAILED if any(each.status == "failed" for each in instances) else OK


def _print_explained(state: State, line: str) -> None:
    """Print a line of an explanation, with its names in colour."""
    if line.startswith("  - "):
        name, colon, rest = line[4:].partition(": ")
        style = next((style for word, style in _EXPLAINED.items() if rest.startswith(word)), None)
        state.out.paragraph(f"{colon}{rest}", f"  - {name}", style, "    ")
    elif (row := line.lstrip(" ")).startswith(("[x] ", "[ ] ")):
        depth = len(line) - len(row)
        style = "green" if row.startswith("[x]") else "yellow"
        state.out.paragraph(row[3:], f"{' ' * depth}{row[:3]}", style, " " * (depth + 4))
    elif line and not line.startswith(" "):
        name, colon, rest = line.partition(": ")
        state.out.paragraph(f"{colon}{rest}", name, "bold")
    else:
        state.out.paragraph(line)


_EXPLAINED = {**STATUS_STYLES, "waits ": "yellow", "held ": "yellow"}


# -- events ----------------------------------------------------------------------------------------


@command(
    "events",
    example="triggers events order:42\ntriggers events order:42 --trigger paid --limit 5",
)
@uid_argument()
@click.option(
    "--trigger",
    metavar="NAME",
    help="Only events of this trigger.",
    shell_complete=completes("fired_triggers"),
)
@click.option("--start", type=click.IntRange(min=0), metavar="N", help="Begin at this number.")
@limit_option(50, "How many at most: the last ones, or with --start the first ones from there.")
@secrets_option()
@click.pass_obj
def events(
    state: State, uid: str, trigger: str | None, start: int | None, limit: int, secrets: bool
) -> int:
    """List the events of a session.

    Each with its number, when it was recorded, and what fired it: the application, an instance that
    finished, or a plugin.

    Exits with 1 when there is no such session.
    """
    storage = state.session(uid)
    header = storage.header
    assert header is not None
    if trigger is None:
        begin = max(0, header.events - limit) if start is None else start
        found = storage.store.events(uid, begin, limit)
    else:
        found = [e for e in storage.store.events(uid, start or 0) if e.trigger == trigger]
        found = found[-limit:] if start is None else found[:limit]
    if state.json:
        state.out.data([event_data(each, secrets) for each in found])
        return OK
    if not found:
        state.out.line(f"There are no such events in session {uid}.")
        return OK
    rows = []
    for event in found:
        kwargs = event_data(event, secrets)["kwargs"]
        cause = event.cause or event.source.value
        rows.append((event.number, moment(event.at), event.trigger, cause, to_line(kwargs, 100)))
    state.out.table(("#", "RECORDED", "TRIGGER", "FIRED BY", "KWARGS"), rows, ("#",))
    if len(found) < header.events:
        shown = f"{len(found):,} of {header.events:,} events"
        state.out.note((f"{shown}: --limit, --start and --trigger choose", "dim"))
    return OK
