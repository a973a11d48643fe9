"""The first look at a store: what sessions wait for, what failed, what is overdue or due soon.

Read from the storage's indexes, in a number of queries that does not grow with the sessions.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from triggers_core.storages.base import Store
from triggers_core.storages.groups import MOST_GROUPS, FailedGroup, WaitingGroup
from triggers_core.texts import iso
from triggers_core.views.session import coming
from triggers_core.views.stuck import Overdue, find_overdue

SOON: Final = 86_400.0
"""Seconds within which a deadline is near, unless somebody says otherwise."""


class MissingTrigger(msgspec.Struct, kw_only=True):
    """A trigger that sessions wait for, with nothing under way in them."""

    trigger: str
    sessions: int
    """How many wait for it; those that wait for another one, too, are counted for each."""
    more: bool
    """Whether there are more than were counted."""
    since: float
    """When the first of them began to wait, in seconds since 1970."""
    groups: list[tuple[str, ...]]
    """What the sessions lack: `Store.waiting_for` lists those of each."""


class Soon(msgspec.Struct, frozen=True, kw_only=True):
    """An instance whose moment comes by itself: a deadline, or the end of a hold."""

    uid: str
    instance: str
    at: str
    """RFC 3339, in UTC."""
    then: str
    """What becomes of it: ``late`` or ``scheduled``."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What a store looks like at a moment."""

    now: float
    missing: list[MissingTrigger]
    """Most sessions first."""
    idle: int
    """Sessions that wait, but for no event: something failed, or nothing has begun."""
    more_idle: bool
    """Whether there are more than were counted."""
    failed: list[FailedGroup]
    """Most instances first."""
    overdue: Overdue
    soon: list[Soon]
    """The next ones first."""
    more_soon: bool

    @property
    def data(self) -> dict[str, Any]:
        """The same as plain dicts and lists, for JSON."""
        return {
            "now": iso(self.now),
            "waiting": [
                {
                    "trigger": each.trigger,
                    "sessions": each.sessions,
                    "more": each.more,
                    "since": iso(each.since),
                }
                for each in self.missing
            ],
            "idle": self.idle,
            "more_idle": self.more_idle,
            "failed": [
                {
                    "task": each.task,
                    "error": each.error or None,
                    "instances": each.instances,
                    "since": iso(each.since),
                }
                for each in self.failed
            ],
            "overdue": [
                {"uid": uid, "instances": amount} for uid, amount in self.overdue.instances.items()
            ],
            "soon": [msgspec.structs.asdict(each) for each in self.soon],
        }


def overview(
    store: Store, *, limit: int = 20, within: float = SOON, grace: float = 0.0
) -> Overview:
    """Look at a store.

    :param limit: overdue sessions, and instances that are due soon, to name at most.
    :param within: seconds ahead to look for what is due soon.
    :param grace: seconds after which an instance counts as overdue, as for `stuck.list_stuck`.

    Example::

        overview(app.store).data["waiting"][0]  # {"trigger": "packed", "sessions": 1204, ...}
    """
    missing, idle = missing_triggers(store)
    soon, more = due_soon(store, within, limit)
    return Overview(
        now=store.now(),
        missing=missing,
        idle=0 if idle is None else idle.sessions,
        more_idle=idle is not None and idle.more,
        failed=store.failed_groups(MOST_GROUPS),
        overdue=find_overdue(store, limit, grace),
        soon=soon,
        more_soon=more,
    )


def missing_triggers(store: Store) -> tuple[list[MissingTrigger], WaitingGroup | None]:
    """What the waiting sessions wait for, by trigger; and those that wait for no event."""
    found: dict[str, MissingTrigger] = {}
    idle = None
    groups = store.waiting_groups(MOST_GROUPS)
    cut = len(groups) == MOST_GROUPS  # any trigger may be in those that are left out
    for group in groups:
        if not group.missing:
            idle = group
        for trigger in group.missing:
            known = found.get(trigger)
            if known is None:
                found[trigger] = MissingTrigger(
                    trigger=trigger,
                    sessions=group.sessions,
                    more=group.more or cut,
                    since=group.since,
                    groups=[group.missing],
                )
            else:
                known.sessions += group.sessions
                known.more |= group.more
                known.since = min(known.since, group.since)
                known.groups.append(group.missing)
    order = sorted(found.values(), key=lambda each: (-each.sessions, each.since, each.trigger))
    return order, idle


def due_soon(store: Store, within: float, limit: int) -> tuple[list[Soon], bool]:
    """What falls due by itself within so many seconds, the next first; whether there is more."""
    found = store.coming(within, limit + 1)
    soon = [
        Soon(uid=uid, instance=each["name"], at=each["at"], then=each["then"])
        for uid, instance in found[:limit]
        for each in coming([instance])
    ]
    return soon, len(found) > limit
