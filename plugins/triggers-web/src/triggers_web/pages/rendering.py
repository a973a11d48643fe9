"""From a page's data to HTML: Jinja2 with autoescape, and the filters that the templates use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from triggers_core.redaction import mask
from triggers_core.texts import count, duration

SHORT: Final = 120
"""Characters of a value that a table shows."""


@cache
def environment() -> Environment:
    """The templates of this package. Everything is escaped; what is unknown is an error."""
    made = Environment(
        loader=PackageLoader("triggers_web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        count=count,
        duration=duration,
        json=as_json,
        moment=moment,
        mask=mask,
        number="{:,}".format,
        short=short,
        until=until,
        when=when,
    )
    made.globals.update(link=link)
    return made


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template with its values."""
    return environment().get_template(template).render(values)


def link(root: str, path: str, /, **query: Any) -> str:
    """The address of another page; what a query has no value for is left out.

    Example::

        link("/triggers", "/session", uid="order:42")  # /triggers/session?uid=order%3A42
    """
    given = [(key, value) for key, value in query.items() if value not in (None, "", ())]
    text = urlencode(given, doseq=True)
    return f"{root}{path}?{text}" if text else f"{root}{path}"


def moment(at: float | None) -> str:
    """A time in seconds since 1970, to the second, in UTC."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def when(at: str) -> str:
    """A moment of `views` (RFC 3339), to the second, in UTC."""
    return moment(datetime.fromisoformat(at).timestamp())


def until(at: str, now: float) -> str:
    """How long it is until a moment of `views`."""
    return duration(datetime.fromisoformat(at).timestamp() - now)


def as_json(value: Any) -> str:
    """A value for people: indented JSON; what that does not know (dates, bytes) as its text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def short(text: object, width: int = SHORT) -> str:
    """A text, cut."""
    whole = str(text)
    return whole if len(whole) <= width else f"{whole[: width - 1]}…"
