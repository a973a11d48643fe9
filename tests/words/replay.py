"""Plays scenarios on the engine, command by command, and compares it with the oracle.

Bodies run first in, first out, after the commit that scheduled them, as the oracle has it.
"""

from __future__ import annotations

import os
import random
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

from words.outcome import Outcome, difference, plain
from words.reference import Reference
from words.scenarios import FAILED, SKIPPED, Scenario, make_scenario
from words.shrink import shrink

from triggers_core import payloads
from triggers_core.engine.attempts import Claim, Fail, Finish, SkipRunning
from triggers_core.engine.commands import Configure, Fire, Replay, Skip
from triggers_core.engine.configuration import parse_configuration
from triggers_core.engine.names import new_id
from triggers_core.engine.protocol import Command, Plan, Query
from triggers_core.engine.records import Event, Instance, Source, Status
from triggers_core.engine.recovery import Recover
from triggers_core.exceptions import InvalidConfiguration
from triggers_core.storages.base import Store
from triggers_core.storages.session import TaskInstance
from triggers_core.testing.clock import VirtualClock
from triggers_core.testing.driver import SessionDriver

SEED = os.environ.get("TRIGGERS_WORDS_SEED")
FRESH = "fresh"
TIMES = float(os.environ.get("TRIGGERS_WORDS_TIMES", "1"))

T = TypeVar("T")


class Engine:
    """One scenario, played on a session of a store.

    :param clock: the store's clock; it is set to the time of each step.
    """

    def __init__(self, store: Store, clock: VirtualClock, scenario: Scenario, uid: str) -> None:
        self.store, self.clock, self.scenario, self.uid = store, clock, scenario, uid
        self.driver = SessionDriver(store, uid)
        self.ready: deque[Instance] = deque()
        self.got: dict[str, str] = {}

    def play(self) -> Outcome:
        """Carry out all steps; what came of them."""
        for what, at, *more in self.scenario.timed():
            if self.scenario.sweeps:
                self._sweep_when_due(at)
            self.clock.now = at
            getattr(self, f"_{what}")(*more)
            self._run_bodies()
        return self.outcome()

    # -- steps ------------------------------------------------------------------------------------

    def _fire(self, trigger: str, kwargs: Mapping[str, Any]) -> None:
        payload = payloads.encode(kwargs, self.driver.rules.limits)
        self._commit(Fire(trigger=trigger, payload=payload, event_id=new_id()))

    def _configure(self, tasks: Mapping[str, Any], past: bool) -> None:
        self._commit(Configure(configuration=self.driver.parse(tasks), past=past))

    def _advance(self) -> None:
        self._sweep()

    def _replay(self, place: int) -> None:
        if name := self._failed(place):
            self._commit(Replay(instance=name))

    def _skip(self, place: int, result: Mapping[str, Any] | None) -> None:
        if name := self._failed(place):
            payload = payloads.encode(result, self.driver.rules.limits)
            self._commit(Skip(instance=name, cascade=result is not None, result=payload))

    def _failed(self, place: int) -> str | None:
        failed = self.store.instances(self.uid, statuses=[Status.FAILED])
        failed.sort(key=lambda each: (each.task, each.number))
        return failed[place % len(failed)].name if failed else None

    # -- time -------------------------------------------------------------------------------------

    def _sweep_when_due(self, at: float) -> None:
        """Look whenever something falls due, up to a moment."""
        while (moment := self._next_moment()) is not None and moment <= at:
            self.clock.now = moment
            self._sweep()
            self._run_bodies()
            following = self._next_moment()
            assert following is None or following > moment, f"{moment} is still due after a sweep"

    def _next_moment(self) -> float | None:
        header = self.store.load(self.uid, Query()).header
        return None if header is None else header.next_moment

    def _sweep(self) -> None:
        self._commit(Recover(instances=()))

    # -- commits ----------------------------------------------------------------------------------

    def _commit(self, command: Command[T]) -> Plan[T]:
        while True:
            plan = self.store.commit(self.uid, command, self.driver.rules)
            self.ready.extend(plan.scheduled)
            if not plan.again:
                return plan

    def _run_bodies(self) -> None:
        if not self.ready:
            return
        generation = self.driver.header.generation
        while self.ready:
            instance = self.ready.popleft()
            name = instance.name
            claim = Claim(instance=name, attempt=instance.attempt, generation=generation)
            claimed = self._commit(claim).outcome
            self.got[name] = plain(claimed.kwargs())
            token = claimed.instance.token
            outcome = self.scenario.body(instance.task, instance.number)
            if outcome == FAILED:
                self._commit(Fail(instance=name, token=token, metadata={}, retry=None, log_level=0))
            elif outcome == SKIPPED:
                self._commit(SkipRunning(instance=name, token=token, metadata={}))
            else:
                result = payloads.encode(outcome, self.driver.rules.limits)
                end = Finish(instance=name, token=token, result=result, fires=[], log_level=0)
                self._commit(end)

    # -- what came of it --------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        events = self.store.events(self.uid)
        instances = self.store.instances(self.uid)
        instances.sort(key=lambda each: (each.task, each.number))
        return Outcome(
            instances={each.name: self._described(each, events) for each in instances},
            events=[_event(each) for each in events],
        )

    def _described(self, record: Instance, events: list[Event]) -> dict[str, Any]:
        instance = TaskInstance(self.store, self.uid, record)
        taken = instance.taken
        decided = record.status is not Status.UNSTARTED
        moment, by = record.moment, None
        if moment is None and decided:
            moment, by = events[record.scheduled_by].at, record.scheduled_by + 1
        return {
            "status": record.status.value,
            "why": record.why,
            "created": record.created_by + 1,
            "taken": {key: [n + 1 for n in taken[key]] for key in sorted(taken) if taken[key]},
            "moment": _micros(moment) if moment is not None and decided else None,
            "by": None if record.parent else by,
            "gets": self.got.get(record.name),
        }


