"""Replacement of workers' threads and greenlets whose body hangs beyond its time limit.

Their instances have failed by then. No thread can be ended from outside, so a thread that hangs is
left to itself: the pool gets another one, and the broker its acknowledgement, without which it
would count the message against the worker's prefetch for ever.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import Any
from weakref import WeakValueDictionary

from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker.state import task_ready

logger = logging.getLogger(__name__)

_requests: WeakValueDictionary[str, Any] = WeakValueDictionary()


def remember(request: Any, pool: Any) -> None:
    """Keep a request that is handed to a pool of this process, for `abandon`."""
    request.pool = pool
    _requests[request.id] = request


def abandon(task_id: str) -> None:
    """Replace the thread or greenlet of a body that hangs, in a pool where that can be done."""
    request = _requests.get(task_id)
    if request is None:
        return
    task_ready(request)
    request.acknowledge()
    executor = getattr(request.pool, "executor", None)
    if isinstance(request.pool, ThreadPool) and executor is not None:
        executor._max_workers += 1  # the next task that is submitted starts a thread
        logger.warning("%s: its thread hangs; the pool gets another one", request)
    elif type(request.pool).__module__ == "celery.concurrency.eventlet":
        # The core reaches the greenlets of gevent only.
        greenlet = request.pool._pool_map.get(request.worker_pid)
        if greenlet is not None:
            greenlet.kill()


def end_this_process() -> None:
    """End a child of a prefork pool whose body hangs; the pool starts another one."""
    logger.warning("the body in this process hangs beyond its time limit: the process ends")
    os.kill(os.getpid(), signal.SIGKILL)
