"""The host: the framework that this process belongs to, such as Django, and what it asks of us."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from triggers_core.failures import log_exception

logger: logging.Logger = logging.getLogger(__name__)


class Host:
    """What a framework says about its process; by default, nothing.

    A plugin for a framework derives a class of its own, and makes an object of it the host of the
    process with `set_host`.

    Example::

        class WebHost(Host):
            def sweeps(self) -> bool:
                return serves_requests()

        set_host(WebHost())
    """

    def sweeps(self) -> bool:
        """Whether a runner may begin to sweep by itself, with the first dispatch.

        `Application.start` begins it in any case.
        """
        return True

    def inline(self) -> bool:
        """Whether a runner with threads has to make attempts in the thread that fires, at once.

        So it is within the transaction that a test is wrapped in: no other thread sees what the
        test has written.
        """
        return False

    def task_modules(self) -> Sequence[str]:
        """The modules that define tasks, beside those of `TRIGGER_IMPORTS`."""
        return ()

    def between_jobs(self) -> None:
        """Called in a thread of ours, or a worker's, before and after each piece of its work.

        Work is an attempt, a turn of the sweep, a round of heartbeats, another try to store an
        outcome. Connections that have become too old, or unusable, may be closed here. An error is
        logged.
        """

    def thread_ends(self) -> None:
        """Called in a thread of ours that is about to end. An error is logged."""


_host = Host()


def host() -> Host:
    """The host of this process."""
    return _host


def set_host(new: Host) -> Host:
    """Make it the host of this process; returns the one before."""
    global _host
    before, _host = _host, new
    return before


def between_jobs() -> None:
    """Tell the host that a thread is between two pieces of its work. Never raises an error."""
    try:
        _host.between_jobs()
    except Exception as error:
        log_exception(logger, "%r failed between two pieces of work", error, _host)


class OwnThread(threading.Thread):
    """A thread of ours: the host is told when it ends."""

    def run(self) -> None:
        try:
            super().run()
        finally:
            try:
                _host.thread_ends()
            except Exception as error:
                log_exception(logger, "%r failed at the end of a thread", error, _host)
