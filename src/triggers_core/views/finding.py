"""Finding something by a text: sessions, events, triggers that are missing, tasks that failed."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from triggers_core.engine.names import MAX_LENGTH
from triggers_core.storages.base import Store
from triggers_core.storages.groups import MOST_GROUPS, FailedGroup
from triggers_core.storages.prefixes import sessions_by_prefix
from triggers_core.storages.summaries import SessionSummary
from triggers_core.texts import iso
from triggers_core.views.overview import MissingTrigger, missing_triggers
from triggers_core.views.session import summary_data
from triggers_core.views.stuck import list_stuck

STATUSES: Final = ("failed", "overdue", "waiting")
"""The words that find sessions by how they stand."""


class FoundEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was recorded under an id of the application's."""

    uid: str
    number: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What answers to a text. Lists hold no more than was asked for."""

    text: str
    sessions: list[SessionSummary]
    """Those whose uid begins so, by uid: the one of that very uid first."""
    more_sessions: bool
    events: list[FoundEvent] | None
    """Those of this very id, by uid; None: the storage has no index that tells."""
    waiting: list[MissingTrigger]
    """The triggers that sessions wait for, and whose name begins so."""
    failed: list[FailedGroup]
    """The failures whose task or error begins so."""
    stuck: list[SessionSummary]
    """If the text is one of `STATUSES`: sessions that stand so."""

    @property
    def empty(self) -> bool:
        """Whether nothing answers to it."""
        return not (self.sessions or self.events or self.waiting or self.failed or self.stuck)

    @property
    def data(self) -> dict[str, Any]:
        """The same as plain dicts and lists, for JSON."""
        return {
            "text": self.text,
            "sessions": [summary_data(each, 0) for each in self.sessions],
            "more_sessions": self.more_sessions,
            "events": None if self.events is None else msgspec.to_builtins(self.events),
            "waiting": [
                {"trigger": each.trigger, "sessions": each.sessions, "since": iso(each.since)}
                for each in self.waiting
            ],
            "failed": [
                {
                    "task": each.task,
                    "error": each.error or None,
                    "instances": each.instances,
                    "since": iso(each.since),
                }
                for each in self.failed
            ],
            "stuck": [summary_data(each, 0) for each in self.stuck],
        }


def find(store: Store, text: str, limit: int = 20) -> Found:
    """Find what a text may mean; reads indexes, in a number of queries that does not grow.

    :param text: the beginning of a uid, of a trigger that sessions wait for, or of a task or an
        error with failures; the whole of an event's id; or one of `STATUSES`.
    :param limit: how many of each, at most.

    Example::

        find(app.store, "order:4").sessions
        find(app.store, "stripe:evt_1").events
    """
    nothing = Found(
        text=text, sessions=[], more_sessions=False, events=[], waiting=[], failed=[], stuck=[]
    )
    if not (0 < len(text) <= MAX_LENGTH and text.isprintable()):  # no name looks so
        return nothing
    sessions = sessions_by_prefix(store, text, limit + 1)
    events = store.find_event(text, limit)
    missing, _ = missing_triggers(store)
    failed = store.failed_groups(MOST_GROUPS)
    stuck: list[SessionSummary] = []
    if text in STATUSES:
        stuck = list_stuck(store, **{text: True}, limit=limit).sessions
    return Found(
        text=text,
        sessions=sessions[:limit],
        more_sessions=len(sessions) > limit,
        events=None
        if events is None
        else [FoundEvent(uid=uid, number=number) for uid, number in events],
        waiting=[each for each in missing if each.trigger.startswith(text)][:limit],
        failed=[
            each for each in failed if each.task.startswith(text) or each.error.startswith(text)
        ][:limit],
        stuck=stuck,
    )
