"""The configurations that sessions have: how many have each, and what is in it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Query
from triggers_core.exceptions import TriggersError
from triggers_core.storages.base import Store


class InUse(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that sessions have."""

    address: str
    """Its `Configuration.hash`."""
    sessions: int
    """How many have it, closed ones included."""
    more: bool
    """Whether there are more than were counted."""
    example: str
    """The uid of one of them; empty when none can be read."""
    configuration: Configuration | None
    """None when none of them can be read."""


class Configurations(msgspec.Struct, frozen=True, kw_only=True):
    """A page of them, by address."""

    found: list[InUse]
    more: bool
    """Whether there are more behind the last one."""

    @property
    def data(self) -> list[dict[str, Any]]:
        """The same as plain dicts and lists, for JSON; most sessions first."""
        return [
            {
                "address": each.address,
                "sessions": each.sessions,
                "more": each.more,
                "tasks": list(each.configuration.tasks) if each.configuration else None,
                "example": each.example or None,
            }
            for each in self.by_use
        ]

    @property
    def by_use(self) -> list[InUse]:
        """Most sessions first."""
        return sorted(self.found, key=lambda each: (-each.sessions, each.address))


def configurations(store: Store, *, limit: int = 50, after: str = "") -> Configurations | None:
    """Which configurations are in use.

    :param limit: how many at most; each costs one more query.
    :param after: only addresses greater than this one.
    :returns: None: the storage has no index that tells.

    Example::

        configurations(app.store).data[0]  # {"address": "…", "sessions": 1204, "tasks": [...], …}
    """
    listed = store.configurations_in_use(limit + 1, after)
    if listed is None:
        return None
    found = []
    for each in listed[:limit]:
        uid, configuration = _of(store, each.example, each.address) or ("", None)
        found.append(
            InUse(
                address=each.address,
                sessions=each.sessions,
                more=each.more,
                example=uid,
                configuration=configuration,
            )
        )
    return Configurations(found=found, more=len(listed) > limit)


def configuration_at(store: Store, address: str) -> tuple[str, Configuration] | None:
    """A configuration by its address, and the uid of a session that has it; None: none has."""
    for each in store.sessions_with(address, limit=1) or ():
        if found := _of(store, each.uid, address):
            return found
    return None


def _of(store: Store, uid: str, address: str) -> tuple[str, Configuration] | None:
    """The configuration of a session, if that can be read and has it still."""
    with suppress(TriggersError):
        snapshot = store.load(uid, Query())
        if snapshot.header is not None and snapshot.header.config == address:
            return uid, snapshot.configuration
    return None
