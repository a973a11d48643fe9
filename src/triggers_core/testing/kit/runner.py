"""The runner of tests: the work is done in the thread of the test, when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from triggers_core.runners.manual import ManualRunner
from triggers_core.running.worker import claim, run_claimed
from triggers_core.testing.faults.delivery import CalledHeartbeats

if TYPE_CHECKING:
    from triggers_core.application import Application


class KitRunner(ManualRunner):
    """As `ManualRunner`, for tests: no thread is started, and every task has to be known here.

    What `stop` finds left to do is done: a web application under test stops its application at the
    end of its own life, and the test still wants to see what came of it.
    """

    key: ClassVar[str] = "kit"
    executes_here: ClassVar[bool] = True

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.heartbeats = CalledHeartbeats(app.rules.timing.heartbeat)
        self._busy = False

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def work(self) -> int:
        """Make the attempts that have been dispatched, cascades included; first in, first out.

        Within a body nothing is done: the work goes on when that has ended.
        """
        if self._busy:
            return 0
        done = 0
        with self._working():
            while self._jobs:
                manager, message = self._jobs.popleft()
                done += 1
                claimed = claim(manager, message)
                if claimed is not None:
                    run_claimed(manager, claimed, self.heartbeats, passes_on=False)
        return done

    def stop(self) -> None:
        self.work()
        self.shutdown()
