"""The host `django`: which processes sweep, which modules define tasks, when connections close."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from django.apps import apps
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.db import connections
from django.utils.module_loading import module_has_submodule

from triggers_core.application import default_application
from triggers_core.failures import log_exception
from triggers_core.host import Host, set_host
from triggers_django.connections import close_all, close_old_ones, doubt_all
from triggers_django.tests_of_applications import in_tests, wrapped_by_test

logger: logging.Logger = logging.getLogger(__name__)

TASK_MODULE: Final = "trigger_tasks"
"""The module of an application that defines its tasks."""

_IDLE: Final = 5.0  # seconds after which a connection is asked whether its server still knows it


class DjangoHost(Host):
    """This process is one of a Django project's.

    It sweeps from the first request on that a server hands to it: management commands, shells, the
    parent of the autoreloader and tests never do, unless they call `Application.start`.
    """

    def __init__(self) -> None:
        self.serves = False
        """Whether this process has been seen to serve requests."""
        self._lock = threading.Lock()
        self._threads = _Threads()

    def sweeps(self) -> bool:
        return self.serves and not in_tests()

    def inline(self) -> bool:
        return any(map(wrapped_by_test, connections.all(initialized_only=True)))

    def task_modules(self) -> Sequence[str]:
        if not apps.ready:
            return ()
        return [
            f"{config.name}.{TASK_MODULE}"
            for config in apps.get_app_configs()
            if config.module is not None and module_has_submodule(config.module, TASK_MODULE)
        ]

    def between_jobs(self) -> None:
        if in_tests():
            close_all()  # or the test database could not be dropped
            return
        now = time.monotonic()
        if now - self._threads.last > _IDLE:
            doubt_all()
        self._threads.last = now
        close_old_ones()

    def thread_ends(self) -> None:
        close_all()

    def request_started(self, sender: Any, **_: Any) -> None:
        """The first request of a server: this process sweeps from now on."""
        if self.serves or in_tests() or not _is_server(sender):
            return
        with self._lock:
            if self.serves:
                return
            self.serves = True
        try:
            default_application.runner().start()
        except Exception as error:  # a request must not fail because of it
            log_exception(logger, "the sweep of %r could not be begun", error, default_application)


class _Threads(threading.local):
    last = 0.0
    """When this thread last was between two jobs."""


def _is_server(sender: Any) -> bool:
    """Whether a request came from a server, and not from a test client."""
    kind = sender if isinstance(sender, type) else type(sender)
    return issubclass(kind, WSGIHandler | ASGIHandler)


def become_host() -> None:
    """Make Django the host of this process; again is no error."""
    host = DjangoHost()
    set_host(host)
    request_started.connect(host.request_started, weak=False, dispatch_uid="triggers_django")
