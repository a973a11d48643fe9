"""Replaying and skipping in bulk: what is meant, the start, how far it is, and a button to stop."""

from __future__ import annotations

from typing import Final

from triggers_core.exceptions import InvalidArgument
from triggers_core.methods.bulk import (
    Act,
    Selection,
    act_on_failed,
    preview,
    replay,
    skip,
)
from triggers_core.texts import parse_duration
from triggers_web.http import Response
from triggers_web.pages.errors import PageError
from triggers_web.pages.jobs import Job, jobs_of
from triggers_web.pages.page import Asked, Page

MOST_COUNTED: Final = 10_000
"""Failed instances that a preview looks at."""
FILTERS: Final = ("task", "error", "older", "prefix")
"""The parameters that choose failed instances."""

_ACTS: Final[dict[str, Act]] = {"replay": replay, "skip": skip}


def chosen(asked: Asked) -> tuple[Selection, dict[str, str]]:
    """Which failed instances the address or the form is about, and the parameters that say so.

    :raises PageError: what is given as an age is none.
    """
    query = {name: asked.given(name) for name in FILTERS if asked.given(name)}
    try:
        older = parse_duration(query["older"]) if "older" in query else None
    except InvalidArgument as error:
        raise PageError(
            400, f"The age cannot be read: {error}.", "Such as 36h, or 2 days."
        ) from None
    # An error that nobody knows is empty: it is asked for by name, to be told from none at all.
    error_type = "" if query.get("error") == NO_ERROR else query.get("error")
    selection = Selection(
        task=query.get("task"),
        error=error_type,
        older_than=older,
        prefix=query.get("prefix", ""),
    )
    return selection, query


NO_ERROR: Final = "-"
"""What stands for an error of unknown type in an address."""


def ask(asked: Asked) -> Page:
    """How many it would be, and some of them; the button to begin."""
    asked.needs("act")
    kind = _kind(asked)
    selection, query = chosen(asked)
    found = preview(asked.app.store, selection, MOST_COUNTED)
    values = {"kind": kind, "query": query, "found": found, "now": asked.app.store.now()}
    return Page("bulk_ask.html", values)


def start(asked: Asked) -> Response:
    """Begin, and go to the page that says how far it is."""
    kind = _kind(asked)
    selection, query = chosen(asked)
    found = preview(asked.app.store, selection, MOST_COUNTED)
    app, by = asked.app, asked.access.who
    job = jobs_of(app).start(
        kind,
        query,
        lambda: act_on_failed(app, selection, _ACTS[kind], by),
        total=found.instances,
        more=found.more,
        by=by,
    )
    return asked.back("/bulk", id=job.id, kind=kind, **query)


def show(asked: Asked) -> Page:
    """How far a job is, or those of this process."""
    name = asked.given("id")
    if not name:
        return Page("jobs.html", {"jobs": jobs_of(asked.app).all(), "now": asked.app.store.now()})
    job = jobs_of(asked.app).get(name)
    if job is None:
        kind = asked.given("kind")
        query = {each: asked.given(each) for each in FILTERS if asked.given(each)}
        return Page("bulk_gone.html", {"kind": kind, "query": query}, 404)
    values = {"job": job, "now": asked.app.store.now(), "percent": _percent(job)}
    return Page("bulk.html", values)


def version(asked: Asked) -> str:
    """Differs once a job has come further."""
    name = asked.given("id")
    jobs = [jobs_of(asked.app).get(name)] if name else jobs_of(asked.app).all()
    return repr(
        [
            (each.id, each.state, each.seen, each.stopping.is_set())
            for each in jobs
            if each is not None
        ]
    )


def stop(asked: Asked) -> Response:
    """Stop a job after what it is at."""
    job = jobs_of(asked.app).get(asked.given("id"))
    if job is None:
        raise PageError(404, "There is no such job in this process.", "It may have ended.")
    asked.needs("erase" if job.kind == "configure" else "act")
    job.stopping.set()
    return asked.back("/bulk", id=job.id, kind=job.kind, **job.query)


def _kind(asked: Asked) -> str:
    kind = asked.given("kind")
    if kind not in _ACTS:
        raise PageError(400, "The address does not say what to do.", "Replay, or skip.")
    return kind


def _percent(job: Job) -> int | None:
    if job.state == "done":
        return 100
    if job.more or not job.total:
        return None
    return min(99, job.seen * 100 // job.total)
