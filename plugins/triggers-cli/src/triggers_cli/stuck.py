"""What the sessions of a backtest wait for, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Status
from triggers_core.storages.base import SessionSummary, Store

_PAGE = 500  # sessions read at a time


class Wait(msgspec.Struct, kw_only=True):
    """Instances of one task that one trigger is missing for."""

    task: str
    trigger: str
    instances: int = 0
    example: str = ""
    """The uid of a session that has one."""


class Stuck(msgspec.Struct, kw_only=True):
    """The sessions in which something began and could not run."""

    sessions: int = 0
    waits: list[Wait] = []
    """Most instances first."""
    failed: int = 0
    """Sessions with failed instances."""
    failed_example: str = ""


def count_waits(store: Store, configuration: Configuration) -> Stuck:
    """Go through all sessions of a store; what is kept is as large as the configuration."""
    found: dict[tuple[str, str], Wait] = {}
    stuck = Stuck()
    for session in all_sessions(store):
        if session.failed:
            stuck.failed += 1
            stuck.failed_example = stuck.failed_example or session.uid
        if not session.unstarted:
            continue
        stuck.sessions += 1
        for instance in store.instances(session.uid, statuses=(Status.UNSTARTED,)):
            task = configuration.tasks.get(instance.task)
            for trigger in task.required.missing(instance.taken) if task else ():
                key = (instance.task, trigger)
                wait = found.setdefault(key, Wait(task=key[0], trigger=key[1]))
                wait.instances += 1
                wait.example = wait.example or session.uid
    stuck.waits = sorted(found.values(), key=lambda w: (-w.instances, w.task, w.trigger))
    return stuck


def never_fired(store: Store, triggers: Iterable[str]) -> list[str]:
    """Those of the triggers that no session has recorded, whoever fired them; sorted."""
    left = set(triggers)
    for session in all_sessions(store) if left else ():
        header = store.load(session.uid, Query()).header
        if header is not None:
            left.difference_update(header.latest)
        if not left:
            break
    return sorted(left)


def all_sessions(store: Store) -> Iterator[SessionSummary]:
    """Every session of a store, by uid, read page by page."""
    after = ""
    while page := store.sessions(limit=_PAGE, after=after):
        yield from page
        after = page[-1].uid
