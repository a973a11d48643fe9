"""`Intake`: a handler that turns webhooks into events."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from triggers_core import payloads
from triggers_core.application import Application, default_application
from triggers_core.exceptions import InvalidPayload, InvalidSetting, LimitExceeded
from triggers_core.limits import Limits
from triggers_web.http import Headers, Request, Response, media_type
from triggers_web.intake import answers
from triggers_web.intake.bodies import parse_body
from triggers_web.intake.errors import NotTaken, Unverified
from triggers_web.intake.paths import Facts
from triggers_web.intake.routes import Event, Ignored, Route
from triggers_web.intake.secrets import with_absolute_files
from triggers_web.options import NAME, Options

logger: logging.Logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_QUIET: Final = 10.0  # seconds between two lines about unverified requests to one route


class Intake:
    """Turns webhooks into events: a handler for `triggers_web.starlette`, or for one of your own.

    :param routes: path → what a webhook there is; see the documentation, *Webhooks*.
    :param app: whose sessions the events go into.
    :param environ: where secrets are.
    :param clock: seconds since 1970; the age of signatures is measured by it.
    :raises InvalidSetting: a route makes no sense, or a secret is missing; names place and cure.

    Example::

        intake = Intake(
            {
                "/stripe": {
                    "verify": "stripe",
                    "secret": "env:STRIPE_WEBHOOK_SECRET",
                    "uid": "order:{body.data.object.metadata.order}",
                    "trigger": {"from": "body.type", "map": {"charge.succeeded": "paid"}},
                    "kwargs": {"cents": "body.data.object.amount"},
                }
            }
        )
    """

    def __init__(
        self,
        routes: Mapping[str, Any],
        app: Application | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.app: Application = app or default_application
        if not isinstance(routes, Mapping):
            raise InvalidSetting(f"webhooks: expected a mapping, got {type(routes).__name__}")
        known = os.environ if environ is None else environ
        self.routes: dict[str, Route] = {
            path: Route(path, words, known) for path, words in routes.items()
        }
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}
        _warn_of_shared_secrets(routes)
        for path, route in self.routes.items():
            if not route.signed:
                logger.warning('webhook %s: anybody may send it: "verify" is "none"', path)

    @classmethod
    def from_settings(cls, app: Application) -> Self:
        """The webhooks of ``TRIGGER_PLUGIN_OPTIONS["web"]["webhooks"]``; maybe none.

        :raises InvalidSetting: as above.
        """
        routes = app.plugin_options(NAME, Options).webhooks
        folder = app.settings.folder_of("TRIGGER_PLUGIN_OPTIONS")
        if folder is not None:
            routes = {path: with_absolute_files(words, folder) for path, words in routes.items()}
        return cls(routes, app)

    def early(self, request: Request) -> Response | int:
        """What can be said before the body is read; else how long that may be, in bytes."""
        try:
            return self._admit(request).max_bytes
        except NotTaken as error:
            return answers.not_taken(error)
        except Unverified:
            return answers.unverified()

    def __call__(self, request: Request) -> Response:
        """Answer a request: 2xx once the event is committed, and the same for a repetition."""
        try:
            route = self._admit(request)
            if len(request.body) > route.max_bytes:
                raise NotTaken(413, "too large", f"more than {route.max_bytes:,} bytes of body")
            self._verify(route, request)
            found = route.event(facts_of(request.body, request.headers))
            if isinstance(found, Ignored):
                return answers.ignored(found)
        except NotTaken as error:
            return answers.not_taken(error)
        except Unverified:
            return answers.unverified()
        return self._fire(route, found)

    def _admit(self, request: Request) -> Route:
        """The route, if everything is right that is known without the body."""
        route = self.routes.get(request.path)
        # No path of ours needs an encoded character: with one, others may see another path.
        if route is None or not (request.raw_path or request.path).endswith(route.path):
            raise NotTaken(404, "not found", "there is no webhook here")
        if request.method != "POST":
            raise NotTaken(405, "method", "webhooks are sent by POST")
        headers = request.headers
        kind = media_type(headers)
        if len(headers.all("content-type")) > 1 or not (
            kind == "application/json" or (kind.startswith("application/") and "+json" in kind)
        ):
            raise NotTaken(
                415,
                "media type",
                "JSON is taken here: have the sender set its content type to application/json",
            )
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise NotTaken(415, "encoding", "the body must not be compressed")
        needs = route.scheme.needs
        if needs and not any(all(name in headers for name in names) for names in needs):
            self._note(route, "no signature")
            raise Unverified("no signature")
        return route

    def _verify(self, route: Route, request: Request) -> None:
        try:
            route.scheme.verify(request.body, request.headers, self._clock())
        except Unverified as error:
            self._note(route, str(error))
            raise

    def _note(self, route: Route, why: str) -> None:
        """Tell the log why a request was not taken, but not of each of many."""
        now = self._clock()
        at, silent = self._told.get(route.path, (-_QUIET, 0))
        if 0 <= now - at < _QUIET:
            self._told[route.path] = (at, silent + 1)
            return
        self._told[route.path] = (now, 0)
        more = f" (and {silent} more since the last line)" if silent else ""
        logger.warning("webhook %s: answered 401: %s%s", route.path, why, more)

    def _fire(self, route: Route, event: Event) -> Response:
        try:
            check_kwargs(event, self.app.rules.limits)
            manager = self.app.manager(event.uid)
            result = manager.fire(event.trigger, dict(event.kwargs), event.event_id)
        except NotTaken as error:
            return answers.not_taken(error)
        except Exception as error:
            return answers.failed(error, route.path, event)
        logger.debug(
            "webhook %s: %s: %s in %s", route.path, event.trigger, result.status, event.uid
        )
        return answers.accepted(event)


def facts_of(raw: bytes, headers: Headers) -> Facts:
    """What paths look into, once a body is known to be verified.

    :raises NotTaken: it is no JSON, or not of the kind that is taken.
    """
    return Facts(raw=raw, headers=headers, body=parse_body(raw))


def check_kwargs(event: Event, limits: Limits) -> None:
    """Refuse what a fire would refuse; there, the same error means other limits too.

    :raises NotTaken: the kwargs cannot be kept; says which value.
    """
    try:
        payloads.encode(event.kwargs, limits)
    except InvalidPayload as error:
        raise NotTaken(422, "unusable", f"{error.path}: this value cannot be kept") from None
    except LimitExceeded:
        raise NotTaken(
            413,
            "too large",
            "the event's kwargs are too large or nested too deeply: see kwargs_bytes and"
            " kwargs_depth in TRIGGER_LIMITS",
        ) from None


def _warn_of_shared_secrets(routes: Mapping[str, Any]) -> None:
    """One secret for two routes: what is signed for one of them can be sent to the other."""
    seen: dict[str, str] = {}
    for path, words in routes.items():
        named = words.get("secret") or ()
        for name in [named] if isinstance(named, str) else named:
            other = seen.setdefault(name, path)
            if other != path:
                logger.warning(
                    "webhooks %s and %s share a secret: what is sent to one is accepted by the"
                    " other, if it has what that looks for. Give each its own",
                    *(other, path),
                )
