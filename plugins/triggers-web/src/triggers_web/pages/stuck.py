"""The first page: what is stuck. Whoever is on call knows in five seconds whether anything is."""

from __future__ import annotations

from typing import Final

from triggers_core.storages.groups import MOST_GROUPS
from triggers_core.texts import count
from triggers_core.views.overview import SOON, Overview, overview
from triggers_web.pages.page import Asked, Page

_LINES: Final = 20  # of each list


def show(asked: Asked) -> Page:
    """Sessions by what they wait for, failures by task and error, what is overdue or due soon."""
    found = _look(asked)
    return Page("stuck.html", {"found": found, "headline": headline(found), "most": _LINES})


def headline(found: Overview) -> tuple[str, str]:
    """What a store looks like, in one sentence; and whether that is ``bad``, ``wait`` or ``good``.

    Example::

        headline(overview(app.store))  # ("3 instances failed.", "bad")
    """
    failed = sum(each.instances for each in found.failed)
    overdue = len(found.overdue.sessions)
    bad = []
    if failed:
        bad.append(f"{count(failed, 'instance')} failed")
    if overdue:
        more = " or more" if overdue >= _LINES else ""
        bad.append(f"{overdue}{more} {'session is' if overdue == 1 else 'sessions are'} overdue")
    if found.overdue.unreadable:
        bad.append(f"{count(len(found.overdue.unreadable), 'session')} cannot be read")
    if bad:
        return f"{'; '.join(bad)}.", "bad"
    if found.missing:
        return "Nothing failed. Some sessions wait for events.", "wait"
    return "All is well.", "good"


def version(asked: Asked) -> str:
    """Differs once something else is stuck. Reads indexes, and no session."""
    store = asked.app.store
    found = (
        store.waiting_groups(MOST_GROUPS),
        store.failed_groups(MOST_GROUPS),
        store.due(10 * _LINES),
        [(uid, each.name, each.due_at) for uid, each in store.coming(SOON, _LINES + 1)],
    )
    return repr(found)


def _look(asked: Asked) -> Overview:
    app = asked.app
    return overview(app.store, limit=_LINES, grace=2 * app.settings.timing.sweep)
