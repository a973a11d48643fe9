"""Celery's `Request` for attempts: what a worker's main process learns about its children."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import WorkerLostError
from celery.worker.request import Request

from triggers_celery.abandoned import remember
from triggers_celery.external_failures import mark_lost, mark_timed_out
from triggers_celery.identity import parse_message
from triggers_celery.limits import WithoutLimits, enforces_limits, limits_of
from triggers_core.exceptions import NestedCommit
from triggers_core.failures import log_exception

if TYPE_CHECKING:
    from triggers_core.application import Application

logger = logging.getLogger(__name__)


class AttemptRequest(Request):  # type: ignore[misc]
    """One message for an `AttemptTask`: it sees time limits, dead processes and cold shutdowns.

    Celery does its part first, whatever happens to ours.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application: Application | None = None
        try:
            self._application = self._task.integration.received(parse_message(self.args))
        except Exception:
            logger.debug("%s: the session of this message is not known", self, exc_info=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes a class for each task, whose method hands the task's limits to any pool."""
        super().__init_subclass__(**kwargs)
        fast = cls.__dict__.get("execute_using_pool")
        if fast is None:
            return

        def execute_using_pool(self: Any, pool: Any, **options: Any) -> Any:
            limits = limits_of(self._task, self._application, self.time_limits, pool)
            if enforces_limits(pool):
                self.time_limits = limits
                return fast(self, pool, **options)
            self._request_dict["timelimit"] = list(limits)  # the attempt reads it there
            remember(self, pool)
            return Request.execute_using_pool(self, WithoutLimits(pool), **options)

        cls.execute_using_pool = execute_using_pool

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        if not soft:
            self._store_end(mark_timed_out, timeout, self._node, self.worker_pid)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().on_failure(exc_info, *args, **kwargs)
        if _died(exc_info) and not (self._already_revoked or self._already_cancelled):
            self._store_end(mark_lost, self._node, self.worker_pid)
        return result

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """Celery kills the process: a cold shutdown, or a lost connection if so configured."""
        super().cancel(*args, **kwargs)
        if self.worker_pid is not None:
            self._store_end(mark_lost, self._node, self.worker_pid)

    @property
    def _node(self) -> str:
        return str(self._task.integration.node)

    def _store_end(self, mark: Callable[..., None], *details: Any) -> None:
        try:
            message = parse_message(self.args)
            mark(self._task.integration.application(message.app), message, *details)
        except NestedCommit:
            # In a signal handler, such as Celery's for a cold shutdown, that interrupted a commit
            # of this process's own sweep.
            self._task.integration.postpone(partial(self._store_end, mark, *details))
        except Exception as error:
            told = "%s: the end of this attempt could not be stored; the sweep makes up for it"
            log_exception(logger, told, error, self)


def _died(exc_info: Any) -> bool:
    error = exc_info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    return isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
