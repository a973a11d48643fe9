"""The command ``sessions``: what is stuck, from the fleet index."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from triggers_cli.errors import FAILED, OK
from triggers_cli.options import command, limit_option
from triggers_cli.state import State
from triggers_core.storages.summaries import SessionSummary
from triggers_core.storages.summaries import logger as storage_logger
from triggers_core.texts import duration
from triggers_core.views.stuck import list_all, list_stuck

_HEAD = (
    "SESSION",
    "FAILED",
    "OVERDUE",
    "UNDER WAY",
    "UNSTARTED",
    "WAITING",
    "EVENTS",
    "LAST CHANGE",
)
_RIGHT = ("FAILED", "OVERDUE", "UNDER WAY", "UNSTARTED", "EVENTS")


@command(
    "sessions",
    example="triggers sessions\ntriggers sessions --failed --json",
)
@click.option("--failed", is_flag=True, help="Those with failed instances, most first.")
@click.option("--overdue", is_flag=True, help="Those with instances that no worker looks after.")
@click.option("--waiting", is_flag=True, help="Those that wait for events, longest first.")
@click.option("--all", "everything", is_flag=True, help="All sessions, by uid.")
@limit_option(20)
@click.option("--after", default="", metavar="UID", help="With --all: begin after this uid.")
@click.pass_obj
def sessions(
    state: State,
    failed: bool,
    overdue: bool,
    waiting: bool,
    everything: bool,
    limit: int,
    after: str,
) -> int:
    """List what is stuck: failed, overdue, waiting.

    Failed: an instance failed, and was neither replayed nor skipped.

    Overdue: nobody claimed an instance in time, its worker was lost, or its time has come and no
    sweep looked. Is a worker running?

    Waiting: nothing is under way, and something needs an event that has not come.

    Without an option, sessions of all three kinds are listed, the failed ones first. The list
    comes from an index: it costs the same with ten sessions and with ten million.

    Exits with 1 when a session on the list has failed or overdue instances, or when one cannot be
    read: damaged ones, and those of a newer version, are named on stderr.
    """
    store = state.store()
    # Two sweeps of a worker have passed over what counts here; before that, all may be well.
    grace = 2 * state.app.settings.timing.sweep
    with _left_out() as left_out:
        if everything:
            listing = list_all(store, limit=limit, after=after, grace=grace)
        else:
            listing = list_stuck(
                store, failed=failed, overdue=overdue, waiting=waiting, limit=limit, grace=grace
            )
    unreadable = dict.fromkeys([*listing.overdue.unreadable, *left_out])
    for message in unreadable:
        state.out.error(message, "UnknownSchema")
    rows = [(each, listing.overdue_in(each.uid)) for each in listing.sessions]
    if state.json:
        state.out.data(listing.data)
    elif not rows:
        state.out.line(
            f"There are no sessions in {store.place}."
            if everything
            else f"Nothing is stuck in {store.place}."
        )
    else:
        now = store.clock()
        state.out.table(_HEAD, [_row(each, late, now) for each, late in rows], _RIGHT)
        if listing.more:
            state.out.note((f"There are more: --limit {limit * 5}", "dim"))
        state.out.note((f"Why: {state.program} explain {shlex.quote(rows[0][0].uid)}", "dim"))
    return FAILED if unreadable or any(each.failed or late for each, late in rows) else OK


class _Collector(logging.Handler):
    """Keeps each warning once, in place of printing it at every look."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[record.getMessage()] = None


@contextmanager
def _left_out() -> Iterator[dict[str, None]]:
    """Messages about sessions that storages leave out of their lists, since they cannot be read."""
    collector, passes_on = _Collector(), storage_logger.propagate
    storage_logger.addHandler(collector)
    storage_logger.propagate = False
    try:
        yield collector.messages
    finally:
        storage_logger.propagate = passes_on
        storage_logger.removeHandler(collector)


def _row(each: SessionSummary, late: int, now: float) -> tuple[Any, ...]:
    waits = None if each.waiting_since is None else duration(now - each.waiting_since)
    return (
        each.uid,
        (f"{each.failed:,}", "red" if each.failed else None),
        (f"{late:,}", "red" if late else None),
        each.under_way,
        each.unstarted - each.idle,
        ("closed", "dim") if each.state == "closed" else waits,
        each.events,
        f"{duration(now - each.updated_at)} ago",
    )
