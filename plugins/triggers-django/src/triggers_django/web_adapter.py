"""Handlers of triggers-web as Django views, and Django's requests as handlers see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

try:
    from triggers_web.http import Handler, Headers, Request, Response, early, json_response
except ModuleNotFoundError as error:
    if not str(error.name).startswith("triggers_web"):
        raise
    raise ImproperlyConfigured(
        "the pages and webhooks of Triggers need triggers-web:"
        " python -m pip install 'triggers-django[web]'"
    ) from None

PATTERN: Final = r"^(?P<path>.*)$"
"""What the URL of a view matches: everything below the place where it is included."""


def as_view(
    handler: Handler, before: Callable[[Request], HttpResponse | None] | None = None
) -> Any:
    """A view that answers by a handler, wherever it is included: for `PATTERN`.

    - Django's CSRF protection lets it pass: pages have a guard of their own, which is stricter (the
      origin, and a token whose cookie no other site's link carries along) and the same on every
      framework; and those who send webhooks have no token.
    - ``ATOMIC_REQUESTS`` lets it pass: what it changes are commits of their own, as on the command
      line, and it has answered when they are made.

    :param before: is asked first, with the request without its body; a response is the answer.
    """

    @csrf_exempt
    def view(request: HttpRequest, path: str) -> HttpResponse:
        request.get_host()  # ALLOWED_HOSTS
        asked = request_of(request, path)
        answer = None if before is None else before(asked)
        return answer_of(handler, request, path, asked) if answer is None else answer

    found: Any = view
    for alias in connections:
        found = transaction.non_atomic_requests(using=alias)(found)
    return found


def answer_of(handler: Handler, request: HttpRequest, path: str, asked: Request) -> HttpResponse:
    """What a handler answers to a request of Django's."""
    first = early(handler, asked)
    if isinstance(first, Response):
        return response_of(first)
    body = _body(request, first)
    if isinstance(body, Response):
        return response_of(body)
    return response_of(handler(request_of(request, path, body)))


def request_of(request: HttpRequest, path: str, body: bytes = b"") -> Request:
    """A request as handlers see it.

    :param path: what is below the place where the view is included.
    """
    # What a proxy may have changed is as Django's settings say.
    others = [pair for pair in request.headers.items() if pair[0].lower() != "host"]
    return Request(
        method=request.method or "",
        path=f"/{path}",
        raw_path=_raw_path(request),
        root=request.path[: len(request.path) - len(path)].rstrip("/"),
        headers=Headers([("host", request.get_host()), *others]),
        scheme=request.scheme or "http",
        query_string=request.META.get("QUERY_STRING", ""),
        body=body,
        client=request.META.get("REMOTE_ADDR") or None,
        user=getattr(request, "user", None),
    )


def response_of(answer: Response) -> HttpResponse:
    """A response as Django sends it."""
    made = HttpResponse(answer.content, status=answer.status)
    del made["content-type"]
    for name, value in answer.all_headers:
        if name == "set-cookie":  # where Django's middleware looks for them
            made.cookies.load(value)
        else:
            made[name] = value
    return made


def _raw_path(request: HttpRequest) -> str | None:
    """The path as it was sent, from those servers that tell."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    if scope.get("raw_path"):
        return bytes(scope["raw_path"]).partition(b"?")[0].decode("latin-1")
    for name in ("RAW_URI", "REQUEST_URI"):  # gunicorn; uWSGI, mod_wsgi
        if name in request.META:
            return str(request.META[name]).partition("?")[0]
    return None


def _body(request: HttpRequest, most: int) -> bytes | Response:
    """A body of at most so many bytes, or a refusal."""
    stated = request.META.get("CONTENT_LENGTH") or ""
    too_long = json_response(413, {"error": f"the body is longer than {most:,} bytes"})
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > most):
        return too_long
    try:
        # Without a length, an ASGI server may have passed on any number of them.
        body = request.body if stated else request.read(most + 1)
    except RequestDataTooBig:
        return too_long
    except UnreadablePostError:
        return json_response(400, {"error": "the body did not arrive"})
    return too_long if len(body) > most else body
