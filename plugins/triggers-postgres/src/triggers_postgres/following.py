"""Callbacks after a commit, where the application's library tells of its end."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from triggers_postgres.outcomes import Outcomes, Pending, call

_KEY = "triggers_postgres"


def follow_django(wrapper: Any, callback: Callable[[], None]) -> None:
    """Call back on Django's commit; at once outside of ``atomic``."""
    wrapper.on_commit(partial(call, callback))


def follow_session(
    session: Any, outcomes: Outcomes, pending: Pending, in_thread: bool = False
) -> None:
    """Call back after the commit of a ``Session`` of SQLAlchemy.

    It is asked about at the end of the outermost transaction, whichever way that came to pass: a
    ``Session`` bound to a connection whose transaction is somebody else's "commits" nothing, and a
    COMMIT whose answer was lost may have taken place.

    What waits is kept along with the session: one that is dropped takes it with it.

    :param in_thread: not here, but in a thread: this one has an event loop to run.
    """
    following: dict[int, SessionFollower] = session.info.setdefault(_KEY, {})
    follower = following.get(id(outcomes))
    if follower is None:
        follower = following[id(outcomes)] = SessionFollower(outcomes, in_thread)
        event = sys.modules["sqlalchemy"].event
        event.listen(session, "after_transaction_end", follower)
    follower.waiting.append(pending)


class SessionFollower:
    """What waits for the end of a session's transaction; called by SQLAlchemy at every such end."""

    def __init__(self, outcomes: Outcomes, in_thread: bool) -> None:
        self.outcomes: Outcomes = outcomes
        self.in_thread: bool = in_thread
        self.waiting: deque[Pending] = deque()

    def __call__(self, session: Any, transaction: Any) -> None:
        if transaction.parent is not None or not self.waiting:
            return
        waiting, self.waiting = self.waiting, deque()
        if self.in_thread:
            self.outcomes.watch(waiting)
        else:
            self.outcomes.follow_up(waiting)


__all__ = ["SessionFollower", "follow_django", "follow_session"]
