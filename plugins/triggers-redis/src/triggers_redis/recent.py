"""Sessions that this process alone seems to change, as its last change left them.

Two changes in a row by one process suggest a third: an import that fires page after page, a loop of
payments. That one is decided on what the second left, without loading the session, and the commit
script finds out whether the guess was right: when it was wrong its answer is the session, which is
what the load would have brought.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from triggers_redis.view import View

SESSIONS: Final = 256
"""Sessions remembered; each takes some kilobytes."""

LASTS: Final = 5.0
"""Seconds for which one is remembered after it was read. In that time the clocks of this machine
and of the server drift apart by less than a millisecond or two."""


class Recent:
    """What this process left of sessions; entries of one session are only used in its turn."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, View | bytes] = OrderedDict()

    def view(self, uid: str) -> View | None:
        """The session, if this process made its last two changes."""
        left = self._left.get(uid)
        if isinstance(left, View) and time.monotonic() - left.read_at < LASTS:
            return left
        return None

    def is_left(self, uid: str, first: bytes) -> bool:
        """Whether a session with that first line is as this process left it."""
        left = self._left.get(uid)
        return first == (left.first if isinstance(left, View) else left)

    def keep(self, uid: str, left: View | bytes) -> None:
        """Remember a session, or only its first line."""
        self._left[uid] = left
        if len(self._left) > SESSIONS:
            self._left.popitem(last=False)

    def forget(self, uid: str) -> None:
        """Somebody else changes it."""
        self._left.pop(uid, None)
