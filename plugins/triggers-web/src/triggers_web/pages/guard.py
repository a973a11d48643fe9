"""What keeps a browser from being used against whoever sits at it: forged forms, frames."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from triggers_web.http import Request

CSRF_COOKIE: Final = "triggers_csrf"
CSRF_FIELD: Final = "csrf"

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    # Nothing but what these pages bring along; no inline script or style, whatever a name holds.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "referrer-policy": "same-origin",  # uids are in the addresses; forms need an origin
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def cookies(request: Request) -> dict[str, str]:
    """The cookies of a request; of two with a name the first, as of the most specific path."""
    found: dict[str, str] = {}
    for header in request.headers.all("cookie"):
        for part in header.split(";"):
            name, equals, value = part.strip().partition("=")
            if equals:
                found.setdefault(name, value)
    return found


def csrf_token(request: Request) -> tuple[str, bool]:
    """The token for this browser's forms; whether it is new, and its cookie has to be set."""
    known = cookies(request).get(CSRF_COOKIE, "")
    if len(known) == 43 and known.isascii():
        return known, False
    return secrets.token_urlsafe(32), True


def csrf_cookie(request: Request, token: str) -> str:
    """The header that sets the token's cookie."""
    return cookie(request, CSRF_COOKIE, token)


def cookie(request: Request, name: str, value: str) -> str:
    """A header that sets a cookie: for these pages, no script, and no link of another site."""
    secure = "; Secure" if is_https(request) else ""
    path = quote(request.root) or "/"
    return f"{name}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}"


def is_https(request: Request) -> bool:
    """Whether the browser speaks TLS, as far as is known."""
    return request.headers.get("x-forwarded-proto", request.scheme) == "https"


def problem_of(request: Request, form: Mapping[str, str]) -> str:
    """Why a form was not sent by one of these pages; empty when it was."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none"):
        return "it was sent from another site"
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        return "it was sent from another site"
    sent, known = form.get(CSRF_FIELD, ""), cookies(request).get(CSRF_COOKIE, "")
    if not known or not secrets.compare_digest(sent.encode(), known.encode()):
        return "the page that it was sent from is too old: go back, load it again, and send it anew"
    return ""


def is_known_host(request: Request, hosts: Collection[str] | None) -> bool:
    """Whether a request was meant for this server, not for a name that somebody points here.

    :param hosts: the names that it has, without ports; None: whoever serves the pages looks.
    """
    if hosts is None:
        return True
    host = request.headers.get("host", "")
    if len(request.headers.all("host")) != 1 or "@" in host or "/" in host:
        return False
    try:
        parts = urlsplit(f"//{host}")
        return (parts.hostname or "") in hosts and parts.port != 0
    except ValueError:  # no port is one
        return False
