"""A write cache for optimistic commits: sessions as this process's last change left them.

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

CAPACITY: Final = 256
"""Sessions remembered; each takes some kilobytes."""

MAX_AGE: Final = 5.0
"""Seconds for which one is remembered after it was read. In that time the clocks of this machine
and of the server drift apart by less than a millisecond or two."""


class WriteCache:
    """Sessions that this process alone seems to change, by uid.

    A view belongs to one change at a time, which alters it: it is taken out, and put back when the
    change is through. Of a change that was interrupted it does not come back.
    """

    def __init__(self) -> None:
        self._versions: OrderedDict[str, bytes] = OrderedDict()
        self._views: OrderedDict[str, View] = OrderedDict()

    def take(self, uid: str) -> View | None:
        """The session, if this process made its last two changes; the caller's alone from now."""
        view = self._views.pop(uid, None)
        if view is not None and time.monotonic() - view.read_at < MAX_AGE:
            return view
        return None

    def is_own(self, uid: str, version_line: bytes) -> bool:
        """Whether a session at that version is as this process left it."""
        return self._versions.get(uid) == version_line

    def put(self, uid: str, version_line: bytes, view: View | None) -> None:
        """Remember a session, or only its version."""
        _store(self._versions, uid, version_line)
        if view is not None:
            _store(self._views, uid, view)

    def invalidate(self, uid: str) -> None:
        """Somebody else changes it."""
        self._versions.pop(uid, None)
        self._views.pop(uid, None)


def _store(cached: OrderedDict[str, T], uid: str, value: T) -> None:
    cached[uid] = value
    if len(cached) > CAPACITY:
        with suppress(KeyError):  # other threads were quicker
            cached.popitem(last=False)
