"""Time limits of bodies, on every runner: timers, and exceptions raised in a running body.

Python cannot end a thread. So when the hard limit passes, the instance fails at once and the late
outcome is fenced off; the body gets the exception too, wherever its Python code is, and if it hangs
outside of Python its thread is left to itself. Nothing strikes while an outcome is being stored.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from triggers_core.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from triggers_core.failures import log_exception
from triggers_core.host import OwnThread, between_jobs
from triggers_core.interpreter import stacks
from triggers_core.limits import Timing
from triggers_core.tasks import TriggerTask

logger: logging.Logger = logging.getLogger(__name__)

LimitError = type[SoftTimeLimitExceeded] | type[TimeLimitExceeded]
LIMITS: Final = (SoftTimeLimitExceeded, TimeLimitExceeded)

_RAISE_TIMEOUT: Final = 5.0  # seconds that another thread gets to raise, one bytecode's work


def time_limits(task_class: type[TriggerTask], timing: Timing) -> tuple[float | None, float | None]:
    """The time limit and the soft time limit of a task, in seconds; None where it has none.

    Its own, else those of `Timing`. A soft one that would never be reached counts as none.
    """
    hard = timing.time_limit if task_class.time_limit is None else task_class.time_limit
    soft = timing.soft_time_limit
    if task_class.soft_time_limit is not None:
        soft = task_class.soft_time_limit
    if hard is not None and not math.isfinite(hard):
        hard = None
    if soft is not None and (not math.isfinite(soft) or (hard is not None and soft >= hard)):
        soft = None
    return hard, soft


class _Alarms:
    """Calls functions at their time, each in a thread of its own; one watching thread a process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Entered by itself: a condition's `__enter__` is Python, and may be interrupted at its end.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._due: list[tuple[float, int, Alarm]] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None

    def set(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Call a function in so many seconds, unless the alarm is cancelled before."""
        if self._pid != os.getpid():
            self._begin()  # threads do not survive a fork
        alarm = Alarm(call)
        with self._lock:
            if len(self._due) >= 64 and sum(not each[2].cancelled for each in self._due) < 32:
                self._due = [each for each in self._due if not each[2].cancelled]
                heapq.heapify(self._due)
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), alarm))
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._watch, name="triggers-limits", daemon=True)
                thread.start()
                self._thread = thread
            self._changed.notify()
        return alarm

    def _watch(self) -> None:
        while True:
            with self._lock:
                while not self._due or self._due[0][0] > time.monotonic():
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(wait if wait is None else min(max(wait, 0.0), 3_600.0))
                _, _, alarm = heapq.heappop(self._due)
            if alarm.cancelled:
                continue
            try:
                name = "triggers-limit"
                OwnThread(target=alarm.ring, name=name, daemon=True).start()
            except BaseException:  # no thread to be had: others wait meanwhile
                alarm.ring()
                between_jobs()


class Alarm:
    """One call that is due some time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.cancelled = False
        self._call = call

    def ring(self) -> None:
        """Make the call."""
        try:
            self._call()
        except BaseException as error:
            log_exception(logger, "a time limit could not be enforced", error)


alarms: Final = _Alarms()


class Strikes:
    """Raises limits' exceptions inside one body, each at most once, and never after `leave`.

    Whoever first takes a kind of exception, the one who raises it or the body that ends, has it.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._passed: list[LimitError] = []
        self._takers: dict[LimitError, object] = {}
        self._raised = {kind: threading.Event() for kind in LIMITS}
        self._greenlet = _greenlet()
        self._loop: Any = None
        self._task: Any = None
        self.struck: LimitError | None = None
        """The last one that was raised."""

    def raise_in_body(self, kind: LimitError) -> None:
        """Raise it, if the body still runs."""
        self._passed.append(kind)  # first: `in_loop` looks there last
        self._strike(kind)

    def _strike(self, kind: LimitError) -> None:
        mine = object()
        if self._takers.setdefault(kind, mine) is not mine:
            return
        try:
            self.struck = kind
            if self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)
            elif self._greenlet is not None:
                sys.modules["gevent"].kill(self._greenlet, kind)  # asynchronously
            else:
                _set_async_exception(self._thread, kind)
                _settle()  # whoever it is for notices when it runs again
        except RuntimeError:  # the loop has been closed
            pass
        finally:
            self._raised[kind].set()

    def leave(self) -> None:
        """The body has ended, or leaves it to an event loop: nothing strikes from now on."""
        for kind in LIMITS:
            try:
                self._close(kind)
            except LIMITS:  # here it is: too late
                self._close(kind)

    def _close(self, kind: LimitError) -> None:
        if self._takers.setdefault(kind, "body") == "body":
            return
        self._raised[kind].wait(_RAISE_TIMEOUT)
        if self._greenlet is not None:
            sys.modules["gevent"].sleep(0)
        elif self._task is None:
            _settle()

    def in_loop(self, loop: Any, task: Any, begins: bool) -> None:
        """From now on the body runs in this task: there a limit cancels it.

        So does one that passed on the way here, when nothing could strike.

        :param begins: nothing of the body has run before, and nothing can have struck it.
        """
        self._loop, self._task = loop, task
        if begins:
            self.struck, self._takers = None, {}
        else:
            self._takers = {kind: by for kind, by in self._takers.items() if by != "body"}
        for kind in LIMITS:
            if kind in self._passed:
                self._strike(kind)


def stack_of(thread: int) -> str:
    """Where a thread is now, as text: its innermost frames. Nothing if that cannot be told."""
    frame = stacks().get(thread)
    if frame is None:
        return ""
    return "".join(traceback.format_stack(frame, limit=12)).rstrip("\n")


def _greenlet() -> Any:
    """The current greenlet, where gevent has taken the place of threads."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    return sys.modules["gevent"].getcurrent()


class _Nothing(BaseException):
    """Raised and caught at once."""


def _settle() -> None:
    """Nothing waits to be raised in this thread any more, and the interpreter knows.

    Taking a waiting exception back (``SetAsyncExc(thread, NULL)``) leaves CPython's mark that there
    is one: all threads would look for it, again and again, and in 3.11 and before any function that
    is traced (a debugger, coverage) would do so for ever. The mark goes when one is raised.
    """
    try:
        _set_async_exception(threading.get_ident(), _Nothing)  # in place of what waits
        for _ in range(1_000):  # it comes at the end of a round
            pass
    except _Nothing:
        pass


def _set_async_exception(thread: int, kind: type[BaseException]) -> None:
    try:
        import ctypes

        set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    except (ImportError, AttributeError):  # not CPython
        return
    set_exception(ctypes.c_ulong(thread), ctypes.py_object(kind))
