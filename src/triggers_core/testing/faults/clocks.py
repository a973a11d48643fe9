"""Clocks that are wrong: beside the true time, and set forwards and back."""

from __future__ import annotations

from triggers_core.storages.base import Clock


class SkewedClock:
    """One process's clock: another one, and so many seconds beside it.

    :param true: the right time.
    :param offset: seconds ahead of it; negative: behind.

    Example::

        true = VirtualClock()
        mine, theirs = SkewedClock(true), SkewedClock(true, offset=-2.5)
        mine.jump(3_600)  # somebody set it to the wrong time zone
        mine.offset = 0.0  # …and noticed
    """

    true: Clock

    __slots__ = ("offset", "true")

    def __init__(self, true: Clock, offset: float = 0.0) -> None:
        self.true = true
        self.offset: float = offset

    def __call__(self) -> float:
        return self.true() + self.offset

    def jump(self, seconds: float) -> None:
        """Set it forwards, or back if negative."""
        self.offset += seconds
