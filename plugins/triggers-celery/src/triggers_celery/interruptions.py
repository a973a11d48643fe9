"""Signals of Celery to a prefork child: what they may interrupt, what they mean for an attempt.

A soft time limit is raised from a signal, wherever the process happens to be. Inside a commit that
would leave the outcome in doubt; so there it waits, until the body is entered or the attempt over.

A child that is told to end (hard time limit, revoke, cold shutdown) gets a `SystemExit`, which must
not count as a failure of the body: its parent knows better what the attempt has come to.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

from billiard import common
from billiard import exceptions as billiard
from billiard.pool import SIG_SOFT_TIMEOUT, soft_timeout_sighandler
from celery.exceptions import WorkerShutdown, WorkerTerminate

from triggers_core import exceptions as core
from triggers_core.exceptions import BodyInterrupted, is_greenlet_exit


class Terminated(BodyInterrupted):
    """This process, or this greenlet, is being ended from outside: no outcome of the body's own.

    What ended it is its cause.
    """


class SoftTimeLimitExceeded(
    core.SoftTimeLimitExceeded,
    billiard.SoftTimeLimitExceeded,  # type: ignore[misc]
):
    """Raised in bodies: they may catch that of Triggers, as under any runner, or that of Celery."""


class _State:
    """That of the one attempt which a prefork child makes at a time; of eager ones the inner."""

    pid = 0
    attempt = False
    deferring = False
    pending = False


_state = _State()


@contextmanager
def defer_soft_limit() -> Iterator[bool]:
    """Defer soft time limits during the block; one that comes too late for the body is dropped.

    Yields whether this is a child of a prefork pool, whose parent enforces time limits.
    """
    if not _install_handler():
        yield False
        return
    before = _state.attempt, _state.deferring  # of a body that fires, where Celery is eager
    _state.attempt, _state.deferring, _state.pending = True, True, False
    try:
        yield True
    finally:
        _state.attempt, _state.deferring = before


class interruptible:
    """Around a body: let soft time limits through, also the one that was deferred.

    A class, because its `__exit__` must be as short as it can be: a limit that strikes in it still
    counts as the body's.
    """

    def __enter__(self) -> None:
        if not _is_installed():
            return
        _state.deferring = False
        if _state.pending:
            _state.pending = False
            raise SoftTimeLimitExceeded(_TOO_LONG)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _is_installed():
            _state.deferring = True
            if kind is SystemExit and common._should_have_exited[0]:
                raise Terminated from error
        if kind is None or error is None:
            return
        if issubclass(kind, _SHUTDOWNS) or is_greenlet_exit(error):
            raise Terminated from error


def must_propagate(error: BaseException, eager: bool = False) -> bool:
    """Whether an error ends this process or greenlet, so that nothing may swallow it.

    :param eager: the attempt is made in the firing thread, where a Ctrl-C is the user's.
    """
    if isinstance(error, SystemExit) and common._should_have_exited[0]:
        return True
    if isinstance(error, KeyboardInterrupt):
        return eager  # a worker's own Ctrl-C raises nothing
    return isinstance(error, _SHUTDOWNS) or is_greenlet_exit(error)


_TOO_LONG: Final = "the body runs longer than its soft_time_limit"

_SHUTDOWNS: Final = (WorkerShutdown, WorkerTerminate)
"""What Celery raises in the main thread, and so in the body of a solo worker, to end it at once."""


def _is_installed() -> bool:
    return _state.pid == os.getpid() and threading.current_thread() is threading.main_thread()


def _install_handler() -> bool:
    """Take over billiard's signal handler, once in each prefork child; elsewhere there is none."""
    if _is_installed():
        return True
    if SIG_SOFT_TIMEOUT is None or threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(SIG_SOFT_TIMEOUT) is not soft_timeout_sighandler:
        return False
    _state.pid = os.getpid()
    signal.signal(SIG_SOFT_TIMEOUT, _on_soft_limit)
    return True


def _on_soft_limit(signum: int, frame: FrameType | None) -> Any:
    if _state.deferring:
        _state.pending = True
    elif _state.attempt:
        raise SoftTimeLimitExceeded(_TOO_LONG)
    else:  # in a task that is none of ours
        raise billiard.SoftTimeLimitExceeded()
