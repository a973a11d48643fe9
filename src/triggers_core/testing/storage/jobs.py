"""What other processes do to a store for its contract; they import this module."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from triggers_core.exceptions import TriggersError
from triggers_core.storages.base import Store
from triggers_core.testing.driver import SessionDriver

Say = Callable[[Any], None]


def fire_each(
    store: Store, say: Say, uid: str, triggers: list[str], event_id: bool = False
) -> list[tuple[str, list[str]]]:
    """Fire triggers; returns the status of each, and what it scheduled."""
    session = SessionDriver(store, uid)
    done = [session.fire(each, event_id=each if event_id else None) for each in triggers]
    return [(each.status, each.scheduled) for each in done]


def claim_each(store: Store, say: Say, uid: str, generation: str, names: list[str]) -> list[str]:
    """Claim instances for their first attempt; returns those that it got."""
    session, won = SessionDriver(store, uid), []
    for name in names:
        try:
            session.claim(name, attempt=1, generation=generation)
        except TriggersError:
            continue
        won.append(name)
    return won


def lease_each(store: Store, say: Say, owner: str, names: list[str]) -> list[str]:
    """Take leases; returns those that it got."""
    return [name for name in names if store.acquire_lease(name, owner, 30)]


def release(store: Store, say: Say, owner: str, name: str) -> None:
    """Give a lease back."""
    store.release_lease(name, owner)


def begin_anew(store: Store, say: Say, uid: str, task: str) -> None:
    """Delete a session and begin another of the same uid."""
    store.delete(uid)
    session = SessionDriver(store, uid)
    session.configure({task: {"after": ["go"]}})
    session.fire("go")


def fire_until_killed(store: Store, say: Say, uid: str) -> None:
    """Fire and finish for ever; says the number of each event that is stored."""
    session = SessionDriver(store, uid)
    for number in count():
        session.fire("go", {"n": number}, event_id=f"e{number}")
        say(number)


def fired(store: Store, say: Say, uid: str) -> list[str]:
    """The triggers of a session's events."""
    return SessionDriver(store, uid).fired()
