"""Runs of many seeds: one after the other, or side by side in processes of their own."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from triggers_core.engine.configuration import Configuration
from triggers_core.exceptions import InvalidArgument
from triggers_core.storages.base import Store
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.session import SessionStorage
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing.invariants import check_session
from triggers_core.testing.simulation.chance import Substitutes, substituted
from triggers_core.testing.simulation.ledger import Ledger
from triggers_core.testing.simulation.processes import make_application
from triggers_core.testing.simulation.reference import check_order
from triggers_core.testing.simulation.scenario import Scenario, every_word
from triggers_core.testing.simulation.world import MakeStore, World

PROCESSES: Final = 3
RECOUNT: Final = 16
"""One seed in so many has its sessions recounted and its commits made again, in memory: thorough,
and several times as dear as the run itself. On any other storage every seed has."""


Check = Callable[[SessionStorage], None]
"""Looks at a session at the end of a run; an `AssertionError` is a violation."""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of one seed."""

    seed: int
    sessions: int = 0
    commits: int = 0
    switches: int = 0
    conflicts: int = 0
    problems: list[str] = []
    fingerprint: str = ""
    """Hash of every line of the run, if that was asked for."""


class Simulator:
    """Runs seeds in this process; enter it, for it takes the place of chance and time.

    :param scenario: what to simulate.
    :param storage: ``memory``, in steps, as servers are reached; ``sqlite``, a real file; or what
        opens a store with a clock, for each process: of your own storage, on a server, say.
    :param recount: one seed in so many is checked thoroughly.
    :param check: looks at each session at the end.
    :raises InvalidArgument: there is no such storage.
    """

    scenario: Scenario
    recount: int

    def __init__(
        self,
        scenario: Scenario | None = None,
        storage: str | MakeStore = "memory",
        recount: int | None = None,
        check: Check | None = None,
    ) -> None:
        if not callable(storage) and storage not in ("memory", "sqlite"):
            raise InvalidArgument(
                f"storage: expected 'memory', 'sqlite' or what opens a store, got {storage!r}"
            )
        self.check = check
        self.scenario = scenario or default_scenario()
        self.storage = storage
        self.recount = recount or (RECOUNT if storage == "memory" else 1)
        self._stack = ExitStack()
        self._known: dict[str, Configuration] = {}
        self._decoded = ConfigurationCache()

    def __enter__(self) -> Simulator:
        self._chance: Substitutes = self._stack.enter_context(substituted())
        plugins = tuple(self.scenario.plugins)
        self._apps = [make_application(number, plugins) for number in range(PROCESSES)]
        if self.storage != "memory":
            self._folder = self._stack.enter_context(
                tempfile.TemporaryDirectory(dir=_fast_folder())
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def check_configurations(self) -> None:
        """Read the configurations, so that a wrong one is told of before anything runs.

        :raises InvalidConfiguration: names the place.
        """
        for configuration in self.scenario.configurations:
            self._apps[0].parse(configuration)

    def run(
        self, seed: int, trace: Callable[[str], None] | None = None, hashed: bool = False
    ) -> Outcome:
        """Simulate one seed."""
        digest = hashlib.sha256()

        def line(text: str) -> None:
            digest.update(text.encode() + b"\n")
            if trace is not None:
                trace(text)

        thorough = seed % self.recount == 0
        with self._stores(seed) as make_store:
            world = World(
                seed,
                self.scenario,
                self._apps,
                self._chance,
                make_store,
                keep_commits=thorough,
                known=self._known,
                trace=line if trace is not None or hashed else None,
            )
            try:
                world.run()
                _check(world, thorough, self.check, self._known)
            except Exception as error:
                world.ledger.problem(f"{type(error).__name__}: {error}")
                if trace is not None:
                    raise
            finally:
                for app in self._apps:
                    app._places.take_seen()
        return Outcome(
            seed=seed,
            sessions=len(world.uids),
            commits=world.ledger.amount,
            switches=world.scheduler.switches,
            conflicts=world.optimistic.conflicts if world.optimistic is not None else 0,
            problems=world.ledger.problems,
            fingerprint=digest.hexdigest() if hashed or trace is not None else "",
        )

    @contextmanager
    def _stores(self, seed: int) -> Iterator[Callable[[Callable[[], float]], Store] | None]:
        if self.storage == "memory":
            yield None
            return
        opened: list[Store] = []
        path = Path(self._folder) / f"{seed}.db"
        storage = self.storage

        def make(clock: Callable[[], float]) -> Store:
            if callable(storage):
                opened.append(storage(clock))
            else:
                store = SqliteStore(path, "NORMAL", clock)
                store._configurations = self._decoded  # what runs share, as in a long-lived process
                opened.append(store)
            return opened[-1]

        try:
            yield make
        finally:
            for store in opened:
                store.close()
            for file in Path(self._folder).glob(f"{seed}.db*"):
                file.unlink()


def _fast_folder() -> str | None:
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


def _check(
    world: World, thorough: bool, check: Check | None, known: dict[str, Configuration]
) -> None:
    ledger, store = world.ledger, world.stores[0]
    ledger.check_answers()
    ledger.check_once(world.scenario.at_most_once)
    for uid in world.uids:
        store.together(partial(_check_stored, ledger, store, uid, thorough))
        if check is not None:
            try:
                check(SessionStorage.on(store, uid))
            except AssertionError as error:
                ledger.problem(f"{uid}: {error or 'the check failed'}")
    if ledger.commits is not None and not ledger.problems:
        check_order(ledger, store, world.processes[0].app.rules, known)


def _check_stored(ledger: Ledger, store: Store, uid: str, thorough: bool) -> None:
    events, instances = store.events(uid), store.instances(uid)
    ledger.check_stored(uid, events, instances)
    if thorough and events:
        try:
            check_session(store, uid)
        except AssertionError as error:
            ledger.problem(f"{uid}: {error}")


def default_scenario() -> Scenario:
    """Every word; with the plugin finalize where it is installed."""
    return every_word(("finalize",) if find_spec("triggers_finalize") else ())
