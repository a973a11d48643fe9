"""Logging in to the pages of whoever started them: by a link that works once."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from triggers_web.http import Request, Response
from triggers_web.pages import guard
from triggers_web.pages.access import Access
from triggers_web.pages.errors import PageError
from triggers_web.pages.rendering import render

PATH: Final = "/login"
LOGOUT: Final = "/logout"
LASTS: Final = 900.0
"""Seconds for which a link works."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a browser calls a server on its own machine. Requests for any other name are those of a page
elsewhere, whose name somebody has pointed here (DNS rebinding)."""

_MOST: Final = 4_096  # bytes of the form that logs out
_PRINTED: Final = {
    False: "Open the link that `triggers web` printed last.",
    True: "The last link had expired. `triggers web` has just printed another one: open that.",
}
"""How to get in, by whether another link has been printed."""
_BROWSERS: Final = 100
"""Browsers that are logged in, at most; then the first one is no longer."""


class Login:
    """Who has opened a link that this process printed may see its pages, until they log out.

    There is one link at a time. It works once, within `LASTS`; then its browser has a cookie, which
    is a secret of its own, and the next link is announced. Where a link has expired, the next one
    is announced to whoever is not logged in and asks for a page: a page says so, and whoever can
    read what was printed goes on from there. Nothing is kept on disk.

    :param access: what whoever is logged in may do.
    :param hosts: the names that requests may be for.
    :param announce: is called, in some thread, with the secret of each new link but the first.
    :param clock: says the time in seconds.

    Example::

        login = Login(Access(who="alice", read=True), LOOPBACK, lambda token: print(token))
        site(app, access=login.access, hosts=LOOPBACK)
    """

    def __init__(
        self,
        access: Access,
        hosts: Collection[str],
        announce: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._granted = msgspec.structs.replace(access, logout=LOGOUT)
        self._hosts = hosts
        self._announce = announce
        self._clock = clock
        self._lock = threading.Lock()
        self._new_link()
        self._browsers: OrderedDict[bytes, None] = OrderedDict()

    @property
    def token(self) -> str:
        """The secret of the link that works next: ``/login?token=…``."""
        return self._token

    def access(self, request: Request) -> Access:
        """See `triggers_web.pages.access.AccessOf`.

        :raises PageError: whoever sent it is not logged in.
        """
        sent = guard.cookies(request).get(_cookie_name(request), "")
        if _digest(sent) not in self._browsers:
            raise PageError(403, "You are not logged in.", _PRINTED[self._print_another()])
        return self._granted

    def early(self, request: Request) -> Response | int:
        """See `triggers_web.http.Early`."""
        return _MOST if request.method == "POST" else 0

    def __call__(self, request: Request) -> Response:
        """The handler of `PATH`, a link against a cookie, and of `LOGOUT`."""
        if not guard.is_known_host(request, self._hosts):
            return Response(400, "unknown host", guard.SECURITY_HEADERS, "text/plain")
        if request.path == LOGOUT:
            return self._leave(request)
        if request.method != "GET":  # what looks at links beforehand must not use them up
            return Response(405, "", {**guard.SECURITY_HEADERS, "allow": "GET"}, "text/plain")
        try:
            sent = request.query.get("token", "")
        except ValueError:
            sent = ""
        is_late = self._has_expired and _same(sent, self._token)
        cookie = self._exchange(sent)
        if not cookie:
            return self._page(request, 403, "expired" if is_late else "refused")
        header = guard.cookie(request, _cookie_name(request), cookie)
        return self._page(request, 200, "in", header)

    def _leave(self, request: Request) -> Response:
        """Forget a browser, by the button of its pages."""
        if request.method != "POST":
            headers = {**guard.SECURITY_HEADERS, "allow": "POST"}
            return Response(405, "", headers, "text/plain")
        try:
            problem = guard.problem_of(request, request.form)
        except ValueError as error:
            problem = str(error)
        if problem:
            refused = f"The form was refused: {problem}."
            return Response(403, refused, guard.SECURITY_HEADERS, "text/plain; charset=utf-8")
        name = _cookie_name(request)
        with self._lock:
            self._browsers.pop(_digest(guard.cookies(request).get(name, "")), None)
        return self._page(request, 200, "out", f"{guard.cookie(request, name, '')}; Max-Age=0")

    def _page(self, request: Request, status: int, state: str, cookie: str = "") -> Response:
        headers = dict(guard.SECURITY_HEADERS)
        if cookie:
            headers["set-cookie"] = cookie
        printed = "" if state == "in" else _PRINTED[self._print_another()]
        values = {"root": quote(request.root), "state": state, "printed": printed, "lasts": LASTS}
        return Response(status, render("login.html", values), headers)

    @property
    def _has_expired(self) -> bool:
        return self._clock() - self._made_at > LASTS

    def _new_link(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._made_at = self._clock()

    def _print_another(self) -> bool:
        """Announce another link if the last one has expired; whether it had."""
        with self._lock:
            if not self._has_expired:
                return False
            self._new_link()
        self._announce(self._token)
        return True

    def _exchange(self, sent: str) -> str:
        """The cookie for a link; empty when it does not work, or not any more."""
        with self._lock:
            if self._has_expired or not _same(sent, self._token):
                return ""
            self._new_link()
            cookie = secrets.token_urlsafe(32)
            self._browsers[_digest(cookie)] = None
            if len(self._browsers) > _BROWSERS:
                self._browsers.popitem(last=False)
        self._announce(self._token)
        return cookie


def no_pages(request: Request) -> Access:
    """Lets nobody in, where pages were not asked for.

    :raises PageError: always.
    """
    raise PageError(
        404, "There are no pages here.", "This server listens to a network: see --hostname."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cookie_name(request: Request) -> str:
    """Cookies know no ports: another server on this machine has another cookie."""
    try:
        port = urlsplit(f"//{request.headers.get('host', '')}").port
    except ValueError:
        port = None
    return f"triggers_login_{port}" if port else "triggers_login"


def _digest(cookie: str) -> bytes:
    """What is compared instead of it: how long that takes tells nothing of the cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()


def _same(sent: str, known: str) -> bool:
    return secrets.compare_digest(sent.encode("utf-8", "replace"), known.encode())
