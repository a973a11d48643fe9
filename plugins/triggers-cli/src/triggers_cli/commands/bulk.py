"""Replaying and skipping in bulk: every failed instance that a filter chooses, in any session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import click

from triggers_cli.commands.lifecycle import duration as seconds
from triggers_cli.errors import FAILED, INTERRUPTED, OK
from triggers_cli.options import completes
from triggers_cli.running import prepare_for_many
from triggers_cli.state import State, again
from triggers_core.methods.bulk import (
    Act,
    Preview,
    Progress,
    Selection,
    act_on_failed,
    preview,
    with_whole_error,
)
from triggers_core.texts import count, duration, iso

_COUNTED: Final = 100_000  # failed instances that a preview looks at
_PROBLEMS: Final = 10  # refusals that are printed
_OFTEN: Final = 0.1  # seconds between two lines on how far it is

Options = Callable[[Callable[..., Any]], Any]


_OPTIONS: Final = (
    click.option(
        "--task",
        metavar="NAME",
        shell_complete=completes("failed_tasks"),
        help="Without UID: those of this task, in all sessions.",
    ),
    click.option(
        "--error",
        metavar="TYPE",
        shell_complete=completes("failed_errors"),
        help="Without UID: those that failed of this type of error, such as SMTPError.",
    ),
    click.option(
        "--older",
        type=seconds,
        metavar="DURATION",
        help="Without UID: those that failed longer ago than this: 36h, 2d.",
    ),
    click.option(
        "--prefix",
        metavar="TEXT",
        help="Without UID: those of sessions whose uid begins so.",
    ),
    click.option("--dry-run", is_flag=True, help="Without UID: only tell which it would be."),
)


def selection_options() -> Options:
    """Which failed instances of all sessions are meant."""

    def decorate(function: Callable[..., Any]) -> Any:
        for option in reversed(_OPTIONS):
            function = option(function)
        return function

    return decorate


def selected(
    uid: str | None,
    every: bool,
    instances: tuple[str, ...],
    task: str | None,
    error: str | None,
    older: float | None,
    prefix: str | None,
    dry_run: bool,
) -> Selection | None:
    """What a command line chooses in all sessions; None: it is about one session.

    :raises click.UsageError: it is about neither, or about both.
    """
    filters = (task, error, older, prefix)
    chosen = any(each is not None for each in filters)
    if uid is not None:
        if chosen or dry_run:
            raise click.UsageError(
                "--task, --error, --older, --prefix and --dry-run choose among the failed instances"
                " of all sessions: leave UID away"
            )
        return None
    if instances or not (chosen or every):
        raise click.UsageError(
            "name a session, or choose with --task, --error, --older or --prefix; --all takes every"
            " failed instance of every session"
        )
    return Selection(task=task, error=error, older_than=older, prefix=prefix or "")


def act_in_bulk(
    state: State,
    selection: Selection,
    act: Act,
    verb: str,
    *,
    by: str,
    dry_run: bool,
    yes: bool,
    wait: bool,
) -> int:
    """Look first, ask, then act on one after the other.

    :param verb: what is done, as in ``replay``.
    :returns: the exit code.
    """
    if wait:
        raise click.UsageError("--wait is for the instances of one session: name it")
    store = state.store()
    selection = with_whole_error(store, selection)
    found = preview(store, selection, _COUNTED)
    done_to = {"replay": "replayed", "skip": "skipped"}[verb]
    if dry_run:
        _tell_preview(state, found, done_to, store.now())
        return OK
    if not found.instances and not found.more:
        if state.json:
            state.out.data({done_to: 0, "refused": 0, "problems": []})
        else:
            state.out.line("There is no such failed instance.")
        return OK
    if not state.json and not yes:
        _tell_examples(state, found, store.now())
    state.confirm(f"{verb.capitalize()} {_amount(found)}?", yes)
    prepare_for_many(state)
    progress, code = Progress(), OK
    try:
        with state.out.status_line() as tell:
            shown = begun = time.monotonic()
            for progress in act_on_failed(state.app, selection, act, by):
                now = time.monotonic()
                if now - shown > _OFTEN:
                    shown = now
                    tell(_how_far(progress, found, done_to, now - begun))
    except KeyboardInterrupt:
        state.out.note(
            f"Interrupted: {count(progress.done, 'instance')} {done_to}. The same command goes on"
            f" with the others: {again(state.program)}"
        )
        code = INTERRUPTED
    return _tell_end(state, progress, done_to) or code


def _how_far(progress: Progress, found: Preview, done_to: str, elapsed: float) -> str:
    seen = progress.done + progress.refused
    more = " or more" if found.more else ""
    told = f"{seen:,} of {found.instances:,}{more}, {progress.done:,} {done_to}"
    if elapsed > 0 and seen and not found.more:
        left = max(0, found.instances - seen) * elapsed / seen
        told += f", {duration(left)} left"
    return f"{told}: {progress.uid}"


def _amount(found: Preview) -> str:
    least = "at least " if found.more else ""
    return f"{least}{count(found.instances, 'failed instance')}"


def _tell_preview(state: State, found: Preview, done_to: str, now: float) -> None:
    if state.json:
        examples = [
            {
                "uid": each.uid,
                "instance": each.instance,
                "error": each.error or None,
                "at": iso(each.at),
            }
            for each in found.examples
        ]
        state.out.data(
            {
                "dry_run": True,
                "instances": found.instances,
                "more": found.more,
                "examples": examples,
            }
        )
        return
    _tell_examples(state, found, now)
    state.out.line(("dry run", "yellow"), f": {_amount(found)} would be {done_to}")


def _tell_examples(state: State, found: Preview, now: float) -> None:
    if not found.examples:
        return
    rows = [
        (each.uid, each.instance, each.error or None, f"{duration(now - each.at)} ago")
        for each in found.examples
    ]
    state.out.table(("SESSION", "INSTANCE", "ERROR", "FAILED"), rows)
    if found.instances > len(rows) or found.more:
        state.out.line(f"and {found.instances - len(rows):,}{' or' if found.more else ''} more")


def _tell_end(state: State, progress: Progress, done_to: str) -> int:
    out = state.out
    if state.json:
        out.data(
            {done_to: progress.done, "refused": progress.refused, "problems": progress.problems}
        )
    else:
        out.line((done_to, "green"), f": {count(progress.done, 'instance')}")
        left = progress.refused - len(progress.problems)
        if left:
            out.line(f"  {left:,} were no longer failed, or are gone: somebody was faster")
    for problem in progress.problems[:_PROBLEMS]:
        out.error(problem)
    if len(progress.problems) > _PROBLEMS:
        out.note(f"and {len(progress.problems) - _PROBLEMS:,} more")
    if not state.json and progress.done and done_to == "replayed":
        out.note(("The workers run them.", "dim"))
    return FAILED if progress.problems else OK
