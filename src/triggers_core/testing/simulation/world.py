"""One run: processes that fire, work and sweep, clients, operators, a deployer, and bad luck."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from triggers_core.application import Application
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Command, Plan
from triggers_core.engine.records import Status
from triggers_core.running.messages import Message
from triggers_core.running.worker import run_message
from triggers_core.storages.base import Store
from triggers_core.tasks import TriggerTask
from triggers_core.tasks.context import TaskContext
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.faults.delivery import Delivery
from triggers_core.testing.faults.store import Crash, InjectedError
from triggers_core.testing.simulation import actors
from triggers_core.testing.simulation.chance import Substitutes
from triggers_core.testing.simulation.ledger import Ledger
from triggers_core.testing.simulation.optimistic import OptimisticStore
from triggers_core.testing.simulation.processes import Process
from triggers_core.testing.simulation.scenario import Rates, Scenario
from triggers_core.testing.simulation.scheduler import Scheduler

START: Final = 1_700_000_000.0  # seconds since 1970
BURSTS: Final = (0.0, 0.0, 3.0, 20.0, 45.0, 90.0)
"""Seconds from the start at which events come, many at once: that is where they meet."""
TROUBLE: Final = 100.0  # seconds from the start, within which things go wrong
ROUNDS: Final = 400  # looks at a run that should come to its end; far above what any needs
QUIET: Final = Rates(
    **dict.fromkeys(Rates.__struct_fields__, 0.0),
)

MakeStore = Callable[[Callable[[], float]], Store]


class World:
    """Everything that one seed decides.

    :param apps: an application for each process.
    :param make_store: a store with a clock, for a process; None: one in memory that is reached in
        steps, for all.
    """

    seed: int
    scenario: Scenario
    trace: Callable[[str], None] | None
    rng: random.Random
    rates: Rates
    clock: VirtualClock
    scheduler: Scheduler
    ledger: Ledger
    delivery: Delivery
    processes: list[Process]
    durable_messages: bool
    uids: list[str]
    clients: int

    def __init__(
        self,
        seed: int,
        scenario: Scenario,
        apps: Sequence[Application],
        chance: Substitutes,
        make_store: MakeStore | None = None,
        keep_commits: bool = False,
        known: dict[str, Configuration] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed, self.scenario, self.trace = seed, scenario, trace
        self.rng = random.Random(seed)
        self.rates = scenario.rates
        self.clock = VirtualClock(START)
        self.scheduler = Scheduler(self.rng, self.clock)
        self.ledger = Ledger(keep_commits)
        chance.rng = random.Random(seed + 1)
        chance.now = self.monotonic
        chance.sleep = self.scheduler.sleep
        self.delivery = Delivery(self.rng, longest=120.0)
        self._set_rates(scenario.rates)
        shared = OptimisticStore(self.now, self._between, known) if make_store is None else None
        self.stores: list[Store] = [
            shared or make_store(self.now)  # type: ignore[misc]
            for _ in apps
        ]
        self.optimistic = shared
        self.processes = [
            Process(f"p{number}", self, app, store)
            for number, (app, store) in enumerate(zip(apps, self.stores, strict=True))
        ]
        self.durable_messages = self.rng.random() < 0.5
        """Whether messages outlive the process that sent them, as those of brokers do."""
        self.uids = [f"s{seed}.{number}" for number in range(scenario.sessions)]
        self.clients = 0
        """Those who still want something."""
        self._marks = 0

    def _set_rates(self, rates: Rates) -> None:
        self.rates = rates
        delivery = self.delivery
        delivery.lost, delivery.repeated, delivery.late = rates.lost, rates.repeated, rates.late

    # -- time and telling -------------------------------------------------------------------------

    def now(self) -> float:
        """What the clock of whoever is at work says."""
        job = self.scheduler.current
        place = None if job is None else job.place
        now = self.clock.now
        return now + place.clock.offset if isinstance(place, Process) else now

    def monotonic(self) -> float:
        """Seconds that pass whatever clocks are set to."""
        return self.clock.now

    def _between(self, step: str) -> None:
        self.scheduler.pause()

    def told(self, who: Process | None, what: str) -> None:
        """A line for whoever follows a run."""
        if self.trace is not None:
            job = self.scheduler.current
            place = who.name if who is not None else "-"
            name = "-" if job is None else job.name
            self.trace(f"{self.clock.now - START:10.3f} {place:3} {name:12} {what}")

    def committed(self, process: Process, uid: str, command: Command[Any], plan: Plan[Any]) -> None:
        """A commit has taken effect."""
        times = (self.now(), self.now()) if self.optimistic is None else self.optimistic.times
        self.ledger.committed(process.name, uid, command, plan, times)
        if self.trace is not None and not plan.empty:
            version = plan.header.version if plan.header is not None else "-"
            events = " ".join(f"{each.number}:{each.trigger}" for each in plan.events)
            changes = " ".join(
                f"{each.instance.name}={each.instance.status}/{each.instance.attempt}"
                for each in plan.changes
            )
            kind = type(command).__name__
            self.told(process, f"{kind} {uid} v{version} events [{events}] changes [{changes}]")

    @property
    def quiet(self) -> bool:
        """Whether nothing goes wrong any more: it only has to come to its end."""
        return self.rates is QUIET

    def next_mark(self) -> int:
        """Tells a fire from all others of the run."""
        self._marks += 1
        return self._marks

    # -- the run ----------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first event until everything has come to its end; problems are in the ledger."""
        rng, spawn = self.rng, self.scheduler.spawn
        for uid in self.uids:
            self._plan_session(uid)
        for process in self.processes:
            self._spawn_loops(process)
        for fate, average in (
            (actors.crash, self.rates.crashes),
            (actors.freeze, self.rates.freezes),
            (actors.jump, self.rates.jumps),
        ):
            for _ in range(int(average + rng.random())):
                spawn("fate", partial(fate, self), after=rng.random() * TROUBLE)
        spawn("director", self._direct, after=TROUBLE)
        self.scheduler.run()

    def _spawn_loops(self, process: Process) -> None:
        spawn = self.scheduler.spawn
        spawn("sweep", partial(actors.sweeper, self, process), process, after=5 + self.rng.random())
        spawn("heartbeat", partial(actors.heart, self, process), process, after=15)

    def restart(self, process: Process) -> None:
        """Another process in the place of one that has died."""
        if not process.up:
            self.told(process, "starts again")
            process.start()
            self._spawn_loops(process)

    def _plan_session(self, uid: str) -> None:
        rng, scenario, spawn = self.rng, self.scenario, self.scheduler.spawn
        if scenario.all_events:
            chosen = list(scenario.events)
            rng.shuffle(chosen)
        else:
            chosen = [rng.choice(scenario.events) for _ in range(rng.randint(*scenario.fires))]
            chosen[0] = scenario.events[0] if rng.random() < 0.8 else chosen[0]
        for trigger, kwargs in chosen:
            self.clients += 1
            at = rng.choice(BURSTS)
            spawn("client", partial(actors.client, self, uid, trigger, kwargs), after=at)
        at = rng.choice(BURSTS[:3])
        for number in range(len(scenario.configurations)):
            self.clients += 1
            spawn("deployer", partial(actors.deployer, self, uid, number), after=at)
            at += rng.choice(BURSTS[:5]) + 0.001
        for _ in range(1 + (rng.random() < 0.3)):
            spawn("operator", partial(actors.operator, self, uid), after=20 + rng.random())

    def any_process(self) -> Process | None:
        """One of those that are up."""
        up = [each for each in self.processes if each.up]
        return self.rng.choice(up) if up else None

    def call(self, action: Callable[[Process], Any]) -> Any:
        """Call into a process, and be cut off if it dies; None if there is no answer."""
        process = self.any_process()
        job = self.scheduler.current
        assert job is not None
        if process is None:
            return None
        job.move(process)
        try:
            return action(process)
        except (InjectedError, Crash) as error:
            if self.scheduler.stopped:
                raise
            self.told(process, f"no answer: {error}")
            return None
        finally:
            job.move(None)

    # -- messages and bodies ----------------------------------------------------------------------

    def send(self, sender: Process, message: Message) -> None:
        """A message leaves a process; it may be lost, repeated, or take its time."""
        self.ledger.sent(message)
        self.scheduler.pause()
        copies = self.delivery.copies()
        if self.trace is not None:
            name = f"{message.uid} {message.instance}/{message.attempt}"
            self.told(sender, f"message {name} arrives in {copies or 'no'} s")
        for seconds in copies:
            place = None if self.durable_messages else sender
            self.scheduler.spawn(
                "worker", partial(self._work, message, place), place, after=seconds
            )
        self.scheduler.pause()

    def _work(self, message: Message, sender: Process | None) -> None:
        process = sender or self.any_process()
        job = self.scheduler.current
        assert job is not None
        if process is None:  # the broker keeps it
            self.scheduler.sleep(5.0)
            return self._work(message, sender)
        job.move(process)
        try:
            run_message(process.manager(message.uid), message, process.heartbeats)
        except InjectedError as error:
            self.told(process, f"worker: {error}")
        except Crash:
            if sender is None and not self.scheduler.stopped and self.rng.random() < 0.5:
                self.scheduler.spawn(  # acknowledged late: it arrives again
                    job.name, partial(self._work, message, None), after=1.0
                )
            raise
        return None

    def take_time(self) -> None:
        """Around the body of a real task: others go on, and now and then it takes long."""
        self.scheduler.pause()
        if self.rng.random() < self.rates.bodies:
            self.scheduler.sleep(100 * self.rng.random())

    def body(self, task: TriggerTask, context: TaskContext) -> dict[str, Any] | None:
        """A simulated body: mostly it succeeds."""
        rng, scheduler = self.rng, self.scheduler
        scheduler.pause()
        chance = 1.0 if self.quiet else rng.random() / (self.rates.bodies or 1e-9)
        if chance < 0.2:
            scheduler.sleep(1 + 100 * rng.random())
        elif chance < 0.4:
            if self.scenario.body_events:
                context.fire(rng.choice(self.scenario.body_events), {"by": context.instance.name})
            scheduler.sleep(rng.random())
        elif chance < 0.67:
            raise ValueError("a body that fails")
        elif chance < 0.87:
            raise task.retry(ConnectionError("not yet"), cooldown=rng.choice((0, 3, 25)))
        elif chance < 1:
            raise task.skip({"why": "not today"})
        scheduler.pause()
        return {"of": context.instance.name}

    # -- the end ----------------------------------------------------------------------------------

    def _direct(self) -> None:
        """Ends the bad luck, and waits until there is nothing left to do."""
        while self.clients:
            self.scheduler.sleep(5.0)
        self._set_rates(QUIET)
        for process in self.processes:
            process.frozen_until = process.clock.offset = 0.0
            self.restart(process)
        self.told(None, "all is well from here on")
        for _ in range(ROUNDS):
            if self._settled():
                break
            self.scheduler.sleep(30.0)
        else:
            left = {
                name: known
                for uid in self.uids
                for name, known in self.ledger.session(uid).instances.items()
                if known.status in (Status.SCHEDULED, Status.RUNNING, Status.FAILED)
            }
            self.ledger.problem(f"it comes to no end: {left}, due {self.stores[0].next_due()}")
        self.scheduler.stop()

    def _settled(self) -> bool:
        sessions = [self.ledger.session(uid) for uid in self.uids]
        if any(each.under_way or each.failed for each in sessions):
            return False
        return self.stores[0].next_due() is None
