"""Work that goes on while nobody waits for its page: a few threads of this process.

Each step of it is a change of its own. So it may stop after any of them, by a button or with the
process; whoever starts it again goes on with what is left.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from triggers_core.application import Application
from triggers_core.exceptions import TriggersError
from triggers_core.failures import log_exception
from triggers_core.host import OwnThread
from triggers_web.pages.errors import PageError

logger: logging.Logger = logging.getLogger(__name__)

MOST_RUNNING: Final = 2
"""Jobs of an application that run at a time in one process: each is a writer to its storage."""
_KEPT: Final = 50  # jobs that are remembered, with those that have ended


class Job:
    """Work on many instances or sessions, one after the other.

    :ivar kind: ``replay``, ``skip`` or ``configure``.
    :ivar query: what was chosen, as the parameters of the page that it was begun from.
    :ivar total: how many were counted before it began; `more`: there may be more.
    :ivar state: ``running``, ``stopped``, ``done`` or ``failed``.
    :ivar progress: plain data: ``done``, ``refused``, ``problems`` and so on.
    """

    def __init__(
        self, kind: str, query: dict[str, str], total: int, more: bool, by: str, now: float
    ) -> None:
        self.id: str = secrets.token_urlsafe(9)
        self.kind, self.query, self.total, self.more, self.by = kind, query, total, more, by
        self.started_at: float = now
        self.ended_at: float | None = None
        self.state: str = "running"
        self.error: str = ""
        self.progress: dict[str, Any] = {"done": 0, "refused": 0, "problems": []}
        self.stopping = threading.Event()

    @property
    def seen(self) -> int:
        """How many it has looked at."""
        names = ("done", "refused", "unchanged", "closed")
        return sum(self.progress.get(name, 0) for name in names)


class Jobs:
    """The jobs of one application in this process."""

    def __init__(self, app: Application) -> None:
        # An application holds its jobs, no job its application, once it has ended.
        self._now = app.store.now
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Job | None:
        """A job by its id, if this process has begun it, and it is not long ago."""
        with self._lock:
            return self._jobs.get(name)

    def all(self) -> list[Job]:
        """Those that are remembered, the latest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def start(
        self,
        kind: str,
        query: dict[str, str],
        work: Callable[[], Iterator[msgspec.Struct]],
        *,
        total: int = 0,
        more: bool = False,
        by: str = "",
    ) -> Job:
        """Begin.

        :param work: tells after each step how far it has come.
        :raises PageError: as many as may run are running.
        """
        job = Job(kind, query, total, more, by, self._now())
        with self._lock:
            running = [each for each in self._jobs.values() if each.state == "running"]
            if len(running) >= MOST_RUNNING:
                raise PageError(
                    409,
                    f"{len(running)} jobs are running already.",
                    "Nothing was begun. Wait until one of them ends, or stop one.",
                )
            self._jobs[job.id] = job
            for each in list(self._jobs.values()):
                if len(self._jobs) > _KEPT and each.state != "running":
                    del self._jobs[each.id]
        # No reason for the process to stay: what is left, is left.
        name = f"triggers-{kind}-{job.id}"
        OwnThread(target=self._run, args=(job, work), name=name, daemon=True).start()
        return job

    def _run(self, job: Job, work: Callable[[], Iterator[msgspec.Struct]]) -> None:
        state = "done"
        try:
            for progress in work():
                job.progress = msgspec.to_builtins(progress)
                if job.stopping.is_set():
                    state = "stopped"
                    break
        except TriggersError as error:
            logger.error("%s of many has stopped: %s", job.kind, error)
            job.error, state = str(error), "failed"
        except BaseException as error:
            log_exception(logger, "%s of many has failed", error, job.kind)
            job.error, state = "It failed; the server's log says why.", "failed"
        finally:
            try:
                job.ended_at = self._now()
            except Exception:  # the storage is away, which is why it ended
                job.ended_at = job.started_at
            job.state = state


_of: WeakKeyDictionary[Application, Jobs] = WeakKeyDictionary()
_lock = threading.Lock()


def jobs_of(app: Application) -> Jobs:
    """The jobs of an application in this process."""
    with _lock:
        found = _of.get(app)
        if found is None:
            found = _of[app] = Jobs(app)
        return found
