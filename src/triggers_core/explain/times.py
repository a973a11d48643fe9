"""Moments in words, as seen from now."""

from __future__ import annotations

from triggers_core.engine.by_hand import ByHand
from triggers_core.texts import clock, duration


class Times:
    """Says moments, in seconds since 1970, as seen from one of them.

    Example::

        Times(now).at(now - 300)  # "12:00:00 UTC (5 minutes ago)"
    """

    def __init__(self, now: float) -> None:
        self.now = now

    def at(self, at: float) -> str:
        """A moment that has passed."""
        return f"{clock(at, self.now)} ({duration(self.now - at)} ago)"

    def by(self, hand: ByHand) -> str:
        """Who did something by hand, and when, to be put behind what was done."""
        return f" by {hand.by} {self.at(hand.at)}"

    def since(self, at: float) -> str:
        """The time that has passed since a moment."""
        return f"since {clock(at, self.now)} ({duration(self.now - at)})"

    def until(self, at: float) -> str:
        """A moment that comes, or should have been worked off by now."""
        if at <= self.now:
            return self.at(at)
        return f"{clock(at, self.now)} (in {duration(at - self.now)})"
