"""The runner `threading`: a bounded pool of threads and a background sweep, in this process."""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from triggers_core.commands import new_id
from triggers_core.exceptions import InvalidSetting
from triggers_core.heartbeats import Heartbeats
from triggers_core.messages import Message
from triggers_core.runners.base import TaskRunner
from triggers_core.sweep import LEASE, recover
from triggers_core.worker import run_message

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.configuration import Task
    from triggers_core.manager import TriggerManager
    from triggers_core.storages.base import Store

logger = logging.getLogger(__name__)

_SHORTEST_NAP = 0.02  # seconds between two sweeps, however soon the next instance is due


class ThreadingTaskRunner(TaskRunner):
    """Runs bodies in threads of the process that fired.

    :param max_workers: threads at most; the default is that of `concurrent.futures`.
    :param sweep: look after what crashed processes left behind, in the background.

    When the program ends, what was dispatched is finished first, cascades included. What a killed
    process left behind is picked up by the next one that makes a manager on the same store.
    """

    key: ClassVar[str] = "threading"

    def __init__(
        self, app: Application, max_workers: int | None = None, sweep: bool = True
    ) -> None:
        super().__init__(app)
        if max_workers is not None and max_workers < 1:
            raise InvalidSetting(f"threading: max_workers must be at least 1, got {max_workers}")
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self.sweeps = sweep
        self._owner = new_id()
        self._begin()
        _live.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._queue: queue.SimpleQueue[tuple[TriggerManager, Message] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pending = 0
        self._threads: list[threading.Thread] = []
        self._stores: dict[int, TriggerManager] = {}
        self._nap = threading.Event()
        self._stopping = False
        self._sweeper: threading.Thread | None = None
        self.heartbeats = Heartbeats(self.app.rules.timing.heartbeat)

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin()  # threads do not survive a fork: begin again in the child

    # -- dispatch ---------------------------------------------------------------------------------

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self._check_fork()
        if task is not None:
            # Unknown here, perhaps known to another process of the application: leave it to that.
            self.app.resolve_task(task.run, task.using)
        with self._changed:
            if self._stopping:
                return  # the sweep of another process, or of the next start, takes it
            self._pending += 1
            self._queue.put((manager, message))
            if self._pending > len(self._threads) and len(self._threads) < self.max_workers:
                self._start_worker()
        _finish_at_exit()

    def _start_worker(self) -> None:
        name = f"triggers-worker-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            manager, message = job
            try:
                run_message(manager, message, self.heartbeats)
            except Exception:
                logger.exception(
                    "%s %s: the attempt could not be made; the sweep will try again",
                    message.uid,
                    message.instance,
                )
            finally:
                del job, manager
                with self._changed:
                    self._pending -= 1
                    if not self._pending:
                        self._changed.notify_all()

    def join_all(self, timeout: float | None = None) -> bool:
        """Wait until nothing dispatched here is left, cascades and immediate retries included.

        Instances that wait out a cooldown are not waited for.
        """
        self._check_fork()
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout)

    # -- the background sweep ---------------------------------------------------------------------

    def watch(self, manager: TriggerManager) -> None:
        self._check_fork()
        if not self.sweeps or id(manager.storage.store) in self._stores:
            return
        with self._changed:
            self._stores[id(manager.storage.store)] = manager
            if self._sweeper is None and not self._stopping:
                self._sweeper = threading.Thread(
                    target=self._sweep_forever, name="triggers-sweep", daemon=True
                )
                self._sweeper.start()
        self._nap.set()

    def wake(self) -> None:
        self._nap.set()

    def _sweep_forever(self) -> None:
        while not self._stopping:
            self._nap.wait(self._pause())
            self._nap.clear()
            if not self._stopping:
                self.sweep()

    def sweep(self) -> None:
        """Look after what is overdue, once.

        Our own leases are renewed first: this process may have been suspended meanwhile.
        """
        self.heartbeats.beat()
        for manager in list(self._stores.values()):
            store = manager.storage.store
            try:
                if self._may_sweep(store):
                    recover(store, manager.sibling)
            except Exception:
                logger.exception("the sweep of %r failed; it will be tried again", store)

    def _may_sweep(self, store: Store) -> bool:
        due = store.next_due()
        if due is None or due > 0:
            return False  # nothing to do: no need to write a lease
        return store.acquire_lease(LEASE, self._owner, 3 * self.app.rules.timing.sweep)

    def _pause(self) -> float:
        longest = self.app.rules.timing.sweep
        try:
            waits = [manager.storage.store.next_due() for manager in self._stores.values()]
        except Exception:
            logger.exception("the sweep could not look ahead")
            return longest
        soonest = min((wait for wait in waits if wait is not None), default=longest)
        # Overdue and still here: another process has the sweep's lease, or it was just tried.
        return longest if soonest <= 0 else max(_SHORTEST_NAP, min(longest, soonest))

    # -- the end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Finish everything dispatched, then end all threads."""
        if self._pid != os.getpid():
            return
        self.join_all()
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            threads, self._threads = self._threads, []
        self._nap.set()
        for _ in threads:
            self._queue.put(None)
        for thread in (*threads, *([self._sweeper] if self._sweeper else [])):
            if thread is not threading.current_thread():
                thread.join()
        self.heartbeats.stop()
        for manager in self._stores.values():
            _release(manager.storage.store, self._owner)
        _live.discard(self)


def _release(store: Store, owner: str) -> None:
    try:
        store.release_lease(LEASE, owner)
    except Exception:
        logger.debug("the sweep's lease could not be given back", exc_info=True)


_live: WeakSet[ThreadingTaskRunner] = WeakSet()
_closer_pid = 0
_closer_lock = threading.Lock()


def _finish_at_exit() -> None:
    """Keep the interpreter alive until what was dispatched has ended.

    A thread that waits for the main one does this: `atexit` runs only after the threads are gone,
    and by then no body could be finished.
    """
    global _closer_pid
    if _closer_pid == os.getpid():
        return
    with _closer_lock:
        if _closer_pid != os.getpid():
            threading.Thread(target=_wait_and_close, name="triggers-exit").start()
            _closer_pid = os.getpid()


def _wait_and_close() -> None:
    threading.main_thread().join()
    for runner in list(_live):
        runner.shutdown()
