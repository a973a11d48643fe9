"""A scenario with everything that can be interrupted, run with a fault, restarted, and compared.

It has a cascade, a body that fires, an automatic retry after a cooldown, an instance that fails and
is replayed by hand, one that is abandoned, and a task that waits for all of them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.application import Application
from triggers_core.engine.commands import Replay
from triggers_core.running.sweep import recover
from triggers_core.settings import Settings
from triggers_core.storages.base import Clock, Store
from triggers_core.tasks import trigger_task
from triggers_core.tasks.context import TaskContext
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.faults.delivery import Broker, InlineRunner
from triggers_core.testing.faults.store import Crash, CrashingStore, CrashPoints, Journal
from triggers_core.testing.invariants import check_store

UID: Final = "applicant:42"
_ROUNDS: Final = 100  # of the sweep; far above what any run needs


@trigger_task(name=f"{__name__}.Plain")
def _plain(context: TaskContext) -> dict[str, Any]:
    _begin(context)
    return {"of": context.instance.name, "with": sorted(context.trigger_kwargs)}


@trigger_task(name=f"{__name__}.Report")
def _report(context: TaskContext) -> dict[str, Any]:
    context.fire("reported", {"pages": 2})
    _begin(context)
    for number in (1, 2):
        context.fire("chapter", {"number": number})
    return {}


@trigger_task(name=f"{__name__}.Flaky")
def _flaky(context: TaskContext) -> dict[str, Any]:
    _begin(context)
    if context.retries == 0:
        raise context.retry(ConnectionError("not yet"), cooldown=30)
    return {}


@trigger_task(name=f"{__name__}.Broken")
def _broken(context: TaskContext) -> dict[str, Any]:
    _begin(context)
    if context.instance.parent is None:
        raise ValueError("broken until somebody replays it")
    return {}


def _begin(context: TaskContext) -> None:
    runner = context.manager.app.runner()
    assert isinstance(runner, InlineRunner)
    runner.body(context.instance.name)


CONFIGURATION: Final[dict[str, dict[str, Any]]] = {
    "t_subject": {"after": ["started"], "run": _plain.name},
    "t_page": {"after": ["t_subject"], "andEvery": "page", "run": _plain.name},
    "t_report": {"after": ["t_subject", "submitted"], "run": _report.name},
    "t_chapter": {"andEvery": "chapter", "run": _plain.name},
    "t_flaky": {"after": ["started"], "run": _flaky.name},
    "t_broken": {"after": ["submitted"], "run": _broken.name},
    "t_browser": {"after": ["submitted"], "unless": ["embedded"], "run": _plain.name},
    "t_all": {"after": ["t_report", "reported", "t_flaky", "t_broken"], "run": _plain.name},
}


Facts = Counter[tuple[str, ...]]


class Process:
    """One life of the application: everything that a crash takes away."""

    def __init__(
        self,
        store: Store,
        clock: VirtualClock,
        broker: Broker,
        journal: Journal,
        crash_at: int | None = None,
    ) -> None:
        self.clock = clock
        self.points: CrashPoints = CrashPoints(crash_at)
        self.store: CrashingStore = CrashingStore(store, self.points, journal)
        self.app: Application = Application(
            "crash", Settings.isolated(TRIGGER_PLUGINS=[]), store=self.store
        )
        self.runner: InlineRunner = InlineRunner(self.app, self.points, broker, journal)
        self.app.use_runner(self.runner)

    @staticmethod
    def facts(store: Store) -> Facts:
        """What the store holds, each with how often: what no crash may change."""
        return _facts(store)

    def run(self) -> None:
        """The application's life, from start to end. Started again, it goes through it again."""
        manager = self.app.manager(UID)
        manager.update_configuration(CONFIGURATION)
        events = ("page", "started", "page", "embedded", "submitted")
        for number, trigger in enumerate(events):
            manager.fire(trigger, {"number": number}, event_id=f"event {number}")
            self.runner.work()
        self.settle()
        manager.commit(Replay(instance="t_broken#0", request="operator 1"))
        self.settle()

    def settle(self) -> None:
        """Work, and let time pass from one due instance to the next, until there is none."""
        for _ in range(_ROUNDS):
            self.runner.work()
            due = self.store.next_due()
            if due is None:
                return
            self.clock.advance(max(due, 0.0))
            recover(self.store, self.app.manager)
        raise AssertionError(f"after {_ROUNDS} sweeps something is still due: {self.store.due()}")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong in one run of the scenario."""

    crash_at: int | None = None
    """The crash point at which the process dies."""
    again_at: int | None = None
    """That at which the process that was started in its place dies as well."""
    broker_survives: bool = False
    """Whether messages on their way outlive the process, as with Celery; threads lose them."""
    acknowledge_late: bool = False
    lost: int = 0
    """Number of a message that never arrives."""
    repeated: int = 0
    """Number of a message that arrives twice."""


class Outcome(msgspec.Struct, kw_only=True):
    """How one run of the scenario ended."""

    facts: Facts
    """What the store holds at the end, each with how often: instances by task, status, triggers
    taken and depth; events by trigger, task that fired them and payload."""
    journal: Journal
    points: list[str]
    """The crash points of the first process, up to its end."""
    sent: int
    crashes: int


MakeStore = Callable[[Clock], Store]
Reopen = Callable[[Store], Store]


def run_with(
    fault: Fault, make_store: MakeStore, reopen: Reopen, life: type[Process] = Process
) -> Outcome:
    """Run the scenario with a fault; restart it after each crash until it reaches its end.

    :param life: the scenario.
    :raises AssertionError: it reached none, or what the store holds does not agree with itself.
    """
    clock, journal = VirtualClock(), Journal()
    store = make_store(clock)
    broker, points, crashes = _broker(fault), list[str](), 0
    try:
        for crash_at in (fault.crash_at, fault.again_at, None):
            process = life(store, clock, broker, journal, crash_at)
            points = points or process.points.reached
            try:
                process.run()
                break
            except Crash:
                crashes += 1
                store = reopen(store)
                broker = broker if fault.broker_survives else Broker()
        check_store(store)
        return Outcome(
            facts=life.facts(store),
            journal=journal,
            points=points,
            sent=broker.sent,
            crashes=crashes,
        )
    finally:
        store.close()


def _broker(fault: Fault) -> Broker:
    return Broker(
        lost={fault.lost}, repeated={fault.repeated}, acknowledge_late=fault.acknowledge_late
    )


def _facts(store: Store) -> Facts:
    facts: Facts = Counter()
    instances = store.instances(UID)
    for instance in instances:
        taken = ",".join(sorted(instance.taken))
        facts["instance", instance.task, instance.status, taken, str(instance.depth)] += 1
    for event in store.events(UID):
        cause = event.cause.rpartition("#")[0]
        facts["event", event.trigger, cause, *_words(bytes(event.payload))] += 1
    return facts


def _words(payload: bytes) -> Iterator[str]:
    for key, value in sorted(payloads.decode(payload).items()):
        yield f"{key}={value}"


class Survey(msgspec.Struct, kw_only=True):
    """What came of running the scenario with each of many faults."""

    points: int = 0
    """How many faults there were."""
    lost: int = 0
    """Facts of the run without a fault that a run with one lacks."""
    doubled: int = 0
    """Facts that it has too often, and outcomes that were committed twice."""
    extra_runs: int = 0
    """Bodies that ran more often than in the run without a fault."""
    problems: list[str] = []

    def add(self, fault: Fault, expected: Outcome, found: Outcome) -> None:
        """Compare a run with the one without a fault."""
        self.points += 1
        lost, doubled = expected.facts - found.facts, found.facts - expected.facts
        twice = [name for name, count in found.journal.outcomes.items() if count > 1]
        extra = found.journal.runs.total() - expected.journal.runs.total()
        self.lost += lost.total()
        self.doubled += doubled.total() + len(twice)
        self.extra_runs += extra
        where = f"{fault}, {found.points[-1]}"
        if lost or doubled:
            self.problems.append(f"{where}: lost {dict(lost)}, too many {dict(doubled)}")
        if twice:
            self.problems.append(f"{where}: outcomes committed twice: {twice}")
        if not 0 <= extra <= found.crashes:
            self.problems.append(f"{where}: {extra} bodies ran again after {found.crashes} crashes")
        if found.journal.too_early:
            self.problems.append(f"{where}: sent too early: {found.journal.too_early}")


def survey(
    faults: Callable[[Outcome], Iterator[Fault]],
    make_store: MakeStore,
    reopen: Reopen,
    life: type[Process] = Process,
) -> Survey:
    """Run the scenario without a fault, then with each of those that `faults` derives from it."""
    quiet = logging.getLogger("triggers_core")
    before = quiet.level
    quiet.setLevel(logging.CRITICAL)  # what goes wrong here does so on purpose
    try:
        expected = run_with(Fault(), make_store, reopen, life)
        result = Survey()
        for fault in faults(expected):
            try:
                found = run_with(fault, make_store, reopen, life)
            except AssertionError as error:
                result.points += 1
                result.lost += 1
                result.problems.append(f"{fault}: {error}")
            else:
                result.add(fault, expected, found)
        return result
    finally:
        quiet.setLevel(before)


def every_crash_point(expected: Outcome) -> Iterator[Fault]:
    """Each crash point; messages on their way are lost with the process (threads)."""
    for number in range(1, len(expected.points) + 1):
        yield Fault(crash_at=number)


def every_crash_point_with_a_broker(expected: Outcome) -> Iterator[Fault]:
    """Each crash point; messages survive, and that of a dead worker arrives again (Celery)."""
    for number in range(1, len(expected.points) + 1):
        yield Fault(crash_at=number, broker_survives=True, acknowledge_late=True)


def every_crash_point_twice(expected: Outcome) -> Iterator[Fault]:
    """Each crash point, and another crash in the process that takes over, early or late."""
    count = len(expected.points)
    for number in range(1, count + 1):
        yield Fault(crash_at=number, again_at=1 + number * 37 % count)


def every_message(expected: Outcome) -> Iterator[Fault]:
    """Each message lost, and each delivered twice."""
    for number in range(1, expected.sent + 1):
        yield Fault(lost=number)
        yield Fault(repeated=number)
