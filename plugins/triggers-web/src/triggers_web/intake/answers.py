"""What the sender of a webhook is answered, and what about errors of ours only the log tells."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from triggers_core.exceptions import (
    EventIdConflict,
    FireVetoed,
    InvalidPayload,
    LimitExceeded,
    PluginMissing,
    SessionClosed,
    StorageError,
    TriggersError,
)
from triggers_core.failures import log_exception, message_of
from triggers_web.http import Response, json_response
from triggers_web.intake.errors import NotTaken
from triggers_web.intake.routes import Event, Ignored

logger: logging.Logger = logging.getLogger(__name__)

RETRY_AFTER: Final = 10
"""Seconds after which a sender may try again when the storage is away."""

UNVERIFIED: Final = "the signature is missing, wrong or too old"
_LATER: Final = {"retry-after": str(RETRY_AFTER)}


def accepted(event: Event) -> Response:
    """The event is stored: now, or by an earlier delivery of it."""
    body = {"status": "accepted", "trigger": event.trigger, "event_id": event.event_id}
    return json_response(200, body)


def ignored(what: Ignored) -> Response:
    """A webhook that is no event here. 200: the sender need not send it again."""
    return json_response(200, {"status": "ignored", "reason": what.reason})


def not_taken(error: NotTaken) -> Response:
    """Something is wrong with the request itself."""
    allow = {"allow": "POST"} if error.status == 405 else None
    return refused(error.status, error.error, error.reason, allow)


def unverified() -> Response:
    """The same for every way in which a signature may be wrong."""
    return refused(401, "unverified", UNVERIFIED)


def failed(error: Exception, path: str, event: Event) -> Response:
    """What is answered when a fire raised; the log says more where it is our own affair.

    :param path: the route's.
    """
    if isinstance(error, EventIdConflict):
        return refused(
            409, "conflict", "this event_id was accepted before with another trigger or kwargs"
        )
    if isinstance(error, SessionClosed):
        return refused(409, "closed", "the session is closed and accepts no more events")
    if isinstance(error, InvalidPayload):
        return refused(422, "unusable", f"{error.path}: this value cannot be kept")
    if isinstance(error, LimitExceeded):
        logger.warning("webhook %s: refused for %s: %s", path, event.uid, error)
        return refused(422, "full", "the session cannot take this event: a limit is reached")
    if isinstance(error, FireVetoed):
        logger.warning("webhook %s: refused for %s: %s", path, event.uid, message_of(error))
        return refused(422, "refused", "the application refuses this event")
    if isinstance(error, StorageError | PluginMissing):
        logger.error("webhook %s: not stored, answered 503: %s", path, message_of(error))
        return refused(503, "unavailable", "nothing was stored; send it again later", _LATER)
    if isinstance(error, TriggersError):
        logger.error("webhook %s: not stored, answered 500: %s", path, message_of(error))
    else:
        log_exception(logger, "webhook %s: not stored, answered 500", error, path)
    return refused(500, "failed", "nothing was stored; the log here says why")


def refused(
    status: int, error: str, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A response that says why not."""
    return json_response(status, {"error": error, "reason": reason}, headers)
