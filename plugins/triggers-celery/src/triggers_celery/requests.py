"""Celery's view of a message in the worker's main process, which sees what children can't tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import WorkerLostError
from celery.worker.request import Request

from triggers_celery import endings
from triggers_celery.abandoned import remember
from triggers_celery.identity import message_of
from triggers_celery.limits import Untimed, limits_of, sees_to_limits
from triggers_core.exceptions import NestedCommit
from triggers_core.failures import log_exception
from triggers_core.running.messages import Message

if TYPE_CHECKING:
    from triggers_core.application import Application

logger = logging.getLogger(__name__)


class AttemptRequest(Request):  # type: ignore[misc]
    """One message for an `Attempt`: a hard time limit, a dead process, a cold shutdown.

    Celery does its part first, whatever happens to ours.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application: Application | None = None
        try:
            self._application = self._task.integration.received(message_of(self.args))
        except Exception:
            logger.debug("%s: this message tells of no session", self, exc_info=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes a class for each task, whose method hands the task's limits to any pool."""
        super().__init_subclass__(**kwargs)
        fast = cls.__dict__.get("execute_using_pool")
        if fast is None:
            return

        def execute_using_pool(self: Any, pool: Any, **options: Any) -> Any:
            limits = limits_of(self._task, self._application, self.time_limits, pool)
            if sees_to_limits(pool):
                self.time_limits = limits
                return fast(self, pool, **options)
            self._request_dict["timelimit"] = list(limits)  # the attempt reads it there
            remember(self, pool)
            return Request.execute_using_pool(self, Untimed(pool), **options)

        cls.execute_using_pool = execute_using_pool

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        if not soft:
            self._settle(endings.timed_out, timeout, self._node, self.worker_pid)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().on_failure(exc_info, *args, **kwargs)
        if _died(exc_info) and not (self._already_revoked or self._already_cancelled):
            self._settle(endings.lost, self._node, self.worker_pid)
        return result

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """Celery kills the process: a cold shutdown, or a lost connection if so configured."""
        super().cancel(*args, **kwargs)
        if self.worker_pid is not None:
            self._settle(endings.lost, self._node, self.worker_pid)

    @property
    def _node(self) -> str:
        return str(self._task.integration.node)

    def _settle(self, end: Callable[..., None], *details: Any) -> None:
        try:
            message = message_of(self.args)
            end(self._task.integration.application(message.app), message, *details)
        except NestedCommit:
            # In a handler of a signal, as Celery's of a cold shutdown, that came in the middle of
            # what this process is storing itself.
            self._task.integration.postpone(partial(self._settle, end, *details))
        except Exception as error:
            told = "%s: the end of this attempt could not be stored; the sweep makes up for it"
            log_exception(logger, told, error, self)


def _died(exc_info: Any) -> bool:
    error = exc_info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    return isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)


def on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    """Receiver of Celery's signal `task_revoked`, for the tasks of Triggers among all."""
    from triggers_celery.adapter import Attempt

    if not isinstance(sender, Attempt):
        return
    try:
        message = message_of(request.args)
        application = sender.integration.application(message.app)
        node = sender.integration.node
        _revoke(application, message, terminated, expired, node)
    except Exception as error:
        told = "task %s was revoked, but its instance could not be failed: it may come back"
        log_exception(logger, told, error, getattr(request, "id", "?"))


def _revoke(
    application: Application, message: Message, terminated: bool, expired: bool, node: str
) -> None:
    if expired:
        reason = "revoked: its message had expired before a worker got to it"
    elif terminated:
        reason = "revoked: terminated through Celery while it ran"
    else:
        reason = "revoked through Celery before it began"
    endings.revoked(application, message, reason, node if terminated else "")
