"""Rate-limited logging of what fails again and again: once, then seldom, then that it is over.

Loops that go on whatever happens (heartbeats, sweep) would write a traceback at every turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from triggers_core.exceptions import Contended, StorageError, TriggersError, UnknownSchema
from triggers_core.failures import message_of, traceback_of

_FIRST_REPEAT: Final = 20.0  # seconds until "still" is said for the first time; then it doubles…
_LONGEST_REPEAT: Final = 3_600.0  # …up to this
_MAX_OUTAGES: Final = 1_000  # outages that are remembered at the same time


class _Outage:
    __slots__ = ("down", "pause", "since", "times", "told_at")

    def __init__(self, now: float) -> None:
        self.since = self.told_at = now
        self.pause = _FIRST_REPEAT
        self.times = 0
        self.down = True


class Outages:
    """Keeps the log short while something fails. Safe between threads; never raises.

    :param logger: where the lines go.
    :param clock: returns seconds; for tests.

    Example::

        outages = Outages(logger)
        try:
            look()
        except Exception as error:
            outages.failed("look", "the look at the shop", error)
        else:
            outages.works("look", "the look at the shop")
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock = logger, clock
        self._outages: OrderedDict[Hashable, _Outage] = OrderedDict()
        self._lock = threading.Lock()

    def failed(
        self, key: Hashable, what: str, error: BaseException, expected: bool = False
    ) -> None:
        """Note that something failed; says so unless that has been said lately.

        :param key: what belongs together, and ends together.
        :param what: what failed, in words: the beginning of the line.
        :param expected: the error needs no traceback, of whatever type it is.
        """
        try:
            with self._lock:
                line, first = self._line(key)
            if line:
                shown = describe(error, expected or not first)
                self._logger.error("%s %s: %s", what, line, shown)
        except BaseException:  # the loop that reports goes on without its line
            return

    def works(self, key: Hashable, what: str) -> None:
        """Note that something works; says so if it had failed."""
        if not self._outages:
            return
        try:
            with self._lock:
                outage = self._outages.get(key)
                if outage is None or not outage.down:
                    return
                outage.down = False
                lasted = self._clock() - outage.since
            self._logger.warning("%s works again after %.0f s", what, lasted)
        except BaseException:
            return

    def _line(self, key: Hashable) -> tuple[str, bool]:
        """What is to be said, if anything, and whether it is said for the first time."""
        now, outage = self._clock(), self._outages.get(key)
        if outage is None or (not outage.down and now - outage.told_at >= outage.pause):
            self._outages[key] = outage = _Outage(now)
            self._outages.move_to_end(key)
            while len(self._outages) > _MAX_OUTAGES:
                self._outages.popitem(last=False)
            outage.times = 1
            return "failed; it will be tried again", True
        outage.times += 1
        # What comes and goes by turns is one outage, too.
        outage.down = outage.down or now - outage.told_at >= outage.pause
        if now - outage.told_at < outage.pause:
            return "", False
        outage.told_at, outage.pause = now, min(2 * outage.pause, _LONGEST_REPEAT)
        return f"still fails after {now - outage.since:.0f} s ({outage.times:,} times)", False


def describe(error: BaseException, expected: bool = False) -> str:
    """An error for one line of a log; the traceback of one that nobody expects."""
    if expected or isinstance(error, TriggersError | OSError):
        return f"{type(error).__name__}: {message_of(error)}"
    return traceback_of(error)


def is_outage(error: BaseException) -> bool:
    """Whether an error is about a whole storage, not about one session in it."""
    if isinstance(error, UnknownSchema | Contended):
        return False
    return isinstance(error, StorageError | OSError)
