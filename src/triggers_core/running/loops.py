"""The event loops of bodies: one for each thread that runs some, for as long as the thread lives.

What a body opens in its loop, such as a client with its connections, serves the thread's next ones
too. `close` ends the loop of a thread; that of a thread which ends without a word is closed by
Python then.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Final, TypeVar

from triggers_core.failures import log_exception
from triggers_core.host import OwnThread

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_GENERATORS_END: Final = "async_generator_athrow"  # type of what ends an asynchronous generator
_GREENLET_THREADS: Final = 100  # threads that loops get, at most, where threads are greenlets


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in the loop of this thread, in a copy of this context.

    As with `asyncio.run`, tasks that it leaves behind are cancelled and awaited before this
    returns. If a loop runs in this thread already, it gets a thread and a loop of its own.
    """
    if _threads_are_greenlets():
        return _in_greenlets(main)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(main)
    # Eager runners run bodies where they are fired, perhaps in somebody else's loop.
    return _elsewhere(lambda: asyncio.run(main))


def close() -> None:
    """End the loop of this thread, if it has one: its tasks, its asynchronous generators.

    The next body gets another one.
    """
    loop: _Loop | None = getattr(_own, "loop", None)
    if loop is not None and not loop.runs:  # else it is a body that ends its application
        _own.loop = None
        loop.close()


def _run_here(main: Coroutine[Any, Any, T]) -> T:
    loop: _Loop | None = getattr(_own, "loop", None)
    if loop is None or not loop.usable:
        close()
        loop = _own.loop = _Loop()
    return loop.run(main)


class _Loop:
    """The loop of one thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        # With a factory it does not become the loop of `get_event_loop`: whatever else this thread
        # does has to find things as it left them.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    @property
    def usable(self) -> bool:
        return self._pid == os.getpid() and not self._runner.get_loop().is_closed()

    @property
    def runs(self) -> bool:
        return self._pid == os.getpid() and self._runner.get_loop().is_running()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        runner = self._runner
        try:
            return runner.run(main, context=copy_context())
        finally:
            if not self._runner.get_loop().is_closed():
                # Not in the body's own task: a time limit may cancel that until it has ended.
                runner.run(_end_the_rest(), context=copy_context())

    def close(self) -> None:
        if self._pid != os.getpid():
            _of_the_parent.append(self)
            return
        try:
            self._runner.close()
        except Exception as error:
            log_exception(logger, "the event loop of a thread could not be closed", error)

    def __del__(self) -> None:
        # The thread has ended, and nothing can be awaited in it any more.
        if self._pid == os.getpid():
            loop = getattr(self._runner, "_loop", None)
            if loop is not None:
                loop.close()


_own = threading.local()

_of_the_parent: Final[list[_Loop]] = []
"""Loops from before a fork: to close one would take files out of the parent's selector."""


async def _end_the_rest() -> None:
    """What a body leaves behind ends with it: its tasks, and generators that nobody holds."""
    current = asyncio.current_task()
    for _ in range(2):
        left = asyncio.all_tasks() - {current}
        for task in left:
            if type(task.get_coro()).__name__ != _GENERATORS_END:
                task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task in left:
            if not task.cancelled() and (error := task.exception()) is not None:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a body left this task behind", "exception": error, "task": task}
                )
        await asyncio.sleep(0)  # generators' ends are called for from outside of the loop


def _elsewhere(call: Callable[[], T]) -> T:
    """Call a function in a thread of its own, in this context; wait for it."""
    done: list[T] = []
    failed: list[BaseException] = []

    def target() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    thread = OwnThread(
        target=copy_context().run, args=(target,), name="triggers-async", daemon=True
    )
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


# -- where threads are greenlets ------------------------------------------------------------------


def _threads_are_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _in_greenlets(main: Coroutine[Any, Any, T]) -> T:
    """A thread has one running loop at most, however many greenlets: so, real threads."""
    global _greenlets_pool
    if _greenlets_pool is None:
        threadpool = importlib.import_module("gevent.threadpool")  # gevent is there, as it seems
        _greenlets_pool = threadpool.ThreadPool(_GREENLET_THREADS)
    tasks: list[asyncio.Task[Any]] = []

    async def noted() -> T:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        return await main

    try:
        done, failed = _greenlets_pool.apply(copy_context().run, (_caught, noted()))
    except BaseException:  # somebody kills the greenlet
        for task in tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)
        raise
    if failed is not None:
        raise failed
    found: T = done
    return found


def _caught(main: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """What it returns or raises: what is raised in threads of gevent is printed, too."""
    try:
        return _run_here(main), None
    except BaseException as error:
        return None, error


_greenlets_pool: Any = None
