"""Time limits of bodies that pass when a test says so: machines take their time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from triggers_core.running import worker
from triggers_core.running.time_limits import Alarm


class LimitAlarms:
    """In place of the clock that limits go by.

    Example::

        alarms = LimitAlarms(monkeypatch)
        ...                                     # a body with a time limit begins
        alarms.ring()                           # its time is over
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._alarms: list[Alarm] = []
        monkeypatch.setattr(worker, "alarms", self)

    def set(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """As the real ones, which this stands for."""
        self._alarms.append(Alarm(call))
        return self._alarms[-1]

    def ring(self) -> list[threading.Thread]:
        """All that are set: their limits pass now, each in a thread of its own."""
        rung, self._alarms = self._alarms, []
        threads = [threading.Thread(target=each.ring) for each in rung if not each.cancelled]
        for thread in threads:
            thread.start()
        return threads
