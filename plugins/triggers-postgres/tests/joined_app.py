"""What the tests about joined transactions share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from triggers_core import TriggerManager, hookimpl
from triggers_postgres import PostgresStore

TASKS = {"t_ship": {"after": ["paid"], "andEvery": "packed", "run": "shop.Ship"}}
PATIENCE = 60  # seconds until a test fails that would hang

Connect = Callable[..., psycopg.Connection[Any]]


class Heard:
    """A plugin that notes what it is told after a commit, and in which thread."""

    def __init__(self) -> None:
        self.triggers: list[str] = []
        self.threads: set[str] = set()
        self._some = threading.Condition()

    @hookimpl
    def post_fire(self, manager: TriggerManager, event: Any, scheduled: Any) -> None:
        with self._some:
            self.triggers.append(event.trigger)
            self.threads.add(threading.current_thread().name)
            self._some.notify_all()

    def wait_for(self, *triggers: str) -> None:
        """Wait until it has been told of these, and of nothing else."""
        with self._some:
            self._some.wait_for(lambda: len(self.triggers) >= len(triggers), PATIENCE)
            assert self.triggers == list(triggers), self.triggers


def triggers(manager: TriggerManager) -> list[str]:
    return [event.trigger for event in manager.storage.events]


def settled(manager: TriggerManager) -> None:
    """Nothing waits any more for the end of a transaction."""
    store = manager.storage.store
    assert isinstance(store, PostgresStore)

    def nothing_waits() -> bool:  # the server has to notice first that a connection is gone
        store.follow_up()
        return not store.outcomes.waiting

    until(nothing_waits, "the end of all transactions")


def until(check: Callable[[], bool], what: str) -> None:
    """Wait for something that a thread, or the server, does in its own time."""
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.01)
