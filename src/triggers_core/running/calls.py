"""Calls that an event loop awaits, made in threads of the application: what blocks, blocks there.

A call is made or it is not, whatever becomes of the one who awaits it: cancelled before it begins,
it never does; afterwards it runs to its end, and an error of it is logged.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from triggers_core.failures import log_exception
from triggers_core.host import OwnThread, between_jobs

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

Elsewhere = Callable[[Callable[[], Any]], Awaitable[Any] | None]
"""`Store.in_thread`."""

THREADS: Final = 40
"""Calls made at a time, at most; others wait for their turn."""

_IDLE: Final = 10.0  # seconds after which a thread without work ends


class Calls:
    """A bounded pool of threads. They begin when needed, and end when there is nothing to do."""

    def __init__(self, most: int = THREADS) -> None:
        self.most: int = most
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = lock = threading.RLock()
        self._work_waits = threading.Condition(lock)
        self._changed = threading.Condition(lock)  # for `shutdown`
        self._jobs: deque[Callable[[], object]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._finishing = 0
        self._lines: dict[Hashable, deque[Callable[[], object]]] = {}

    @property
    def in_use(self) -> bool:
        """Whether there are threads to be waited for."""
        return self._pid == os.getpid() and bool(self._threads)

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin()  # threads do not survive a fork

    async def run(self, call: Callable[[], T], elsewhere: Elsewhere | None = None) -> T:
        """Make a call in a thread, in a copy of this context; what it returns or raises.

        :param elsewhere: has calls made in other threads, if it answers.
        :raises asyncio.CancelledError: at once, when this is cancelled, even while the call is
            being made.
        """
        if elsewhere is not None:
            watched = _Watched(call)
            answer = elsewhere(watched)
            if answer is not None:
                with watched:
                    found: T = await answer
                    return found
        job = _Job(call, copy_context(), asyncio.get_running_loop())
        self.submit(job.run)
        return await job.ended()

    def submit(self, job: Callable[[], object]) -> None:
        """Have something done in a thread, soon. An error of it is logged."""
        self._check_fork()
        with self._lock:
            self._jobs.append(job)
            if len(self._jobs) > self._idle and len(self._threads) < self.most:
                self._hire()
            self._work_waits.notify()

    def submit_in_line(self, line: Hashable, job: Callable[[], object]) -> None:
        """As `submit`, after everything of the same line that was submitted before."""
        self._check_fork()
        job = partial(copy_context().run, job)
        with self._lock:
            queue = self._lines.get(line)
            if queue is not None:
                queue.append(job)
                return
            self._lines[line] = deque([job])
            self.submit(partial(self._work_off, line))

    async def caught_up(self) -> None:
        """Wait until everything that is in a line now is done."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            job = _Job(lambda: None, copy_context(), asyncio.get_running_loop())
            self.submit_in_line(line, job.run)
            await job.ended()

    def shutdown(self) -> None:
        """Wait until everything is done and the threads have ended. The next call begins anew."""
        self._check_fork()
        with self._lock:
            threads = set(self._threads)
            self._finishing += 1
            try:
                self._work_waits.notify_all()
                while self._threads:
                    self._changed.wait(1.0)  # an exception of a signal handler may cost a notice
            finally:
                self._finishing -= 1
        for thread in threads:
            thread.join()

    def is_own_thread(self) -> bool:
        """Whether the caller is in one of the threads, such as a hook that follows a commit."""
        return self._pid == os.getpid() and threading.current_thread() in self._threads

    # -- in the threads ---------------------------------------------------------------------------

    def _hire(self) -> None:
        name = f"triggers-async-{len(self._threads)}"
        thread = OwnThread(target=self._live, name=name, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            if not self._threads:
                self._jobs.pop()
                raise  # nobody would ever do it

    def _live(self) -> None:
        try:
            while (job := self._next()) is not None:
                between_jobs()
                try:
                    job()
                except BaseException as error:
                    log_exception(logger, "what follows a commit failed", error)
                del job
                between_jobs()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _next(self) -> Callable[[], object] | None:
        until = time.monotonic() + _IDLE
        with self._lock:
            while not self._jobs:
                left = until - time.monotonic()
                if self._finishing or left <= 0:
                    # In the same breath, so that nobody counts on it any more.
                    self._threads.discard(threading.current_thread())
                    return None
                self._idle += 1
                try:
                    self._work_waits.wait(left)
                finally:
                    self._idle -= 1
            return self._jobs.popleft()

    def _work_off(self, line: Hashable) -> None:
        while True:
            with self._lock:
                queue = self._lines[line]
                if not queue:
                    del self._lines[line]
                    return
                job = queue.popleft()
            try:
                job()
            except BaseException as error:
                log_exception(logger, "what follows a commit failed", error)


class _Job(Generic[T]):
    """One call, between the loop that awaits it and the thread that makes it."""

    def __init__(
        self, call: Callable[[], T], context: Context, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._call, self._context, self._loop = call, context, loop
        self._future: asyncio.Future[T] = loop.create_future()
        self._takers: dict[str, str] = {}

    async def ended(self) -> T:
        future = self._future
        try:
            return await future
        except asyncio.CancelledError:
            self._takers.setdefault("call", "nobody")  # unless it has begun
            if future.done() and not future.cancelled():
                _log_lost(future.exception())
            raise

    def run(self) -> None:
        if self._takers.setdefault("call", "thread") != "thread":
            return
        result: Any = None
        failed: BaseException | None = None
        try:
            result = self._context.run(self._call)
        except StopIteration as error:  # which no future takes
            failed = RuntimeError(f"the call raised StopIteration: {error!r}")
            failed.__cause__ = error
        except BaseException as error:
            failed = error
        try:
            self._loop.call_soon_threadsafe(self._settle, result, failed)
        except RuntimeError:  # the loop has been closed meanwhile
            _log_lost(failed)

    def _settle(self, result: Any, failed: BaseException | None) -> None:
        if self._future.cancelled():
            _log_lost(failed)
        elif failed is not None:
            self._future.set_exception(failed)
        else:
            self._future.set_result(result)


class _Watched(Generic[T]):
    """A call that is made in somebody else's thread; around the wait for it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call, self._alone = call, False

    def __call__(self) -> T:
        try:
            return self._call()
        except BaseException as error:
            if self._alone:
                _log_lost(error)
            raise

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None:
        self._alone = True


def _log_lost(error: BaseException | None) -> None:
    if error is not None:
        log_exception(logger, "a call that nobody awaits any more failed", error)


async def in_new_thread(call: Callable[[], T]) -> T:
    """Make a call in a thread of its own, which ends with it."""
    job = _Job(call, copy_context(), asyncio.get_running_loop())
    OwnThread(target=job.run, name="triggers-async", daemon=True).start()
    return await job.ended()


_pools: Final[WeakSet[Calls]] = WeakSet()


@atexit.register
def _finish_what_began() -> None:
    for calls in list(_pools):
        calls.shutdown()
