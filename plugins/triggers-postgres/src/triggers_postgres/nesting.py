"""Changes in the middle of a change, of the same thread: they would wait for its own locks."""

from __future__ import annotations

from types import CodeType, FrameType
from typing import Final

from triggers_core.exceptions import NestedCommit

CHANGING: Final[set[CodeType]] = set()
"""The methods that carry out a change; each is one of a store's, or of one that is joined to it."""


def refuse_nesting(store: object, frame: FrameType) -> None:
    """Refuse a change if this thread is in the middle of one, in the same database.

    It is looked for on the stack: a mark of it could stay behind when a signal handler raises.

    :param store: the `PostgresStore`.
    :param frame: of the method that is about to change something.
    :raises NestedCommit: a hook or a signal handler wants to change something.
    """
    above = frame.f_back
    while above is not None:
        if above.f_code in CHANGING:
            other = above.f_locals.get("self")
            if other is store or getattr(other, "outside", None) is store:
                raise NestedCommit(
                    "a hook or a signal handler cannot change anything in this storage while its"
                    " thread is in the middle of a change"
                )
        above = above.f_back


__all__ = ["CHANGING", "refuse_nesting"]
