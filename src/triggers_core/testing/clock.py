"""A clock that stands still until it is told to move, so that no test waits for time to pass."""

from __future__ import annotations


class VirtualClock:
    """Time as a test wants it; hand it to a store as its clock.

    Example::

        clock = VirtualClock()
        store = MemoryStore(clock)
        clock.advance(60)  # a minute later, at once
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        """:param now: where it starts, in seconds since 1970."""
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.now:,.3f} s>"

    def advance(self, seconds: float) -> None:
        """Let time pass; raises `ValueError` for a step back, which no storage has to bear."""
        if seconds < 0:
            raise ValueError(f"a clock only goes forward, got {seconds} s")
        self.now += seconds
