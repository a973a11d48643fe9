"""The runner `threading`: a bounded pool of threads and a background sweep, in this process."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from triggers_core.exceptions import InvalidSetting, WrongState, is_greenlet_exit
from triggers_core.failures import log_exception
from triggers_core.host import OwnThread, between_jobs, host
from triggers_core.runners.base import TaskRunner
from triggers_core.runners.exits import finish_at_exit, forget, remember
from triggers_core.runners.inline import InlineQueue
from triggers_core.running.heartbeats import Heartbeats
from triggers_core.running.messages import Message
from triggers_core.running.outages import Outages
from triggers_core.running.rounds import Rounds
from triggers_core.running.worker import claim, close_loop, run_claimed

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.configuration import Task
    from triggers_core.manager import TriggerManager

logger: logging.Logger = logging.getLogger(__name__)

Job = tuple["TriggerManager", Message]

_HIRE_AGAIN: Final = 0.1  # seconds between two tries to start a thread for work that waits
_STOP_WAIT: Final = 10.0  # seconds that idle threads get to end; they may hang in a storage


class ThreadingTaskRunner(TaskRunner):
    """Runs bodies in threads of the process that fired.

    :param max_workers: threads at most; the default is that of `concurrent.futures`.
    :param sweep: look after what crashed processes left behind, in the background.

    When the program ends, what was dispatched is finished first, cascades included. What a killed
    process left behind is picked up by the next one that starts the application on the same store,
    or dispatches something. A body that hangs beyond its task's `time_limit` gives its place to a
    new thread; nothing can end the old one but the process, which does not wait for it.
    """

    key: ClassVar[str] = "threading"

    def __init__(
        self, app: Application, max_workers: int | None = None, sweep: bool = True
    ) -> None:
        super().__init__(app)
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise InvalidSetting(
                f"threading: max_workers must be a whole number of at least 1, got {max_workers!r}"
            )
        if not isinstance(sweep, bool):
            raise InvalidSetting(f"threading: sweep must be True or False, got {sweep!r}")
        self.max_workers: int = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self.sweeps = sweep
        self._begin()
        remember(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._holder = f"{socket.gethostname()}:{self._pid}"
        # Entered by itself, never by its conditions: their `__enter__` is Python, and an exception
        # out of a signal handler at its end would leave the lock taken.
        self._lock = lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for those who wait until there is no work
        self._work_waits = threading.Condition(lock)  # for the workers
        self._jobs: deque[Job] = deque()
        self._workers: dict[_Worker, None] = {}
        self._abandoned: dict[_Worker, None] = {}
        """Workers that hang beyond a time limit: they neither count nor are waited for."""
        self._nap = threading.Event()
        self._stopping = False
        self._sweeper: threading.Thread | None = None
        self.outages: Outages = Outages(logger)
        self.heartbeats: Heartbeats = Heartbeats(self.app.rules.timing.heartbeat, self.outages)
        self._rounds = Rounds(self.app, self.outages)
        self._rounds.wake = self._nap.set
        self._inline = InlineQueue()

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin()  # threads do not survive a fork: begin again in the child

    @property
    def _threads(self) -> list[threading.Thread]:
        return [worker.thread for worker in self._workers]

    # -- dispatch ---------------------------------------------------------------------------------

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self._check_fork()
        if host().inline():
            self._inline.run(manager, message, self._holder)
            return
        with self._lock:
            if self._stopping:
                return  # the sweep of another process, or of the next start, takes it
            self._jobs.append((manager, message))
            self._hire()
        self._see_to_sweep()
        finish_at_exit()

    def _hire(self) -> bool:
        """See to it that somebody takes the work that waits; whether anybody may. Holds the lock.

        A thread that cannot be started counts for nothing; it is tried again later.
        """
        if len(self._workers) < self.max_workers and len(self._jobs) > self._idle():
            worker = _Worker(self)
            self._workers[worker] = None
            try:
                worker.thread.start()
            except BaseException as error:
                self._workers.pop(worker, None)
                if not isinstance(error, Exception):
                    raise
                self.outages.failed("thread", f"{self._holder}: starting a thread", error, True)
            else:
                self.outages.works("thread", f"{self._holder}: starting a thread")
        self._work_waits.notify()
        return bool(self._workers)

    def _idle(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def _forget_the_dead(self) -> None:
        """Threads that ended without a word, as greenlets do that somebody kills."""
        for worker in [each for each in self._workers if each.dead]:
            self._workers.pop(worker, None)

    def _next_job(self, worker: _Worker) -> Job | None:
        with self._lock:
            worker.job = None
            if not self._busy():
                self._changed.notify_all()
            while worker in self._workers:
                if self._jobs:
                    worker.job = self._jobs.popleft()
                    return worker.job
                if self._stopping:
                    break
                self._work_waits.wait()
            return None

    def _leave(self, worker: _Worker) -> None:
        """A worker's thread ends, whatever of: its place is free, its job no longer waited for."""
        with self._lock:
            worker.job = None
            self._workers.pop(worker, None)
            self._abandoned.pop(worker, None)
            if self._jobs:
                self._hire()
            self._changed.notify_all()

    def _abandon(self, worker: _Worker) -> None:
        """A body hangs beyond its time limit: its place in the pool goes to a new thread."""
        with self._lock:
            if worker not in self._workers:
                return
            self._workers.pop(worker, None)
            self._abandoned[worker] = None
            count = len(self._abandoned)
            if self._jobs:
                self._hire()
            self._changed.notify_all()
        logger.warning(
            "a body hangs beyond its time limit: its thread is given up and replaced; %s so far"
            " in this process (%s)",
            *("one" if count == 1 else count, self._holder),
        )

    def _busy(self) -> bool:
        return bool(self._jobs) or any(worker.job is not None for worker in self._workers)

    def run(self, job: Job, worker: _Worker | None = None) -> None:
        """Carry out one job, whatever comes of it."""
        manager, message = job
        abandon = None if worker is None else lambda: self._abandon(worker)
        between_jobs()
        try:
            claimed = claim(manager, message, self._holder)
            if claimed is not None:
                run_claimed(manager, claimed, self.heartbeats, on_abandoned=abandon)
        except BaseException as error:
            # In a thread of ours, nothing that is raised has anybody else to go to.
            if worker is None and not isinstance(error, Exception):
                raise
            log_exception(
                logger,
                "%s %s: the attempt could not be made; the sweep will try again",
                error,
                *(message.uid, message.instance),
            )
        finally:
            between_jobs()

    def join_all(self, timeout: float | None = None) -> bool:
        """Wait until nothing dispatched here is left, cascades and immediate retries included.

        Instances that wait out a cooldown are not waited for, nor are bodies that hang beyond their
        time limit. If no thread can be had for what waits, it is done in this one.

        :raises WrongState: called in a thread of this runner, a body's or a hook's: it would wait
            for itself.
        """
        self._check_fork()
        self.refuse_here("join")
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self._forget_the_dead()
                if not self._busy():
                    return True
                hired = self._hire() or not self._jobs
                if until is not None and until - time.monotonic() <= 0:
                    return False
                job = None
                if hired or until is not None:
                    left = 1.0 if until is None else max(0.0, until - time.monotonic())
                    self._changed.wait(min(left, 1.0 if hired else _HIRE_AGAIN))
                elif self._jobs:
                    job = self._jobs.popleft()
            if job is not None:
                self.run(job)

    def is_own_thread(self) -> bool:
        current = threading.current_thread()
        if self._pid != os.getpid():
            return False
        workers = (*list(self._workers), *list(self._abandoned))
        return current is self._sweeper or any(each.thread is current for each in workers)

    def refuse_here(self, what: str) -> None:
        """Raise if the caller is a body, or a hook, in a thread of this runner.

        :raises WrongState: it is.
        """
        if self.is_own_thread():
            raise WrongState(
                f"{what} was called in a thread of the runner, by a body or a hook: it would wait"
                " for itself for ever. Let tasks follow one another with `after`, and call"
                f" {what} where the program ends"
            )

    # -- the background sweep ---------------------------------------------------------------------

    def start(self) -> None:
        self._check_fork()
        if self.sweeps:
            self._rounds.unused = True
            self.wake()

    def wake(self) -> None:
        self._check_fork()
        self._see_to_sweep()
        self._rounds.look_everywhere()
        self._nap.set()

    def _see_to_sweep(self) -> None:
        if not self.sweeps or (self._sweeper is not None and self._sweeper.is_alive()):
            return
        if not self._rounds.unused and not host().sweeps():
            return  # nobody called `start`, and this is no process for that
        with self._lock:
            if self._stopping or (self._sweeper is not None and self._sweeper.is_alive()):
                return
            sweeper = OwnThread(target=self._sweep_forever, name="triggers-sweep", daemon=True)
            try:
                sweeper.start()
            except Exception as error:  # no thread to be had: the next dispatch tries again
                self.outages.failed("sweeper", f"{self._holder}: starting the sweep", error, True)
                return
            self._sweeper = sweeper
        self.outages.works("sweeper", f"{self._holder}: starting the sweep")

    def _sweep_forever(self) -> None:
        while not self._stopping:
            try:
                pause = self.sweep()
                self._nap.wait(pause)
                self._nap.clear()
                self.outages.works("loop", "the sweep")
            except BaseException as error:
                if is_greenlet_exit(error):
                    raise
                self.outages.failed("loop", "the sweep", error)
                time.sleep(1.0)

    def sweep(self) -> float:
        """Look after what is overdue, once; returns after how many seconds to look again.

        Our own leases are renewed first: this process may have been suspended meanwhile.
        """
        self.heartbeats.beat()
        self.heartbeats.revive()
        with self._lock:
            self._forget_the_dead()
            if self._jobs:
                self._hire()  # a thread could not be had, or a call was interrupted
        return self._rounds.turn()

    # -- the end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Finish everything dispatched, then end all threads.

        :raises WrongState: called in a thread of this runner.
        """
        if self._pid != os.getpid():
            return
        self.refuse_here("shutdown")
        while not self._stopping:
            self.join_all()
            with self._lock:
                self._stopping = not self._busy()
        with self._lock:
            workers = list(self._workers)
            self._work_waits.notify_all()
        self._nap.set()
        for thread in (*(worker.thread for worker in workers), self._sweeper):
            if thread is not None and thread.ident is not None:
                thread.join(_STOP_WAIT)
        self.heartbeats.stop()
        self._rounds.release()
        forget(self)


class _Worker:
    """A thread of the pool, and what it does."""

    def __init__(self, runner: ThreadingTaskRunner) -> None:
        self.job: Job | None = None
        self.began: bool = False
        self._runner = runner
        number = len(runner._workers)
        self.thread: threading.Thread = OwnThread(
            target=self._live, name=f"triggers-worker-{number}", daemon=True
        )

    @property
    def dead(self) -> bool:
        """Whether its thread ended, whatever of."""
        return self.began and not self.thread.is_alive()

    def _live(self) -> None:
        self.began = True
        try:
            while (job := self._runner._next_job(self)) is not None:
                self._runner.run(job, self)
                del job
        finally:
            try:
                close_loop()
            finally:
                self._runner._leave(self)
