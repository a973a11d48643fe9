"""``configure`` for many sessions: what it would lead to in all of them, then one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from triggers_cli.errors import FAILED, INTERRUPTED, OK
from triggers_cli.running import prepare_for_many
from triggers_cli.state import State, again
from triggers_core.engine.configuration import Configuration
from triggers_core.methods.moving import LISTS, Preview, Progress, Sessions, move, preview
from triggers_core.texts import count, duration

_PROBLEMS: Final = 10  # refusals that are printed
_OFTEN: Final = 0.1  # seconds between two lines on how far it is


def configure_many(
    state: State,
    sessions: Sessions,
    configuration: Configuration,
    *,
    past: bool,
    dry_run: bool,
    yes: bool,
    most: int,
    led_to: dict[str, str],
) -> int:
    """Look first, ask, then configure one session after the other.

    :param most: sessions that the look beforehand is taken at.
    :param led_to: list of `Configured` → what is told of the instances in it.
    :returns: the exit code.
    """
    state.store()
    prepare_for_many(state)
    found = Preview()
    if dry_run or not yes:
        with state.out.status_line() as tell:
            tell(f"looking at up to {count(most, 'session')} …")
            found = preview(state.app, sessions, configuration, past=past, most=most)
        if state.json and dry_run:
            state.out.data({"dry_run": True, **_data(found)})
        elif not state.json:
            _tell_preview(state, found, led_to)
        if dry_run:
            return _problems(state, found)
        if not (found.change or found.more):
            if state.json:
                state.out.data(_data(Progress(closed=found.closed, unchanged=found.unchanged)))
            return _problems(state, found)
        least = "at least " if found.more else ""
        state.confirm(f"Configure {least}{count(found.change, 'open session')}?", yes)
    progress, code = Progress(), OK
    try:
        with state.out.status_line() as tell:
            begun = shown = time.monotonic()
            for progress in move(state.app, sessions, configuration, past=past):
                now = time.monotonic()
                if now - shown > _OFTEN:
                    shown = now
                    told = f"{count(progress.done, 'session')} configured"
                    tell(f"{told}, {duration(now - begun)}: {progress.uid}")
    except KeyboardInterrupt:
        state.out.note(
            f"Interrupted: {count(progress.done, 'session')} configured. The same command goes on"
            f" with the others: {again(state.program)}"
        )
        code = INTERRUPTED
    if state.json:
        state.out.data(_data(progress))
    else:
        state.out.line(("configured", "green"), f": {count(progress.done, 'session')}")
        _tell_totals(state, progress, led_to)
    return code or _problems(state, progress)


def _data(told: Preview | Progress) -> dict[str, Any]:
    found = msgspec.to_builtins(told)
    found.pop("uid", None)
    found["instances"] = {name: told.instances.get(name, 0) for name in LISTS}
    return dict(found)


def _tell_preview(state: State, found: Preview, led_to: dict[str, str]) -> None:
    out = state.out
    least = "the first " if found.more else ""
    out.line(
        ("dry run", "yellow"),
        f": of {least}{count(found.sessions, 'open session')},"
        f" {found.change:,} would change; nothing is stored",
    )
    _tell_totals(state, found, led_to)
    for each in found.examples:
        lists = {name: getattr(each.configured, name) for name in LISTS}
        told = [f"{led_to[name]}: {len(some):,}" for name, some in lists.items() if some]
        out.line(f"  {each.uid}  ", ("; ".join(told) or "nothing runs or moves", "dim"))


def _tell_totals(state: State, found: Preview | Progress, led_to: dict[str, str]) -> None:
    out = state.out
    for name in LISTS:
        if found.instances.get(name):
            out.line(f"  {led_to[name]}: {count(found.instances[name], 'instance')}")
    if found.unchanged:
        out.line(f"  {found.unchanged:,} have these tasks already")
    if found.closed:
        out.line(f"  {found.closed:,} are closed, and stay as they are")


def _problems(state: State, found: Preview | Progress) -> int:
    for problem in found.problems[:_PROBLEMS]:
        state.out.error(problem)
    if len(found.problems) > _PROBLEMS:
        state.out.note(f"and {len(found.problems) - _PROBLEMS:,} more")
    return FAILED if found.problems else OK


def where_options() -> Callable[[Callable[..., Any]], Any]:
    """Which sessions are meant, in place of one."""

    def decorate(function: Callable[..., Any]) -> Any:
        prefix = click.option(
            "--where-prefix",
            metavar="TEXT",
            help="In place of UID: all open sessions whose uid begins so.",
        )
        address = click.option(
            "--where-configuration",
            metavar="ADDRESS",
            help="In place of UID: all open sessions that have this configuration; `triggers"
            " configurations` lists them.",
        )
        return prefix(address(function))

    return decorate
