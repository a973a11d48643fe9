"""The pages of one session: where it stands, its graph, its events, its instances."""

from __future__ import annotations

from typing import Any, Final

from triggers_core.explain import explain
from triggers_core.redaction import mask
from triggers_core.storages.session import SessionStorage
from triggers_core.views.drawing import draw
from triggers_core.views.session import event_data
from triggers_core.views.tasks import tasks_data
from triggers_core.views.timeline import EVENTS, timeline
from triggers_web.http import Response
from triggers_web.pages.errors import PageError
from triggers_web.pages.page import Asked, Page

MOST_INSTANCES: Final = 500
"""Instances of a task that are listed."""


def show(asked: Asked) -> Page:
    """A session: its tasks with their conditions, its graph, and what happened."""
    storage = asked.storage
    header = asked.header(storage)
    app = asked.app
    explained = explain(storage, None, app.rules, app.plugins.explain_trigger)
    return Page(
        "session.html",
        {
            "uid": storage.uid,
            "header": header,
            "explained": explained,
            "notes": mask(explained.notes),
            "tasks": tasks_data(explained, storage.store.now()),
            "graph": draw(storage.configuration, header),
            "timeline": _timeline(asked, storage, None),
        },
    )


def show_events(asked: Asked) -> Page:
    """The events of a session before those that its own page shows."""
    storage = asked.storage
    asked.header(storage)
    found = _timeline(asked, storage, asked.number)
    return Page("events.html", {"uid": storage.uid, "timeline": found})


def _timeline(asked: Asked, storage: SessionStorage, before: int | None) -> dict[str, Any]:
    return timeline(storage, before=before, limit=EVENTS, secrets=asked.access.secrets)


def show_event(asked: Asked) -> Page:
    """One event, with all of its kwargs."""
    storage, number = asked.storage, asked.number
    found = {}
    if number is not None:
        found = storage.store.events_by_number(storage.uid, [number])
    if number is None or number not in found:
        raise PageError(404, f"The session {storage.uid!r} has no such event.")
    data = event_data(found[number], asked.access.secrets)
    return Page("event.html", {"uid": storage.uid, "event": data})


def show_graph(asked: Asked) -> Response:
    """The graph alone, as a file."""
    storage = asked.storage
    header = asked.header(storage)
    drawing, note = draw(storage.configuration, header)
    if not drawing:
        raise PageError(404, note)
    return Response(200, drawing, media_type="image/svg+xml; charset=utf-8")


def show_instances(asked: Asked) -> Page:
    """The instances of one task."""
    storage, task = asked.storage, asked.given("task")
    asked.header(storage)
    found = storage.instances_of_task(task)
    if not found and task not in storage.tasks:
        raise PageError(404, f"The session {storage.uid!r} has no task {task!r}.")
    newest = found[::-1]
    newest.sort(key=lambda each: each.record.resolved)  # what is open comes first
    return Page(
        "instances.html",
        {
            "uid": storage.uid,
            "task": task,
            "total": len(found),
            "instances": newest[:MOST_INSTANCES],
        },
    )


def version(asked: Asked) -> str:
    """Differs once the session has changed."""
    storage = asked.storage
    header = asked.header(storage)
    return f"{header.generation}.{header.version}"
