"""The sweep of one application's stores in one worker process: its own, and those of its tenants.

Where a `storage_load` hook gives sessions stores of their own, only the uids tell which there are.
A prefork worker's main process runs no bodies, but it sees the messages: it learns from them.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from triggers_celery.interruptions import must_propagate
from triggers_core.running.outages import Outages
from triggers_core.running.rounds import Pace, Rounds

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.limits import Timing

logger = logging.getLogger(__name__)

PACE: Final = Pace(batch=500, pause=0.05, turn=0.2, failing=60.0)
"""The event loop has other things to do."""

_MAX_UIDS: Final = 10_000  # that are remembered as known, and that wait to be looked up
_LOOKUPS_A_TURN: Final = 100  # uids to look up in one turn: each may open a file


class Sweeper:
    """Looks after one application's stores, each as long as no other process does.

    A store that fails, or a session in it, harms nothing but itself; what fails again and again is
    looked at less and less often, and reported as seldom.

    :param clock: returns monotonic seconds; for tests.
    """

    def __init__(
        self,
        application: Application,
        pace: Pace = PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.application: Application = application
        self._outages = Outages(logger)
        self._rounds = Rounds(application, self._outages, pace, must_propagate, clock)
        self._rounds.unused = True
        self._known: OrderedDict[str, None] = OrderedDict()
        self._unknown: deque[str] = deque(maxlen=_MAX_UIDS)

    @property
    def timing(self) -> Timing:
        """That of the application."""
        return self.application.rules.timing

    def learn(self, uid: str) -> None:
        """Note a session's uid; its store is looked up by the next turn of the sweep."""
        if uid in self._known:
            return self._known.move_to_end(uid)
        self._known[uid] = None
        if len(self._known) > _MAX_UIDS:
            self._known.popitem(last=False)
        self._unknown.append(uid)

    def sweep(self, everything: bool = False) -> float:
        """Look after the stores whose turn has come.

        :param everything: look at the others, too.
        :returns: seconds until the next turn.
        """
        for _ in range(min(len(self._unknown), _LOOKUPS_A_TURN)):
            self._look_up(self._unknown.popleft())
        if everything:
            self._rounds.look_everywhere()
        pause = self._rounds.turn(unbounded=everything)
        return self._rounds.pace.pause if self._unknown else pause

    def _look_up(self, uid: str) -> None:
        what = f"{self.application!r}: finding the store of a session to sweep"
        try:
            self.application.manager(uid)  # the application remembers its store
        except BaseException as error:  # the stores that are known are looked after all the same
            self._known.pop(uid, None)  # its next message gives another chance
            if must_propagate(error):
                raise
            self._outages.failed("uid", what, error)
        else:
            self._outages.works("uid", what)

    def failed(self, error: BaseException) -> None:
        """Report what kept a whole turn from being made."""
        self._outages.failed("turn", f"{self.application!r}: the sweep", error)

    def hear(self, wake: Callable[[], None]) -> None:
        """Hear from other processes what falls due soon, where the storage can, until `stop`.

        :param wake: has the next turn begin now; called from any thread.
        """
        self._rounds.wake = wake

    def stop(self) -> None:
        """Let another process take over at once."""
        self._rounds.wake = None
        self._rounds.release()
