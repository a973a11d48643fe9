"""Commands that end sessions: close, delete, prune. Each asks first."""

from __future__ import annotations

from collections.abc import Iterator

import click

from triggers_cli.options import command, uid_argument, yes_option
from triggers_cli.running import Operator
from triggers_cli.state import State
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import check_age
from triggers_core.storages.base import Store, all_sessions
from triggers_core.storages.summaries import SessionSummary
from triggers_core.texts import count, parse_duration


@command("close", example="triggers close order:42 --yes")
@uid_argument()
@yes_option()
@click.pass_obj
def close(state: State, uid: str, yes: bool) -> None:
    """Let a session accept no more events.

    What is under way runs to its end, cascades included. A closed session cannot be opened again;
    it can still be looked at, replayed, skipped and deleted.
    """
    operator = Operator(state, uid, wait=False)
    state.confirm(f"Close session {uid}, for good?", yes)
    operator.manager.close_session()
    _done(state, "closed", uid)


@command("delete", example="triggers delete order:42 --yes")
@uid_argument()
@yes_option()
@click.pass_obj
def delete(state: State, uid: str, yes: bool) -> None:
    """Erase a session: its events, its instances, everything.

    What is running for it goes on, and its outcome is dropped. A session that begins under the same
    uid later is another one.
    """
    try:
        storage = state.session(uid)
        metadata = storage.metadata
        what = f"its {count(0 if metadata is None else metadata.events, 'event')}"
    except UnknownSchema as error:  # nothing else can be done about it than this
        state.out.note((str(error), "yellow"))
        storage = state.app.storage(uid)
        what = "all its events, which may be of use to a newer version"
    state.confirm(f"Erase session {uid} and {what}?", yes)
    storage.store.delete(uid)
    _done(state, "deleted", uid)


def _done(state: State, what: str, uid: str) -> None:
    if state.json:
        state.out.data({"uid": uid, what: True})
    else:
        state.out.line((what, "green"), f": session {uid}")


def duration(text: str) -> float:
    """An option's value as seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@command(
    "prune",
    example="triggers prune --older-than 90d --dry-run\ntriggers prune --older-than 90d --yes",
)
@click.option(
    "--older-than",
    type=duration,
    metavar="DURATION",
    required=True,
    help="Erase sessions that nothing has changed for so long: 90d, 36h, 2w.",
)
@click.option(
    "--unresolved",
    is_flag=True,
    help="Erase those with unresolved instances, too. Few sessions ever resolve fully.",
)
@click.option("--dry-run", is_flag=True, help="Only tell which sessions would be erased.")
@yes_option()
@click.pass_obj
def prune(state: State, older_than: float, unresolved: bool, dry_run: bool, yes: bool) -> None:
    """Erase sessions that nothing has changed for a while.

    Sessions with unresolved instances are kept, unless --unresolved is given.
    """
    store = state.store()
    check_age(older_than)
    changes = list[float]()
    if dry_run or not yes or state.out.watched:
        before = store.clock() - older_than
        uids = []
        with state.out.status_line() as tell:
            for each in _old(store, before, unresolved):
                uids.append(each.uid)
                changes.append(each.updated_at)
                if len(uids) % _OFTEN == 0:
                    tell(f"{len(uids):,} sessions found")
        if dry_run:
            _tell(state, uids)
            return
        if uids:
            state.confirm(f"Erase {count(len(uids), 'session')} and all their events?", yes)
    erased = _erase(state, store, older_than, unresolved, sorted(changes))
    if state.json:
        state.out.data({"erased": erased})
    else:
        state.out.line(("erased", "green"), f": {count(erased, 'session')}")


def _erase(
    state: State, store: Store, older_than: float, unresolved: bool, changes: list[float]
) -> int:
    """Erase what is old; on a terminal oldest first and in steps, to tell how far it is.

    :param changes: when the sessions to be erased changed last, in order.
    """
    erased = 0
    step = max(_OFTEN, len(changes) // _STEPS)
    try:
        with state.out.status_line() as tell:
            for position in range(step, len(changes), step) if state.out.watched else ():
                age = store.clock() - changes[position]
                if age > older_than:
                    erased += store.prune(age, resolved_only=not unresolved)
                tell(f"{erased:,} of {len(changes):,} sessions erased")
            erased += store.prune(older_than, resolved_only=not unresolved)
    except KeyboardInterrupt:
        if erased:
            state.out.note(f"{erased:,} sessions are erased, the others are kept.")
        raise
    return erased


_OFTEN = 500  # sessions, between two lines on the terminal
_STEPS = 20  # in which many sessions are erased: each looks for what is old enough


def _old(store: Store, before: float, unresolved: bool) -> Iterator[SessionSummary]:
    """The sessions that `Store.prune` would erase."""
    for each in all_sessions(store):
        kept = each.failed or each.unstarted or each.under_way
        if each.updated_at <= before and (unresolved or not kept):
            yield each


def _tell(state: State, uids: list[str]) -> None:
    if state.json:
        state.out.data({"would_erase": uids})
        return
    for uid in uids:
        state.out.line(uid)
    state.out.note((f"{count(len(uids), 'session')} would be erased", "dim"))
