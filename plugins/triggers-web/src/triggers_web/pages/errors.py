"""What a page answers instead of itself."""

from __future__ import annotations


class PageError(Exception):
    """A request that gets no page: says with which status, and why.

    :ivar status: of HTTP.
    :ivar hint: what may help; empty: nothing is known to.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint
