"""Sessions that this process alone seems to change, as its last change left them.

Two changes in a row by one process suggest a third: an import that fires page after page, a loop of
payments. That one is decided on what the second left, without loading the session, and the commit
script finds out whether the guess was right: when it was wrong its answer is the session, which is
what the load would have brought.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress
from typing import Final, TypeVar

from triggers_redis.view import View

T = TypeVar("T")

SESSIONS: Final = 256
"""Sessions remembered; each takes some kilobytes."""

LASTS: Final = 5.0
"""Seconds for which one is remembered after it was read. In that time the clocks of this machine
and of the server drift apart by less than a millisecond or two."""


class Recent:
    """What this process left of sessions.

    A view belongs to one change at a time, which alters it: it is taken out, and put back when the
    change is through. Of a change that was interrupted it does not come back.
    """

    def __init__(self) -> None:
        self._firsts: OrderedDict[str, bytes] = OrderedDict()
        self._views: OrderedDict[str, View] = OrderedDict()

    def take(self, uid: str) -> View | None:
        """The session, if this process made its last two changes; the caller's alone from now."""
        view = self._views.pop(uid, None)
        if view is not None and time.monotonic() - view.read_at < LASTS:
            return view
        return None

    def is_left(self, uid: str, first: bytes) -> bool:
        """Whether a session with that first line is as this process left it."""
        return self._firsts.get(uid) == first

    def keep(self, uid: str, first: bytes, view: View | None) -> None:
        """Remember a session, or only its first line."""
        _keep(self._firsts, uid, first)
        if view is not None:
            _keep(self._views, uid, view)

    def forget(self, uid: str) -> None:
        """Somebody else changes it."""
        self._firsts.pop(uid, None)
        self._views.pop(uid, None)


def _keep(kept: OrderedDict[str, T], uid: str, value: T) -> None:
    kept[uid] = value
    if len(kept) > SESSIONS:
        with suppress(KeyError):  # other threads were quicker
            kept.popitem(last=False)
