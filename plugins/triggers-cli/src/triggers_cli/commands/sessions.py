"""The command ``sessions``: what is stuck, from the fleet index."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from triggers_cli.errors import BAD, OK
from triggers_cli.options import command
from triggers_cli.state import State
from triggers_core.texts import iso

if TYPE_CHECKING:
    from triggers_core.storages.base import SessionSummary, Store

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
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most."
)
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

    Overdue: nobody claimed an instance in time, or its worker was lost. Is a worker running?

    Waiting: nothing is under way, and something needs an event that has not come.

    Without an option, sessions of all three kinds are listed, the failed ones first. The list
    comes from an index: it costs the same with ten sessions and with ten million.

    Exits with 1 when a session on the list has failed or overdue instances, or when one cannot be
    read: damaged ones, and those of a newer version, are named on stderr.
    """
    store = state.store()
    with _unreadable() as unreadable:
        # Two sweeps of a worker have passed over what counts here; before that, all may be well.
        late = _overdue(store, limit, unreadable, grace=2 * state.app.settings.timing.sweep)
        if everything:
            found = store.sessions(limit=limit + 1, after=after)
        else:
            found = _stuck(store, late, failed, overdue, waiting, limit + 1)
    for message in unreadable:
        state.out.error(message, "UnknownSchema")
    more, found = len(found) > limit, found[:limit]
    rows = [(each, late[each.uid][1] if each.uid in late else 0) for each in found]
    if state.json:
        state.out.data([_as_data(each, count) for each, count in rows])
    elif not rows:
        state.out.line(
            f"There are no sessions in {state.place(store)}."
            if everything
            else f"Nothing is stuck in {state.place(store)}."
        )
    else:
        now = store.clock()
        state.out.table(_HEAD, [_row(each, count, now) for each, count in rows], _RIGHT)
        if more:
            state.out.note((f"There are more: --limit {limit * 5}", "dim"))
        state.out.note((f"Why: triggers explain {shlex.quote(rows[0][0].uid)}", "dim"))
    return BAD if unreadable or any(each.failed or count for each, count in rows) else OK


class _Collector(logging.Handler):
    """Keeps each warning once, in place of printing it at every look."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.messages[record.getMessage()] = None


@contextmanager
def _unreadable() -> Iterator[dict[str, None]]:
    """Messages about sessions that storages leave out of their lists, since they cannot be read."""
    from triggers_core.storages.base import logger

    collector, passes_on = _Collector(), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield collector.messages
    finally:
        logger.propagate = passes_on
        logger.removeHandler(collector)


def _overdue(
    store: Store, limit: int, unreadable: dict[str, None], grace: float
) -> dict[str, tuple[SessionSummary, int]]:
    """Uid → session and number of overdue instances; those overdue for longest first."""
    from triggers_core.engine.protocol import Query
    from triggers_core.exceptions import TriggersError
    from triggers_core.storages.base import summarise

    names: dict[str, list[str]] = {}
    for due in store.due(limit * 10):
        names.setdefault(due.uid, []).append(due.instance)
    late = {}
    for uid, instances in names.items():
        try:
            snapshot = store.load(uid, Query(instances=tuple(instances)))
        except TriggersError as error:  # it cannot be read: that must not hide the others
            unreadable[str(error)] = None
            continue
        before = snapshot.now - grace
        amount = sum(
            i.due_at is not None and i.due_at < before for i in snapshot.instances.values()
        )
        if snapshot.header is not None and amount:
            late[uid] = summarise(uid, snapshot.header), amount
    return late


def _stuck(
    store: Store,
    late: dict[str, tuple[SessionSummary, int]],
    failed: bool,
    overdue: bool,
    waiting: bool,
    limit: int,
) -> list[SessionSummary]:
    every = not (failed or overdue or waiting)
    found: dict[str, SessionSummary] = {}
    if failed or every:
        found |= {each.uid: each for each in store.sessions(failed=True, limit=limit)}
    if overdue or every:
        found |= {uid: each for uid, (each, _) in late.items() if uid not in found}
    if waiting or every:
        longest = store.sessions(waiting=True, limit=limit)
        found |= {each.uid: each for each in longest if each.uid not in found}
    return list(found.values())[:limit]


def _row(each: SessionSummary, late: int, now: float) -> tuple[Any, ...]:
    from triggers_core.texts import duration

    waits = None if each.waiting_since is None else duration(now - each.waiting_since)
    return (
        each.uid,
        (f"{each.failed:,}", "red" if each.failed else None),
        (f"{late:,}", "red" if late else None),
        each.under_way,
        each.unstarted,
        ("closed", "dim") if each.state == "closed" else waits,
        each.events,
        f"{duration(now - each.updated_at)} ago",
    )


def _as_data(each: SessionSummary, late: int) -> dict[str, Any]:
    return {
        "uid": each.uid,
        "state": each.state.value,
        "failed": each.failed,
        "overdue": late,
        "under_way": each.under_way,
        "unstarted": each.unstarted,
        "events": each.events,
        "waiting_since": iso(each.waiting_since),
        "created_at": iso(each.created_at),
        "updated_at": iso(each.updated_at),
    }
