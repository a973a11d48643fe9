"""Receivers of Celery's signals: a task was revoked, or is not known; Celery beat starts."""

from __future__ import annotations

import logging
from typing import Any

from triggers_celery.adapter import AttemptTask
from triggers_celery.external_failures import mark_revoked
from triggers_celery.identity import GENERIC, HEADER, SWEEP, id_of, parse_message
from triggers_core.failures import log_exception

logger = logging.getLogger(__name__)


def on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    """Fail the instance of a revoked task, if that is one of Triggers."""
    if not isinstance(sender, AttemptTask):
        return
    try:
        message, integration = parse_message(request.args), sender.integration
        mark_revoked(
            integration.application(message.app),
            message,
            _reason(terminated, expired),
            node=integration.node if terminated else "",
        )
    except Exception as error:
        told = "task %s was revoked, but its instance could not be failed: it may come back"
        log_exception(logger, told, error, getattr(request, "id", "?"))


def _reason(terminated: bool, expired: bool) -> str:
    if expired:
        return "revoked: its message had expired before a worker got to it"
    if terminated:
        return "revoked: terminated through Celery while it ran"
    return "revoked through Celery before it began"


def on_unknown_task(sender: Any, message: Any, **_: Any) -> None:
    """Pass a message for a task that this worker does not know on to the generic task.

    Celery would drop it. There the instance runs if a plugin resolves its task, and otherwise fails
    with a clear error.
    """
    integration = getattr(sender.app, "triggers", None)
    if integration is None or HEADER not in (message.headers or {}):
        return
    try:
        arguments, _, _ = message.payload
        queue = (message.delivery_info or {}).get("routing_key")
        found = parse_message(arguments)
        integration.publisher.send(GENERIC, id_of(found), tuple(arguments), queue)
    except Exception as error:
        told = "a message for an unknown task could not be passed on; the sweep will"
        log_exception(logger, told, error)


def on_beat_start(sender: Any, **_: Any) -> None:
    """Keep the sweep in Celery beat, whatever was assigned to `beat_schedule` since `setup`."""
    integration = getattr(sender.app, "triggers", None)
    if integration is not None and SWEEP not in sender.scheduler.schedule:
        integration.add_beat_entry()
        entry = sender.app.conf.beat_schedule.get(SWEEP)
        if entry is not None:
            sender.scheduler.update_from_dict({SWEEP: entry})
