"""Requests and responses without a framework: what the handlers of this package take and return.

A handler is a plain function from a `Request` to a `Response`. It may block; an adapter
(`triggers_web.starlette`, or that of another framework) calls it in a thread, once it has read the
body within bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

MAX_BODY: Final = 1_048_576
"""Bytes of a body that are read, unless a handler says otherwise."""
_MAX_FIELDS: Final = 1_000
"""Fields of a query or form; what has more is no request of ours."""

SAFE_HEADERS: Final = (("x-content-type-options", "nosniff"), ("cache-control", "no-store"))
"""With every response, unless it says otherwise: what is shown of a session is private."""


class Headers(Mapping[str, str]):
    """The headers of a request, by name in whatever case.

    :param pairs: name and value, as received; a name may come several times.

    Example::

        headers = Headers([("Content-Type", "application/json")])
        headers["content-type"], headers.get("x-nothing")
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        """The value of a header; of several, the first."""
        return self._values[name.lower()][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def all(self, name: str) -> list[str]:
        """Every value of a header, in the order received."""
        return list(self._values.get(name.lower(), ()))


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, as handlers see it."""

    method: str
    """In capitals."""
    path: str
    """Below where the handler is mounted, decoded; begins with ``/``."""
    raw_path: str | None = None
    """The whole path as it was sent, percent-encoded, without the query; None: not known."""
    root: str = ""
    """Where the handler is mounted, without a slash at the end: what its own links begin with."""
    headers: Headers = field(default_factory=Headers)
    scheme: str = "http"
    query_string: str = ""
    body: bytes = b""
    """All of it, within the handler's bounds."""
    client: str | None = None
    """The address of whoever sent it, as far as the server knows; behind a proxy, maybe that's."""
    user: Any = None
    """Whoever is logged in, as the framework has it; None: nobody."""

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query; of several with one name, the last.

        :raises ValueError: there are more than 1,000.
        """
        return dict(self.query_pairs)

    @property
    def query_pairs(self) -> list[tuple[str, str]]:
        """The parameters of the query, each with its name, in the order received."""
        return parse_qsl(self.query_string, keep_blank_values=True, max_num_fields=_MAX_FIELDS)

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form that was sent URL-encoded; empty if the body is anything else.

        :raises ValueError: it is not UTF-8, or has more than 1,000 fields.
        """
        if media_type(self.headers) != "application/x-www-form-urlencoded":
            return {}
        text = self.body.decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))


@dataclass(frozen=True)
class Response:
    """What a handler answers.

    Example::

        Response(404, "There is no such page", media_type="text/plain; charset=utf-8")
    """

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "text/html; charset=utf-8"
    watch: Callable[[], str] | None = None
    """Of a stream of events: what an adapter that can stream calls every few seconds, in a thread,
    to send an event whenever the answer is another; the stream ends when it raises. Other adapters
    send the response as it is."""

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body.encode() if isinstance(self.body, str) else self.body

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """Every header that is sent, names in lower case, but for the length."""
        own = {name.lower(): value for name, value in self.headers.items()}
        found = {**dict(SAFE_HEADERS), **own}
        if self.body or self.status not in (204, 304):
            found.setdefault("content-type", self.media_type)
        return list(found.items())


class Handler(Protocol):
    """What answers requests. A function will do; `early` is optional."""

    def __call__(self, request: Request, /) -> Response:
        """Answer a request. Called in a thread: it may block."""
        ...


Early = Callable[[Request], Response | int]
"""The attribute `early` of a handler: asked before the body is read, with a request that has none.
Answers at once, or says how many bytes of body are read at most. Called in the event loop: it must
not block."""


def early(handler: Handler, request: Request) -> Response | int:
    """What a handler says to a request whose body has not been read yet; see `Early`."""
    ask: Early | None = getattr(handler, "early", None)
    return MAX_BODY if ask is None else ask(request)


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A response that holds JSON.

    Example::

        json_response(200, {"status": "accepted"})
    """
    text = json.dumps(value, separators=(",", ":"))  # in ASCII: what was sent may be no Unicode
    return Response(status, text, headers or {}, media_type="application/json")


def redirect(address: str) -> Response:
    """Send the browser on to another page, after a form: 303, so that it asks for it by GET."""
    return Response(303, b"", {"location": address})


def media_type(headers: Headers) -> str:
    """The type of a body, without its parameters, in lower case; empty when none is stated."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
