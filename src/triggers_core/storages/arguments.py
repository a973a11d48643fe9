"""What callers pass to listings and to `Store.prune`, checked."""

from __future__ import annotations

import math
from typing import Final

from triggers_core.exceptions import InvalidArgument
from triggers_core.texts import short_repr

MOST: Final = 1 << 31
"""Numbers of events lie below it, and so do the amounts that a listing is asked for."""


def check_limit(limit: object, what: str = "limit") -> int | None:
    """Return how many a listing may answer with, at most; None for all.

    :raises InvalidArgument: it is no whole number, or a negative one.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidArgument(f"{what}: expected a whole number from 0 on, got {short_repr(limit)}")
    return min(limit, MOST)


def check_window(start: object, limit: object) -> tuple[int, int | None]:
    """Return the window of a listing of events: the number of the first, and how many at most.

    :raises InvalidArgument: one is no whole number, or a negative one.
    """
    first = check_limit(start, "start")
    if first is None:
        raise InvalidArgument("start: expected a whole number from 0 on, got None")
    return first, check_limit(limit)


def check_age(older_than: object, resolved_only: bool = True) -> float:
    """Return the age, in seconds, from which on `Store.prune` erases sessions.

    A negative one counts only along with ``resolved_only=False``, which says "all of them".

    :raises InvalidArgument: it is no finite number, or negative while unresolved sessions stay.
    """
    if (
        not isinstance(older_than, int | float)
        or isinstance(older_than, bool)
        or not math.isfinite(older_than)
    ):
        raise InvalidArgument(
            f"older_than: expected a number of seconds, got {short_repr(older_than)}"
        )
    if older_than < 0 and resolved_only:
        raise InvalidArgument(
            f"older_than: expected 0 seconds or more, got {short_repr(older_than)}; to erase all"
            " sessions, whatever their age, say resolved_only=False as well"
        )
    return float(older_than)
