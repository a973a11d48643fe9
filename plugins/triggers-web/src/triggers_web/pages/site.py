"""The pages as one handler: finds the page for a request, and refuses what may not be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from triggers_core.application import Application, default_application
from triggers_core.exceptions import NotFound, TriggersError
from triggers_core.failures import log_exception
from triggers_core.running.outages import is_outage
from triggers_web.http import Request, Response
from triggers_web.pages import (
    bulk,
    configurations,
    fleet,
    guard,
    instance,
    lifecycle,
    session,
    stuck,
)
from triggers_web.pages.access import Access, AccessOf, nobody
from triggers_web.pages.errors import PageError
from triggers_web.pages.live import Versions, watched
from triggers_web.pages.page import DONE, Asked, Page, Show
from triggers_web.pages.rendering import render

logger: logging.Logger = logging.getLogger(__name__)

MAX_FORM: Final = 262_144
"""Bytes of a form: more than the kwargs of an event may have."""
_STATIC: Final[Mapping[str, str]] = {"style.css": "text/css", "script.js": "text/javascript"}
_NAVIGATION: Final = (
    ("/", "Stuck"),
    ("/failed", "Failed"),
    ("/waiting", "Waiting"),
    ("/sessions", "Sessions"),
    ("/configurations", "Configurations"),
    ("/bulk", "In bulk"),
    ("/find", "Find"),
)


_PAGES: Final[dict[str, Show]] = {"/": stuck.show}
"""Path → page, by GET."""
_PAGES.update(
    {
        "/session": session.show,
        "/session/event": session.show_event,
        "/session/events": session.show_events,
        "/session/graph.svg": session.show_graph,
        "/session/instances": session.show_instances,
        "/session/fire": lifecycle.ask_fire,
        "/session/close": lifecycle.ask_close,
        "/session/delete": lifecycle.ask_delete,
        "/instance": instance.show,
        "/instance/replay": instance.ask_replay,
        "/instance/skip": instance.ask_skip,
        "/instance/fail": instance.ask_fail,
    }
)
_PAGES.update(
    {
        "/waiting": fleet.show_waiting,
        "/failed": fleet.show_failed,
        "/sessions": fleet.show_sessions,
        "/find": fleet.show_found,
        "/configurations": configurations.show_all,
        "/configuration": configurations.show,
        "/configuration/move": configurations.ask,
        "/bulk": bulk.show,
        "/bulk/ask": bulk.ask,
    }
)
_ACTS: Final[dict[str, tuple[str, Show]]] = {}
"""Path → the attribute of `Access` that it takes, and what it does, by POST."""
_ACTS.update(
    {
        "/session/fire": ("act", lifecycle.fire),
        "/session/close": ("erase", lifecycle.close),
        "/session/delete": ("erase", lifecycle.delete),
        "/instance/replay": ("act", instance.replay),
        "/instance/skip": ("act", instance.skip),
        "/instance/fail": ("act", instance.fail),
        "/instance/logs": ("act", instance.mark_logs),
    }
)
_ACTS.update(
    {
        "/bulk/start": ("act", bulk.start),
        "/bulk/stop": ("act", bulk.stop),
        "/configuration/try": ("erase", configurations.try_it),
        "/configuration/start": ("erase", configurations.start),
    }
)
_VERSIONS: Final[dict[str, Callable[[Asked], str]]] = {
    "/": stuck.version,
    "/session": session.version,
    "/instance": session.version,
    "/bulk": bulk.version,
}
"""Path → what differs once the page does: such a page is kept up to date in the browser."""

_LIVE: Final = "/live"
"""Where one learns that a page has changed."""


class Pages:
    """The pages of one application: a handler from a request to a page.

    :param app: whose sessions they show.
    :param access: says who may see and do what; by default, nobody may.
    :param hosts: names of this server; requests for others are refused. None: whoever serves the
        pages looks at that.

    Example::

        handler = Pages(app, access=lambda request: Access(who=request.user.name, read=True))
        handler(Request(method="GET", path="/")).status  # 200
    """

    def __init__(
        self,
        app: Application | None = None,
        *,
        access: AccessOf = nobody,
        hosts: Collection[str] | None = None,
    ) -> None:
        self.app: Application = app or default_application
        self._access = access
        self._hosts = hosts
        self._versions = Versions(_VERSIONS, self.app)

    def early(self, request: Request) -> Response | int:
        """See `triggers_web.http.Early`."""
        return MAX_FORM if request.method == "POST" else 0

    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        if not guard.is_known_host(request, self._hosts):
            return Response(400, "unknown host", guard.SECURITY_HEADERS, "text/plain")
        name = request.path.removeprefix("/static/")
        if request.path.startswith("/static/") and name in _STATIC:
            return _static(name)
        access = Access()
        answer: Page | Response
        try:
            _check_path(request.path)  # whoever asks: it is no secret which there are
            access = self._access(request)
            answer = self._finish(request, access, self._answer(request, access))
        except PageError as error:
            answer = _error(error.status, str(error), error.hint)
        except NotFound as error:
            answer = _error(404, str(error), "It may have been deleted since.")
        except TriggersError as error:
            away = is_outage(error)
            if away:
                log_exception(logger, "%s: the storage is away", error, request.path)
            answer = _error(503 if away else 409, str(error), "Try again." if away else "")
        except Exception as error:
            log_exception(logger, "%s: the page failed", error, request.path)
            answer = _error(500, "This page failed; the server's log says why.")
        if isinstance(answer, Response):
            return answer
        return self._finish(request, access, answer)

    def _answer(self, request: Request, access: Access) -> Page | Response:
        if not access.read:
            raise PageError(403, "You may not see this.", "Log in where these pages are served.")
        if request.method in ("GET", "HEAD"):
            return self._show(request, access)
        if request.method != "POST" or request.path not in _ACTS:
            raise PageError(405, "There is no such button.")
        try:
            form = request.form
        except ValueError as error:
            raise PageError(400, f"The form cannot be read: {error}.") from None
        problem = guard.problem_of(request, form)
        if problem:
            raise PageError(403, f"The form was refused: {problem}.")
        right, act = _ACTS[request.path]
        if not getattr(access, right):
            raise PageError(403, "You may look, and not do this.")
        return act(Asked(self.app, request, access, form))

    def _show(self, request: Request, access: Access) -> Page | Response:
        try:
            _ = request.query
        except ValueError as error:
            raise PageError(400, f"The address cannot be read: {error}.") from None
        asked = Asked(self.app, request, access, {})
        if request.path == _LIVE:
            return self._live(asked)
        show = _PAGES.get(request.path)
        if show is None:
            raise PageError(405, "This is the address of a button.")
        # Before the page is made: what changes meanwhile is seen as a change.
        version = self._versions.of(asked)
        etag = f'"{version}"'
        if version and request.headers.get("if-none-match") == etag:
            return Response(304, b"", {"etag": etag})
        shown = show(asked)
        if isinstance(shown, Response) or not version:
            return shown
        return shown._replace(values={"version": version, **shown.values})

    def _live(self, asked: Asked) -> Response:
        """Watch another page of these: what `static/script.js` listens to."""
        page = watched(asked)
        if not self._versions.of(page):
            raise PageError(404, "There is no such page, or it does not change.")

        def look() -> str:
            access = self._access(page.request)  # it may have ended meanwhile
            if not access.read:
                raise PageError(403, "You may not see this any more.")
            return self._versions.of(page._replace(access=access))

        # Where nobody watches: an EventSource then gives up, and no browser complains of an error.
        return Response(204, b"", watch=look)

    def _finish(self, request: Request, access: Access, answer: Page | Response) -> Response:
        if isinstance(answer, Response):
            return replace(answer, headers={**guard.SECURITY_HEADERS, **answer.headers})
        token, is_new = guard.csrf_token(request)
        headers = dict(guard.SECURITY_HEADERS)
        if is_new:
            headers["set-cookie"] = guard.csrf_cookie(request, token)
        version = answer.values.get("version", "")
        if version:
            headers["etag"] = f'"{version}"'
        shared = {
            "root": quote(request.root),
            "here": request.path,
            "query": request.query_string,
            "version": "",
            "done": _done(request) if answer.status == 200 else "",
            "access": access,
            "csrf": token,
            "navigation": _NAVIGATION,
            "place": self.app.store.place if access.read else "",
        }
        return Response(
            answer.status, render(answer.template, {**shared, **answer.values}), headers
        )


def _check_path(path: str) -> None:
    if path not in _PAGES and path not in _ACTS and path != _LIVE:
        raise PageError(404, "There is no such page.")


def _error(status: int, message: str, hint: str = "") -> Page:
    return Page("error.html", {"status": status, "message": message, "hint": hint}, status)


def _done(request: Request) -> str:
    """What an act that led here has done, in words."""
    try:
        return DONE.get(request.query.get("done", ""), "")
    except ValueError:
        return ""


def _static(name: str) -> Response:
    content = (files("triggers_web.pages") / "static" / name).read_bytes()
    headers = {**guard.SECURITY_HEADERS, "cache-control": "max-age=300"}
    return Response(200, content, headers, f"{_STATIC[name]}; charset=utf-8")
