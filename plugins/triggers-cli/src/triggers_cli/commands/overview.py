"""Commands about all sessions at once: overview, find, configurations."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

import click

from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command, limit_option
from triggers_cli.output import Cell
from triggers_cli.state import State
from triggers_core.storages.groups import FailedGroup
from triggers_core.storages.summaries import SessionSummary
from triggers_core.texts import count, duration, names
from triggers_core.views.configurations import configurations as list_configurations
from triggers_core.views.finding import find as find_in
from triggers_core.views.overview import MissingTrigger
from triggers_core.views.overview import overview as look_at

_TASKS_SHOWN: Final = 6


@command("overview", example="triggers overview\ntriggers overview --json")
@limit_option(20, "How many of each at most.")
@click.pass_obj
def overview(state: State, limit: int) -> int:
    """Show what sessions wait for, and what failed, in groups.

    A thousand that wait for one event are a line. Then what is overdue, and what is due soon. All
    of it comes from indexes.

    Exits with 1 when something failed or is overdue.
    """
    store = state.store()
    grace = 2 * state.app.settings.timing.sweep
    found = look_at(store, limit=limit, grace=grace)
    bad = bool(found.failed or found.overdue.sessions or found.overdue.unreadable)
    for message in found.overdue.unreadable:
        state.out.error(message, "UnknownSchema")
    if state.json:
        state.out.data(found.data)
        return FAILED if bad else OK
    out = state.out
    if not (bad or found.missing or found.idle or found.soon):
        out.line(f"Nothing is stuck in {store.place}.")
        return OK
    sections = False
    if found.failed:
        _failed(state, found.failed[:limit], found.now)
        _more(state, len(found.failed), limit)
        sections = True
    if found.overdue.sessions:
        _apart(state, sections)
        rows = [(uid, f"{amount:,}") for uid, amount in found.overdue.instances.items()]
        out.table(("SESSION", "OVERDUE"), rows[:limit], ("OVERDUE",))
        sections = True
    if found.missing:
        _apart(state, sections)
        _waiting(state, found.missing[:limit], found.now)
        _more(state, len(found.missing), limit)
        sections = True
    if found.idle:
        least = "more than " if found.more_idle else ""
        out.note((f"{least}{count(found.idle, 'session')} more wait, but for no event", "dim"))
    if found.soon:
        _apart(state, sections)
        soon = [(each.uid, each.instance, each.then, each.at) for each in found.soon]
        out.table(("SESSION", "INSTANCE", "WILL BE", "AT"), soon)
        if found.more_soon:
            out.note(("There are more within a day.", "dim"))
    if found.failed:
        first = found.failed[0]
        error = f" --error {shlex.quote(first.error)}" if first.error else ""
        command = f"triggers replay --task {shlex.quote(first.task)}{error} --dry-run"
        out.note((f"Again: {command}", "dim"))
    return FAILED if bad else OK


@command("find", example="triggers find order:4\ntriggers find stripe:evt_1 --json")
@click.argument("text")
@limit_option(20, "How many of each at most.")
@click.pass_obj
def find(state: State, text: str, limit: int) -> int:
    """Find sessions, events, missing triggers and failures.

    TEXT is the beginning of a uid, of a trigger that sessions wait for, or of a task or type of
    error with failures; the whole id of an event; or one of failed, overdue, waiting.

    Exits with 1 when nothing is found.
    """
    store = state.store()
    found = find_in(store, text, limit)
    if state.json:
        state.out.data(found.data)
        return FAILED if found.empty else OK
    if found.empty:
        state.out.line(f"Nothing in {store.place} is called {text}, or begins so.")
        if found.events is None:
            state.out.note(("This storage finds no events by their ids.", "dim"))
        return FAILED
    now, sections = store.now(), False
    for sessions in (found.sessions, found.stuck):
        if sessions:
            _apart(state, sections)
            _sessions(state, sessions, now)
            sections = True
    if found.more_sessions:
        state.out.note((f"There are more: --limit {limit * 5}", "dim"))
    if found.events:
        _apart(state, sections)
        rows = [(each.uid, each.number, text) for each in found.events]
        state.out.table(("SESSION", "EVENT", "ID"), rows, ("EVENT",))
        sections = True
    if found.waiting:
        _apart(state, sections)
        _waiting(state, found.waiting, now)
        sections = True
    if found.failed:
        _apart(state, sections)
        _failed(state, found.failed, now)
    return OK


@command("configurations", example="triggers configurations\ntriggers configurations --json")
@limit_option(50)
@click.option("--after", default="", metavar="ADDRESS", help="Begin after this one.")
@click.pass_obj
def configurations(state: State, limit: int, after: str) -> int:
    """List the configurations that sessions have, and how many have each.

    `triggers configure CONFIG --where-configuration ADDRESS` gives all open sessions that have one
    the tasks of another.

    Exits with 1 when the storage has no index that tells.
    """
    store = state.store()
    found = list_configurations(store, limit=limit, after=after)
    if found is None:
        state.out.error(f"{store.place} has no index of which session has which configuration")
        return FAILED
    if state.json:
        state.out.data(found.data)
        return OK
    if not found.found:
        state.out.line(f"No session in {store.place} has a configuration.")
        return OK
    rows: list[Sequence[Cell]] = []
    for each in found.by_use:
        tasks = list(each.configuration.tasks) if each.configuration else []
        told = names(tasks[:_TASKS_SHOWN]) if tasks else "?"
        if len(tasks) > _TASKS_SHOWN:
            told = f"{', '.join(tasks[:_TASKS_SHOWN])} and {len(tasks) - _TASKS_SHOWN:,} more"
        amount = f"{each.sessions:,}{' or more' if each.more else ''}"
        rows.append((each.address, amount, each.example or None, told))
    state.out.table(("ADDRESS", "SESSIONS", "FOR EXAMPLE", "TASKS"), rows, ("SESSIONS",), wrap=True)
    if found.more:
        state.out.note((f"There are more: --after {found.found[-1].address}", "dim"))
    return OK


def _apart(state: State, follows: bool) -> None:
    if follows:
        state.out.line()


def _more(state: State, amount: int, limit: int) -> None:
    if amount > limit:
        state.out.note((f"and {amount - limit:,} more: --limit {limit * 5}", "dim"))


def _failed(state: State, failed: Sequence[FailedGroup], now: float) -> None:
    rows = [
        (
            (f"{each.instances:,}", "red"),
            each.task,
            each.error or None,
            f"{duration(now - each.since)} ago",
        )
        for each in failed
    ]
    state.out.table(("FAILED", "TASK", "ERROR", "THE FIRST"), rows, ("FAILED",))


def _waiting(state: State, missing: Sequence[MissingTrigger], now: float) -> None:
    rows = [
        (f"{each.sessions:,}{'+' if each.more else ''}", each.trigger, duration(now - each.since))
        for each in missing
    ]
    state.out.table(("WAITING", "FOR", "THE OLDEST FOR"), rows, ("WAITING",))


def _sessions(state: State, sessions: Sequence[SessionSummary], now: float) -> None:
    rows = []
    for each in sessions:
        waits = None if each.waiting_since is None else duration(now - each.waiting_since)
        rows.append(
            (
                each.uid,
                (f"{each.failed:,}", "red" if each.failed else None),
                ("closed", "dim") if each.state == "closed" else waits,
                each.events,
                f"{duration(now - each.updated_at)} ago",
            )
        )
    head = ("SESSION", "FAILED", "WAITING", "EVENTS", "LAST CHANGE")
    state.out.table(head, rows, ("FAILED", "EVENTS"))
