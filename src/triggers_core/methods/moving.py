"""Moving many open sessions to a configuration: first what it would lead to, then one by one.

Each is a change of its own, so that it can be stopped after any of them. To go on is to begin
again: a session that has the configuration already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from triggers_core.engine.commands import Configured
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.records import SessionState
from triggers_core.exceptions import InvalidArgument, NotFound, TriggersError
from triggers_core.running.outages import is_outage
from triggers_core.storages.base import Store
from triggers_core.storages.prefixes import sessions_by_prefix
from triggers_core.storages.summaries import SessionSummary

if TYPE_CHECKING:
    from triggers_core.application import Application

_PAGE: Final = 200  # sessions that are read at a time
_KEPT: Final = 100  # refusals that are told of; the others are counted
_EXAMPLES: Final = 5

LISTS: Final = ("due", "began", "moved", "scheduled", "held", "late", "called_off")
"""The lists of `Configured` whose lengths are added up."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions are meant: those that answer to all that is given.

    Example::

        Sessions(configuration="a1b2…", prefix="order:")
    """

    configuration: str = ""
    """The address of the configuration that they have; see `Store.configurations_in_use`."""
    prefix: str = ""
    """What the uid begins with."""

    def __post_init__(self) -> None:
        if not (self.configuration or self.prefix):
            raise InvalidArgument("name a configuration or a prefix: not all sessions at once")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """What it would lead to in one session."""

    uid: str
    configured: Configured


class Preview(msgspec.Struct, kw_only=True):
    """What it would lead to, as things stand."""

    sessions: int = 0
    """Open ones, of those that were looked at."""
    more: bool = False
    """Whether there are more than were looked at."""
    change: int = 0
    """How many would get another configuration."""
    unchanged: int = 0
    """How many have these tasks already."""
    closed: int = 0
    """How many are closed, and are passed over."""
    refused: int = 0
    problems: list[str] = []
    """What was said to the first of those that refuse, each with its session."""
    instances: dict[str, int] = {}
    """List of `Configured` (``began``, ``scheduled``, ``late`` …) → how many instances."""
    examples: list[Example] = []
    """Some that would change."""


class Progress(msgspec.Struct, kw_only=True):
    """How far it has come."""

    done: int = 0
    unchanged: int = 0
    """How many had these tasks already."""
    closed: int = 0
    refused: int = 0
    problems: list[str] = []
    """What was said to the first of those that refused, each with its session."""
    instances: dict[str, int] = {}
    """As in `Preview`: what it has led to."""
    uid: str = ""
    """The session that was looked at last."""


def select(store: Store, sessions: Sessions, page: int = _PAGE) -> Iterator[SessionSummary]:
    """The sessions that are meant, by uid, read page by page; closed ones, too.

    :raises InvalidArgument: a configuration is named, and the storage has no index of them.
    """
    after = ""
    while found := _page(store, sessions, page, after):
        for each in found:
            if each.uid.startswith(sessions.prefix):
                yield each
        after = found[-1].uid


def _page(store: Store, sessions: Sessions, limit: int, after: str) -> list[SessionSummary]:
    if not sessions.configuration:
        return sessions_by_prefix(store, sessions.prefix, limit, after)
    having = store.sessions_with(sessions.configuration, limit, after)
    if having is None:
        raise InvalidArgument(
            f"{store.place} has no index of which session has which configuration: name a prefix"
            " of their uids"
        )
    return having


def preview(
    app: Application,
    sessions: Sessions,
    configuration: Mapping[str, Any] | Configuration,
    *,
    past: bool = False,
    most: int = 1_000,
) -> Preview:
    """Try it with some of the sessions; nothing is stored, and nothing runs.

    :param past: as for `TriggerManager.update_configuration`.
    :param most: sessions to look at.
    :raises InvalidConfiguration: the configuration itself is wrong.

    Example::

        preview(app, Sessions(prefix="order:"), configuration).instances  # {"scheduled": 12, …}
    """
    parsed = app.parse(configuration)
    found = Preview()
    looked_at = 0
    for each in select(app.store, sessions, min(_PAGE, most + 1)):
        if looked_at == most:
            found.more = True
            break
        looked_at += 1
        if each.state is SessionState.CLOSED:
            found.closed += 1
            continue
        found.sessions += 1
        try:
            configured = app.manager(each.uid).update_configuration(parsed, past, dry_run=True)
        except TriggersError as error:
            _refuse(found, each.uid, error)
            continue
        if not configured.changed:
            found.unchanged += 1
            continue
        found.change += 1
        _add_up(found.instances, configured)
        if len(found.examples) < _EXAMPLES:
            found.examples.append(Example(uid=each.uid, configured=configured))
    return found


def move(
    app: Application,
    sessions: Sessions,
    configuration: Mapping[str, Any] | Configuration,
    *,
    past: bool = False,
) -> Iterator[Progress]:
    """Give each open session the tasks of a configuration; tells after each how far it has come.

    Stop by iterating no further; the same call goes on from there. A session that refuses does not
    keep the others from it. One that begins meanwhile may be passed over.

    :param past: as for `TriggerManager.update_configuration`.
    :raises InvalidConfiguration: the configuration itself is wrong.
    :raises StorageError: the storage itself is away: what was done is done.

    Example::

        for progress in move(app, Sessions(prefix="order:"), configuration):
            print(progress.done)
    """
    parsed = app.parse(configuration)
    progress = Progress()
    for each in select(app.store, sessions):
        progress.uid = each.uid
        if each.state is SessionState.CLOSED:
            progress.closed += 1
            yield progress
            continue
        try:
            configured = app.manager(each.uid).update_configuration(parsed, past)
        except TriggersError as error:
            _refuse(progress, each.uid, error)
        else:
            progress.done += configured.changed
            progress.unchanged += not configured.changed
            _add_up(progress.instances, configured)
        yield progress


def _refuse(told: Preview | Progress, uid: str, error: TriggersError) -> None:
    """Note that a session refuses.

    :raises TriggersError: the error, if it is about the whole storage.
    """
    if is_outage(error):
        raise error
    told.refused += 1
    if len(told.problems) < _KEPT and not isinstance(error, NotFound):
        told.problems.append(f"{uid}: {error}")


def _add_up(totals: dict[str, int], configured: Configured) -> None:
    for name in LISTS:
        amount = len(getattr(configured, name))
        if amount:
            totals[name] = totals.get(name, 0) + amount
