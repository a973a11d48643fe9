"""A webhook tried dry, for the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from triggers_core.application import Application
from triggers_core.exceptions import TriggersError
from triggers_web.http import Headers
from triggers_web.intake.errors import NotTaken
from triggers_web.intake.intake import check_kwargs, facts_of
from triggers_web.intake.routes import Ignored, find_route
from triggers_web.options import NAME, Options


class Unusable(TriggersError):
    """A webhook that no event can be made of."""


def try_webhook(
    app: Application, path: str, body: bytes, headers: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    """What a webhook would fire. Its signature is not looked at, and nothing is fired.

    :param path: of one of the webhooks of the settings.
    :returns: ``status``: ``accepted``, with ``uid``, ``trigger``, ``event_id`` and ``kwargs``, or
        ``ignored``, with a ``reason``.
    :raises InvalidSetting: there is no such webhook, or it makes no sense.
    :raises Unusable: it would be refused; says why.

    Example::

        try_webhook(app, "/stripe", Path("paid.json").read_bytes())["uid"]  # 'order:42'
    """
    route = find_route(app.plugin_options(NAME, Options).webhooks, path)
    try:
        event = route.event(facts_of(body, Headers(headers)))
        if isinstance(event, Ignored):
            return {"status": "ignored", "reason": event.reason}
        check_kwargs(event, app.rules.limits)
    except NotTaken as error:
        raise Unusable(f"{error.reason} (it would be answered {error.status})") from None
    return {
        "status": "accepted",
        "uid": event.uid,
        "trigger": event.trigger,
        "event_id": event.event_id,
        "kwargs": dict(event.kwargs),
    }
