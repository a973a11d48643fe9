"""Time limits: those of Triggers and those of Celery, and which of them counts for an attempt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celery.concurrency.prefork import TaskPool as PreforkPool

if TYPE_CHECKING:
    from triggers_core.application import Application

logger = logging.getLogger(__name__)

NAMES: Final = ("time_limit", "soft_time_limit")
"""The attributes of a `TriggerTask`, and the options of a Celery task."""

_POOL_OPTIONS: Final = ("timeout", "soft_timeout")


class Limits(NamedTuple):
    """Seconds; None: no limit."""

    hard: float | None
    soft: float | None


def limits_of(
    task: Any, application: Application | None, sent: Sequence[float | None] | None, pool: Any
) -> Limits:
    """The limits of one attempt.

    The message's own win (a route may set them, or the options of the process that fired), then
    those of the task (`celery_options`, then its class), then `TRIGGER_TIMING`, then those that the
    worker was started with (``--time-limit``, or the Celery app's `task_time_limit`).

    :param task: the Celery task.
    :param sent: what the message says: hard, soft.
    """
    found: list[float | None] = []
    for place, (name, option) in enumerate(zip(NAMES, _POOL_OPTIONS, strict=True)):
        limit = (sent[place] if sent else None) or getattr(task, name, None)
        limit = limit or getattr(task, "own_limits", {}).get(name)
        if not limit and application is not None:
            limit = getattr(application.rules.timing, name, None)
        limit = limit or pool.options.get(option)
        found.append(limit if limit and limit < inf else None)
    return Limits(*found)


def own_limits(task_class: type) -> dict[str, float]:
    """What a `TriggerTask` says of limits; infinite where it wants none."""
    return {name: limit for name in NAMES if (limit := getattr(task_class, name, None)) is not None}


def merge_limits(options: dict[str, Any], task_class: type, place: str) -> dict[str, Any]:
    """The options of a Celery task with the limits of its class; `celery_options` win.

    :param place: where the options are, for messages.
    """
    merged = dict(options)
    for name, own in own_limits(task_class).items():
        if name not in options:
            if own < inf:
                merged[name] = own
        elif options[name] != own:
            logger.warning(
                "%s: %s is %r here and %r on the class: under Celery the first wins. Leave one out",
                *(place, name, options[name], own),
            )
    hard, soft = (merged.get(name) for name in NAMES)
    if hard and soft and soft >= hard:
        logger.warning(
            "%s: the soft_time_limit of %g s never strikes: the time_limit of %g s comes first",
            *(place, soft, hard),
        )
    return merged


def enforces_limits(pool: Any) -> bool:
    """Whether a pool ends what runs too long by itself, and without harm.

    That of gevent raises in the greenlet, wherever that is, also inside of a commit; the others do
    nothing. There the core watches.
    """
    return isinstance(pool, PreforkPool)


class WithoutLimits:
    """A pool that is told nothing of limits."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def apply_async(self, target: Any, **options: Any) -> Any:
        """As the pool's, without limits; 0, because gevent's takes None for the app's own."""
        options["timeout"] = 0 if self._pool.options.get("timeout") else None
        options["soft_timeout"] = None
        return self._pool.apply_async(target, **options)
