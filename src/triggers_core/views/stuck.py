"""What is stuck in a store: failed, overdue and waiting sessions, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import Header, Instance, Status
from triggers_core.engine.standing import deadline_of, is_idle, lacking
from triggers_core.exceptions import TriggersError
from triggers_core.storages.base import Store, all_sessions
from triggers_core.storages.summaries import SessionSummary, summarise
from triggers_core.views.session import summary_data

_INSTANCES: Final = 10  # overdue ones that are looked at for each session that is asked for


class Overdue(msgspec.Struct, frozen=True, kw_only=True):
    """Instances that nobody claimed in time, whose worker was lost, or whose moment has passed.

    The last are held back or have a deadline (`waiting`, `within`, a retry), and no sweep looked.
    """

    sessions: dict[str, SessionSummary]
    """Uid → session that has some; those overdue for longest first."""
    instances: dict[str, int]
    """Uid → how many it has."""
    unreadable: list[str]
    """What could not be looked at, in words: sessions that are damaged or of a newer version."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A page of sessions."""

    sessions: list[SessionSummary]
    more: bool
    """Whether there are more than were asked for."""
    overdue: Overdue

    @property
    def data(self) -> list[dict[str, Any]]:
        """The sessions as plain dicts, for JSON."""
        return [summary_data(each, self.overdue_in(each.uid)) for each in self.sessions]

    def overdue_in(self, uid: str) -> int:
        """How many instances of a session are overdue."""
        return self.overdue.instances.get(uid, 0)


def list_stuck(
    store: Store,
    *,
    failed: bool = False,
    overdue: bool = False,
    waiting: bool = False,
    limit: int = 20,
    grace: float = 0.0,
) -> Listing:
    """List sessions that are stuck: the failed ones first, then the overdue, then the waiting.

    It reads indexes: the cost depends on `limit`, not on the number of sessions.

    :param failed: those with failed instances, most first.
    :param overdue: those with overdue instances, the latest first.
    :param waiting: those in which nothing is under way and something needs an event that has not
        come, longest first. Without any of the three: all three.
    :param grace: seconds after which an instance counts as overdue. Two sweeps of a worker
        (``2 * app.settings.timing.sweep``) look after what is only late.

    Example::

        list_stuck(app.store, failed=True).data
    """
    late = find_overdue(store, limit, grace)
    every = not (failed or overdue or waiting)
    found: dict[str, SessionSummary] = {}
    if failed or every:
        found |= {each.uid: each for each in store.sessions(failed=True, limit=limit + 1)}
    if overdue or every:
        found |= {uid: each for uid, each in late.sessions.items() if uid not in found}
    if waiting or every:
        longest = store.sessions(waiting=True, limit=limit + 1)
        found |= {each.uid: each for each in longest if each.uid not in found}
    return _page(list(found.values()), limit, late)


def list_all(store: Store, *, limit: int = 20, after: str = "", grace: float = 0.0) -> Listing:
    """List all sessions, by uid.

    :param after: begin after this uid.
    :param grace: as for `list_stuck`.
    """
    late = find_overdue(store, limit, grace)
    return _page(store.sessions(limit=limit + 1, after=after), limit, late)


def _page(found: list[SessionSummary], limit: int, late: Overdue) -> Listing:
    return Listing(sessions=found[:limit], more=len(found) > limit, overdue=late)


def find_overdue(store: Store, limit: int = 20, grace: float = 0.0) -> Overdue:
    """Find the instances that are overdue by more than `grace` seconds.

    :param limit: sessions that somebody wants to see; some ten instances are looked at for each.
    """
    names: dict[str, list[str]] = {}
    for due in store.due(limit * _INSTANCES):
        names.setdefault(due.uid, []).append(due.instance)
    late = Overdue(sessions={}, instances={}, unreadable=[])
    for uid, instances in names.items():
        try:
            snapshot = store.load(uid, Query(instances=tuple(instances)))
        except TriggersError as error:  # it cannot be read: that must not hide the others
            late.unreadable.append(str(error))
            continue
        before = snapshot.now - grace
        amount = sum(
            each.due_at is not None and each.due_at < before for each in snapshot.instances.values()
        )
        if snapshot.header is not None and amount:
            late.sessions[uid] = summarise(uid, snapshot.header)
            late.instances[uid] = amount
    return late


# -- what the sessions of a whole store wait for, counted, as for a backtest ----------------------


class Wait(msgspec.Struct, kw_only=True):
    """Instances of one task that one trigger is missing for."""

    task: str
    trigger: str
    """It may be one of several of which any would do: `explain` tells."""
    instances: int = 0
    example: str = ""
    """The uid of a session that has one."""
    due_at: float | None = None
    """When the first of them is late, in seconds since 1970; None while no deadline is known."""


class Waits(msgspec.Struct, kw_only=True):
    """The sessions in which something began and could not run.

    Neither what is held back, and comes by itself, nor what merely waits for the next time
    (`everyTime`) counts.
    """

    sessions: int = 0
    waits: list[Wait] = []
    """Most instances first."""
    failed: int = 0
    """Sessions with failed instances."""
    failed_example: str = ""


def count_waits(store: Store, configuration: Configuration) -> Waits:
    """Go through all sessions of a store; what is kept is as large as the configuration."""
    found: dict[tuple[str, str], Wait] = {}
    stuck = Waits()
    for session in all_sessions(store):
        if session.failed:
            stuck.failed += 1
            stuck.failed_example = stuck.failed_example or session.uid
        if session.unstarted == session.idle:
            continue
        header = store.load(session.uid, Query()).header
        waiting = [
            instance
            for instance in store.instances(session.uid, statuses=(Status.UNSTARTED,))
            if header is not None and not _comes_by_itself(configuration, instance)
        ]
        stuck.sessions += bool(waiting)
        for instance in waiting:
            assert header is not None
            _count_wait(found, configuration, session.uid, header, instance)
    stuck.waits = sorted(found.values(), key=lambda w: (-w.instances, w.task, w.trigger))
    return stuck


def _comes_by_itself(configuration: Configuration, instance: Instance) -> bool:
    """Whether an unstarted instance is held back, or waits for the next time only."""
    task = configuration.tasks.get(instance.task)
    return instance.not_before is not None or (task is not None and is_idle(task.rule, instance))


def _count_wait(
    found: dict[tuple[str, str], Wait],
    configuration: Configuration,
    uid: str,
    header: Header,
    instance: Instance,
) -> None:
    task = configuration.tasks.get(instance.task)
    lacks = None if task is None else lacking(task.rule, instance, header)
    if task is None or lacks is None:
        return
    due_at = deadline_of(task.rule, instance, header)
    for trigger in lacks.triggers:
        key = (instance.task, trigger)
        wait = found.setdefault(key, Wait(task=key[0], trigger=key[1]))
        wait.instances += 1
        wait.example = wait.example or uid
        if due_at is not None and (wait.due_at is None or due_at < wait.due_at):
            wait.due_at = due_at


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
