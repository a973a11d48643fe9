"""Where the sessions of a test live: a storage on the test's clock, and a runner.

`open_place` opens one by its name. Each is empty, and nobody else's. Those of the core are here;
how others come in, `providers` tells.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from triggers_core.application.runners import MakeRunner
from triggers_core.storages.base import Clock, Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.kit.runner import KitRunner

_IN_MEMORY: Final = Path("/dev/shm")


def _nothing() -> None:
    """There is nobody to wait for."""


@dataclass(frozen=True)
class Place:
    """A storage and a runner for one test."""

    store: Store
    """Empty, and on the test's clock."""
    runner: MakeRunner = KitRunner
    """Makes the runner of an application: its class, mostly."""
    settle: Callable[[], None] = _nothing
    """Waits until all that has been dispatched to other threads or processes has been done."""
    bodies_here: bool = True
    """Whether bodies run in this process, so that a test can say what they do."""


OpenPlace = Callable[[Clock], AbstractContextManager[Place]]


@contextmanager
def _memory(clock: Clock) -> Iterator[Place]:
    with MemoryStore(clock) as store:
        yield Place(store)


@contextmanager
def _sqlite(clock: Clock) -> Iterator[Place]:
    # In memory where the system offers that: each commit is synced.
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="triggers-", dir=parent) as folder,
        SqliteStore(Path(folder) / "triggers.db", clock=clock) as store,
    ):
        yield Place(store)


PLACES: Mapping[str, OpenPlace] = MappingProxyType({"memory": _memory, "sqlite": _sqlite})
"""Name → what opens it."""


def open_place(name: str, clock: Clock) -> AbstractContextManager[Place]:
    """Open a place; at the end of the block it is gone, with all that is in it.

    :param name: ``memory``, ``sqlite``, or what an installed distribution offers: ``redis``,
        ``postgres``, ``celery``.
    :raises UnknownKey: there is none of that name; says what there is, and what to install.
    :raises StorageError: it cannot be used here: for example, there is no server.

    Example::

        with open_place("sqlite", VirtualClock()) as place:
            app = Application("test", store=place.store, runner=place.runner)
    """
    if name in PLACES:
        return PLACES[name](clock)
    from triggers_core.testing.kit.providers import open_offered  # it knows this module's types

    return open_offered(name, clock)