def _event(event: Event) -> dict[str, Any]:
    return {
        "trigger": event.trigger,
        "at": _micros(event.at),
        "source": event.cause if event.source is Source.INSTANCE else None,
        "kwargs": plain(payloads.decode(bytes(event.payload))),
    }


def _micros(at: float) -> int:
    return round(at * 1_000_000)


# -- many of them ----------------------------------------------------------------------------------


def scenario_seeds(amount: int, fresh: bool = False) -> range:
    """A test's seeds, the same in each run; TRIGGERS_WORDS_SEED asks for others, or for one.

    :param fresh: others in each run anyway.
    """
    if SEED is not None and SEED != FRESH:
        return range(int(SEED), int(SEED) + 1)
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    fresh = fresh or SEED == FRESH
    start = random.randrange(1 << 40) if fresh else zlib.crc32(test.encode()) << 8
    return range(start, start + round(amount * TIMES))


class Comparison:
    """Plays scenarios on a store and on the oracle, side by side.

    :param clock: the store's.
    """

    def __init__(self, store: Store, clock: VirtualClock, reference: Reference) -> None:
        self.store, self.clock, self.reference = store, clock, reference

    def check_all(self, seeds: range) -> None:
        """Play the scenarios of many seeds; see `check`."""
        for seed in seeds:
            self.check(seed)

    def check(self, seed: int) -> None:
        """Play the scenario of a seed; whatever differs is shown, with what is left of it.

        :raises AssertionError: something differs.
        """
        scenario = make_scenario(seed, self.reference.refuses)
        if not self.difference(scenario):
            return
        smaller = shrink(scenario, self._fails)
        raise AssertionError(
            f"TRIGGERS_WORDS_SEED={seed} plays it again.\n\n{smaller.written()}\n\n"
            f"{self._shown(smaller)}\n\n{self.difference(smaller)}"
        )

    def difference(self, scenario: Scenario) -> str:
        """What differs, or what went wrong on our side; empty where nothing does."""
        expected = self.reference.outcome(scenario)
        try:
            got = Engine(self.store, self.clock, scenario, f"words:{new_id()}").play()
        except Exception as error:  # whatever it is, it is a finding
            return f"{type(error).__name__}: {error}"
        return "" if expected == got else difference(expected, got)

    def _fails(self, scenario: Scenario) -> bool:
        try:
            self.reference.outcome(scenario)
        except Exception:  # the smaller one makes no sense
            return False
        return bool(self.difference(scenario))

    def _shown(self, scenario: Scenario) -> str:
        return "the oracle:\n" + "\n".join(self.reference.outcome(scenario).lines())


def refuses(name: str, task: Mapping[str, Any]) -> str:
    """Why a configuration of ours refuses the task; empty if it does not."""
    try:
        parse_configuration({name: {**task, "run": "tests.Body"}})
    except InvalidConfiguration as error:
        return str(error)
    return ""
