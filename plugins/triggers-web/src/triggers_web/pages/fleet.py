"""Pages about many sessions: who waits for a trigger, what failed, all by uid, and the search."""

from __future__ import annotations

import math
from typing import Any, Final

from triggers_core.engine.names import MAX_LENGTH
from triggers_core.storages.groups import FailedInstance
from triggers_core.storages.prefixes import sessions_by_prefix
from triggers_core.storages.summaries import SessionSummary
from triggers_core.views.finding import find
from triggers_core.views.overview import missing_triggers
from triggers_web.pages.bulk import NO_ERROR, chosen
from triggers_web.pages.errors import PageError
from triggers_web.pages.page import Asked, Page

LINES: Final = 50
"""Lines of a page."""
_LOOKED_AT: Final = 2_000
"""Failed instances that a page looks at, for those whose uid begins as wanted."""
_MOST_SKIPPED: Final = 10_000


# -- waiting ---------------------------------------------------------------------------------------


def show_waiting(asked: Asked) -> Page:
    """The sessions that wait for a trigger; or the triggers that sessions wait for."""
    missing = tuple(value for name, value in asked.request.query_pairs if name == "missing")
    if missing or asked.given("idle"):
        return _group(asked, tuple(sorted(set(missing))))
    trigger, store = asked.given("trigger"), asked.app.store
    triggers, idle = missing_triggers(store)
    if not trigger:
        found_all = {"triggers": triggers, "idle": idle, "now": store.now()}
        return Page("waiting_triggers.html", found_all)
    found = [each for each in triggers if each.trigger == trigger]
    if len(found) == 1 and len(found[0].groups) == 1:
        return _group(asked, found[0].groups[0])
    values = {
        "trigger": trigger,
        "found": found[0] if found else None,
        "now": store.now(),
        "lines": [_amount(asked, group) for group in found[0].groups[:LINES]] if found else [],
        "more": max(0, len(found[0].groups) - LINES) if found else 0,
    }
    return Page("waiting_groups.html", values)


def _amount(asked: Asked, group: tuple[str, ...]) -> dict[str, Any]:
    first = asked.app.store.waiting_for(group, limit=1)
    return {"missing": group, "example": first[0].uid if first else ""}


def _group(asked: Asked, missing: tuple[str, ...]) -> Page:
    store = asked.app.store
    after, skip = _number(asked.given("after")), int(_number(asked.given("skip")) or 0)
    after = -math.inf if after is None else after
    skip = max(0, min(skip, _MOST_SKIPPED))
    found = store.waiting_for(missing, skip + LINES + 1, after)[skip:]
    values = {
        "missing": missing,
        "sessions": found[:LINES],
        "next": _next_waiting(found[:LINES], after, skip) if len(found) > LINES else None,
        "begins": after == -math.inf,
        "now": store.now(),
    }
    return Page("waiting.html", values)


def _next_waiting(shown: list[SessionSummary], after: float, skip: int) -> dict[str, str]:
    """Where the next page begins: at a moment, behind those of it that have been shown."""
    last = shown[-1].waiting_since or 0.0
    same = sum(each.waiting_since == last for each in shown)
    return {"after": repr(last), "skip": str(same + (skip if last == after else 0))}


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


# -- failed ----------------------------------------------------------------------------------------


def show_failed(asked: Asked) -> Page:
    """The failed instances of all sessions, those that failed first first."""
    store = asked.app.store
    selection, query = chosen(asked)
    after = _position(asked)
    now = store.now()
    before = math.inf if selection.older_than is None else now - selection.older_than
    shown: list[FailedInstance] = []
    limit = _LOOKED_AT // 4 if selection.prefix else LINES + 1
    looked_at, full, ended = 0, False, False
    while not (full or ended) and looked_at < _LOOKED_AT:
        page = store.failed_instances(
            task=selection.task, error=selection.error, limit=limit, after=after
        )
        ended = len(page) < limit
        for each in page:
            if each.at > before:
                ended = True
                break
            full = len(shown) == LINES
            if full:
                break
            looked_at, after = looked_at + 1, each
            if each.uid.startswith(selection.prefix):
                shown.append(each)
    following = None
    if after is not None and (full or not ended):
        place = {"at": repr(after.at), "uid": after.uid, "instance": after.instance}
        following = {**query, **place}
    values = {
        "query": query,
        "failed": shown,
        "next": following,
        "begins": not asked.given("at"),
        "groups": store.failed_groups(200),
        "no_error": NO_ERROR,
        "now": now,
    }
    return Page("failed.html", values)


def _position(asked: Asked) -> FailedInstance | None:
    at = _number(asked.given("at"))
    if at is None:
        return None
    return FailedInstance(uid=asked.given("uid"), instance=asked.given("instance"), error="", at=at)


# -- sessions --------------------------------------------------------------------------------------


def show_sessions(asked: Asked) -> Page:
    """All sessions by uid, or those whose uid begins as wanted."""
    store = asked.app.store
    prefix, after = _name(asked, "prefix"), _name(asked, "after")
    found = sessions_by_prefix(store, prefix, LINES + 1, after)
    values = {
        "prefix": prefix,
        "after": after,
        "sessions": found[:LINES],
        "next": found[LINES - 1].uid if len(found) > LINES else "",
        "now": store.now(),
    }
    return Page("sessions.html", values)


def show_found(asked: Asked) -> Page:
    """What a text may mean."""
    text = asked.given("q").strip()
    store = asked.app.store
    found = find(store, text, LINES) if text else None
    values = {"text": text, "found": found, "now": store.now(), "no_error": NO_ERROR}
    return Page("found.html", values)


def _name(asked: Asked, parameter: str) -> str:
    """A parameter that is a uid, or the beginning of one.

    :raises PageError: no uid looks like that.
    """
    text = asked.given(parameter)
    if text and not (len(text) <= MAX_LENGTH and text.isprintable()):
        raise PageError(400, "No uid looks like that.", f"The parameter {parameter} is wrong.")
    return text
