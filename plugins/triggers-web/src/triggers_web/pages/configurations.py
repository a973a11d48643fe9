"""The configurations that sessions have, one of them, and moving its sessions to another."""

from __future__ import annotations

import json
from typing import Any, Final

from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import InvalidArgument, InvalidInput
from triggers_core.explain.rules import rule_of
from triggers_core.methods.moving import LISTS, Sessions, move, preview
from triggers_core.redaction import mask
from triggers_core.views.configurations import configuration_at, configurations
from triggers_core.views.drawing import draw
from triggers_core.views.linter import lint
from triggers_web.http import Response
from triggers_web.pages.errors import PageError
from triggers_web.pages.fleet import LINES
from triggers_web.pages.jobs import jobs_of
from triggers_web.pages.page import Asked, Page

MOST_TRIED: Final = 200
"""Sessions that a dry run looks at."""

_LED_TO: Final = {
    "due": "were due before",
    "began": "begin with the past",
    "moved": "move",
    "scheduled": "run at once",
    "held": "are held back",
    "late": "are late",
    "called_off": "are called off",
}


def show_all(asked: Asked) -> Page:
    """Which configurations are in use, and by how many sessions."""
    found = configurations(asked.app.store, limit=LINES, after=asked.given("after"))
    values = {"found": found, "after": asked.given("after")}
    return Page("configurations.html", values)


def show(asked: Asked) -> Page:
    """A configuration: its tasks, its graph, likely mistakes, and the sessions that have it."""
    address, store = asked.given("address"), asked.app.store
    found = configuration_at(store, address)
    if found is None:
        raise PageError(
            404,
            "No session has this configuration.",
            "Its sessions may have moved to another one, or the storage has no index that tells.",
        )
    _, configuration = found
    after = asked.given("after")
    having = store.sessions_with(address, LINES + 1, after) or []
    shown = configuration.as_dict()
    return Page(
        "configuration.html",
        {
            "address": address,
            "tasks": [(name, rule_of(task)) for name, task in configuration.tasks.items()],
            "findings": lint(configuration),
            "graph": draw(configuration),
            "data": shown if asked.access.secrets else mask(shown),
            "sessions": having[:LINES],
            "next": having[LINES - 1].uid if len(having) > LINES else "",
            "after": after,
            "now": store.now(),
        },
    )


def ask(asked: Asked) -> Page:
    """The form for another configuration."""
    asked.needs("erase")
    return _form(asked)


def try_it(asked: Asked) -> Page:
    """What it would lead to; nothing is stored."""
    return _form(asked, tried=True)


def start(asked: Asked) -> Page | Response:
    """Begin to move the sessions."""
    try:
        sessions, parsed = _sessions(asked), _read(asked)
    except _Wrong as error:
        return _form(asked, problem=str(error))
    app, past, by = asked.app, bool(asked.form.get("past")), asked.access.who
    found = preview(app, sessions, parsed, past=past, most=MOST_TRIED)
    job = jobs_of(app).start(
        "configure",
        {name: asked.given(name) for name in ("address", "prefix") if asked.given(name)},
        lambda: move(app, sessions, parsed, past=past, by=by),
        total=found.sessions + found.closed,
        more=found.more,
        by=by,
    )
    return asked.back("/bulk", id=job.id, kind="configure", **job.query)


class _Wrong(ValueError):
    """What was typed cannot be meant."""


def _form(asked: Asked, tried: bool = False, problem: str = "") -> Page:
    found: Any = None
    if tried:
        try:
            past = bool(asked.form.get("past"))
            found = preview(asked.app, _sessions(asked), _read(asked), past=past, most=MOST_TRIED)
        except _Wrong as error:
            problem = str(error)
    values = {
        "address": asked.given("address"),
        "prefix": asked.given("prefix"),
        "text": asked.form.get("configuration", ""),
        "past": bool(asked.form.get("past")),
        "found": found,
        "problem": problem,
        "names": LISTS,
        "led_to": _LED_TO,
    }
    return Page("move.html", values)


def _sessions(asked: Asked) -> Sessions:
    try:
        return Sessions(configuration=asked.given("address"), prefix=asked.given("prefix"))
    except InvalidArgument as error:
        raise _Wrong(str(error)) from None


def _read(asked: Asked) -> Configuration:
    try:
        plain = json.loads(asked.form.get("configuration", ""))
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"The configuration is not JSON: {error}") from None
    if isinstance(plain, dict):
        plain.pop("$schema", None)
    try:
        return asked.app.parse(plain)
    except InvalidInput as error:
        raise _Wrong(str(error)) from None
