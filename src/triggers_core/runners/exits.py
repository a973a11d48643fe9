"""Shutdown at the end of a process: what was dispatched to threads is finished first."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, WeakSet

from triggers_core.failures import log_exception

if TYPE_CHECKING:
    from triggers_core.runners.threads import ThreadingTaskRunner

logger: logging.Logger = logging.getLogger(__name__)

_live: WeakSet[ThreadingTaskRunner] = WeakSet()
_settling: dict[int, WeakMethod[Callable[[], Any]]] = {}
_closer: threading.Thread | None = None
_closer_pid = 0
_closer_lock = threading.Lock()


def remember(runner: ThreadingTaskRunner) -> None:
    """Finish this runner's work when the process ends."""
    _live.add(runner)


def forget(runner: ThreadingTaskRunner) -> None:
    """This runner has been shut down."""
    _live.discard(runner)


def settle_at_exit(method: Callable[[], Any]) -> None:
    """Call a method when the process ends, before what it may dispatch to is shut down.

    For a store that calls back from a thread of its own. Kept weakly.
    """
    owner = id(method.__self__)  # type: ignore[attr-defined]
    _settling[owner] = WeakMethod(method, lambda _: _settling.pop(owner, None))
    finish_at_exit()


def finish_at_exit() -> None:
    """Keep the interpreter alive until what was dispatched has ended.

    A thread that waits for the main one does this: `atexit` runs only after the threads are gone,
    and by then bodies cannot use thread pools of their own any more. If no thread can be had, or
    threads are greenlets, which nobody waits for, `atexit` has to do.
    """
    global _closer, _closer_pid
    if _closer_pid == os.getpid():
        return
    with _closer_lock:
        if _closer_pid == os.getpid():
            return
        # Said explicitly: a thread inherits `daemon` from the one that makes it.
        closer = threading.Thread(target=_wait_and_close, name="triggers-exit", daemon=False)
        try:
            closer.start()
        except Exception:
            logger.debug("no thread to be had for the end of the process", exc_info=True)
            return
        _closer, _closer_pid = closer, os.getpid()


def _wait_and_close() -> None:
    threading.main_thread().join()
    _close_all()


def _close_all() -> None:
    for each in list(_settling.values()):
        settle = each()
        try:
            if settle is not None:
                settle()
        except Exception as error:
            log_exception(logger, "what follows the last commits failed", error)
    for runner in list(_live):
        try:
            runner.shutdown()
        except Exception as error:
            log_exception(logger, "a runner could not be shut down", error)


@atexit.register
def _close_the_rest() -> None:
    closer = _closer if _closer_pid == os.getpid() else None
    if closer is not None and closer.is_alive() and not _threads_are_greenlets():
        return  # the wait for it was interrupted, by a second Ctrl-C: somebody wants to get out
    _close_all()


def _threads_are_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _begin_anew_in_child() -> None:
    global _closer_lock
    _closer_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
