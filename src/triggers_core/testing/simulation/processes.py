"""Simulated processes: an application in each, with a store, a clock, and what goes wrong there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from triggers_core import hookimpl
from triggers_core.application import Application
from triggers_core.engine.commands import Configure, Fire
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Command, Plan, Rules
from triggers_core.manager import TriggerManager
from triggers_core.runners.base import TaskRunner
from triggers_core.running.messages import Message
from triggers_core.settings import Settings
from triggers_core.storages.session import SessionStorage
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import TaskContext
from triggers_core.tasks.registry import declared
from triggers_core.testing.faults.clocks import SkewedClock
from triggers_core.testing.faults.delivery import CalledHeartbeats
from triggers_core.testing.faults.store import Faults, FaultyStore, InjectedError
from triggers_core.testing.simulation.scenario import BODY

if TYPE_CHECKING:
    from triggers_core.engine.configuration import Task
    from triggers_core.testing.simulation.world import World


T = TypeVar("T")


class SimulatedBody(TriggerTask):
    """What runs where a configuration says ``"run": "simulated"``, or names a task unknown here."""

    name = BODY
    max_retries = 2

    def _run(self, context: TaskContext) -> dict[str, Any] | None:
        runner = context.manager.app.runner()
        assert isinstance(runner, SimulatedRunner)
        return runner.process.world.body(self, context)


class _StandIns:
    """Plays tasks that nobody has defined, and lets time pass around the others."""

    @hookimpl
    def resolve_task(self, run: str) -> type[TriggerTask] | None:
        return None if run in declared else SimulatedBody

    @hookimpl
    @contextmanager
    def body_context(self, context: TaskContext) -> Iterator[None]:
        runner = context.manager.app.runner()
        assert isinstance(runner, SimulatedRunner)
        if context.task_class is SimulatedBody:
            yield
        else:
            runner.process.world.take_time()
            yield
            runner.process.world.take_time()


class SimulatedRunner(TaskRunner):
    """Hands messages to the simulated network."""

    key = "simulated"
    process: Process

    def dispatch(self, manager: TriggerManager, message: Message, task: Task | None) -> None:
        self.process.world.send(self.process, message)


def make_application(number: int, plugins: tuple[Any, ...] = ()) -> Application:
    """An application for a simulated process; it serves any number of runs in turn."""
    settings = Settings.isolated(TRIGGER_PLUGINS=[*plugins, _StandIns()])
    return Application(f"simulated {number}", settings, runner=SimulatedRunner)


class ProcessStore(FaultyStore):
    """A process's way to the store; tells the ledger of commits, at the moment they take effect."""

    def __init__(self, inner: Any, process: Process) -> None:
        super().__init__(inner, process)
        self.process = process

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        """As it is; but a client library may send a request again whose reply was lost.

        Not a fire without an id of its own: storages that resend have to see to that themselves.
        """
        try:
            return super().commit(uid, command, rules)
        except InjectedError:
            world = self.process.world
            if (isinstance(command, Fire) and not command.given_id) or world.rng.random() < 0.5:
                raise
            world.told(self.process, f"sends {type(command).__name__} again")
            return super().commit(uid, command, rules)

    def committed(self, uid: str, command: Command[Any], plan: Plan[Any]) -> None:
        self.process.world.committed(self.process, uid, command, plan)


_parsed: dict[tuple[int, int], tuple[Any, Configuration, tuple[str, ...]]] = {}
"""Which configurations, and which of them → those, it, and the plugins that it requires."""


class Process(Faults):
    """One process: it dies, is started again, stands still, and has a clock of its own."""

    name: str
    world: World
    app: Application
    inner: Any
    life: int
    up: bool
    frozen_until: float
    clock: SkewedClock
    store: ProcessStore
    heartbeats: CalledHeartbeats

    def __init__(self, name: str, world: World, app: Application, inner: Any) -> None:
        self.name, self.world, self.app, self.inner = name, world, app, inner
        self.life = 0
        self.up = True
        self.frozen_until = 0.0
        self.clock = SkewedClock(world.clock)
        self._rng: random.Random = world.rng
        runner = app.runner()
        assert isinstance(runner, SimulatedRunner)
        runner.process = self
        self._begin()

    def _begin(self) -> None:
        self.store = ProcessStore(self.inner, self)
        self.heartbeats = CalledHeartbeats(self.app.rules.timing.heartbeat)
        self._managers: dict[str, TriggerManager] = {}

    def manager(self, uid: str) -> TriggerManager:
        """The manager of a session, in this life of the process."""
        known = self._managers.get(uid)
        if known is None:
            storage = SessionStorage.on(self.store, uid)
            known = self._managers[uid] = TriggerManager(storage, self.app)
        return known

    def crash(self) -> None:
        """It dies here and now, wherever its jobs are."""
        self.life += 1
        self.up = False
        self.frozen_until = 0.0

    def start(self) -> None:
        """Another one takes its place; it remembers nothing."""
        self.up = True
        self._begin()

    def configure(self, number: int, past: bool) -> Configure:
        """What `update_configuration` commits; read once for many runs."""
        configurations = self.world.scenario.configurations
        key = (id(configurations), number)
        known = _parsed.get(key)
        if known is None or known[0] is not configurations:
            parsed = self.app.parse(configurations[number])
            known = _parsed[key] = configurations, parsed, self.app.plugins.requires_for(parsed)
        return Configure(configuration=known[1], requires=known[2], past=past)

    # -- around each operation on the store -------------------------------------------------------

    def before(self, operation: str) -> None:
        world = self.world
        world.scheduler.pause()
        if self._rng.random() < world.rates.errors:
            world.told(self, f"error before {operation}")
            raise InjectedError(f"error before {operation}")

    def after(self, operation: str) -> None:
        world = self.world
        world.scheduler.pause()
        if self._rng.random() < world.rates.lost_replies:
            world.told(self, f"lost reply to {operation}")
            raise InjectedError(f"lost reply to {operation}")
