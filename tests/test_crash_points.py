"""Every crash point of a scenario, on both storages: nothing lost, nothing committed twice.

And the harness itself: cores that are broken on purpose must not get through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from triggers_core.engine.attempts import Applying, Claim, Claimed, Finish
from triggers_core.engine.commands import Fire
from triggers_core.engine.fire_rule import fire
from triggers_core.engine.machine import Draft, cascade_of, fired_by
from triggers_core.engine.moments import record
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules
from triggers_core.engine.records import Instance, Status
from triggers_core.engine.recovery import Recover, Recovered
from triggers_core.manager import TriggerManager
from triggers_core.storages.base import Clock, Store
from triggers_core.storages.driving import drive
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import Crash, CrashingStore, CrashPoints, SessionDriver
from triggers_core.testing.crash_scenario import (
    Fault,
    Outcome,
    every_crash_point,
    every_crash_point_twice,
    every_crash_point_with_a_broker,
    every_message,
    run_with,
    survey,
)

MakeStore = Callable[[Clock], Store]
Reopen = Callable[[Store], Store]
Faults = Callable[[Outcome], Iterator[Fault]]


def stays_up(store: Store) -> Store:
    """A store in memory stands for a server that outlives the processes."""
    return store


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, fast_dir: Path) -> tuple[str, MakeStore, Reopen]:
    """Its name, how to make a store, and how the next process opens it after a crash."""
    if request.param == "memory":
        return request.param, MemoryStore, stays_up
    numbers = count()

    def make(clock: Clock) -> Store:
        for old in fast_dir.iterdir():
            old.unlink()
        return SqliteStore(fast_dir / f"{next(numbers)}.db", clock=clock)

    def reopen(store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.close()
        return SqliteStore(store.file.path, clock=store.clock)

    return request.param, make, reopen


@pytest.mark.parametrize(
    "faults",
    [
        every_crash_point,
        every_crash_point_with_a_broker,
        every_crash_point_twice,
        every_message,
    ],
)
def test_nothing_is_lost_or_committed_twice(
    storage: tuple[str, MakeStore, Reopen],
    faults: Faults,
    record_property: Callable[[str, object], None],
) -> None:
    name, make_store, reopen = storage
    found = survey(faults, make_store, reopen)
    record_property("crash_points", [name, found.points, found.lost, found.doubled])
    assert found.problems == []
    assert (found.lost, found.doubled) == (0, 0)
    assert found.points > 20


def test_the_scenario_has_everything_that_can_be_interrupted() -> None:
    outcome = run_with(Fault(), MemoryStore, stays_up)
    statuses = {(task, status) for kind, task, status, *_ in outcome.facts if kind == "instance"}
    assert ("t_flaky", "replayed") in statuses, "a retry"
    assert ("t_broken", "replayed") in statuses, "a replay by hand"
    assert ("t_browser", "abandoned") in statuses
    assert ("t_all", "finished") in statuses, "the end of the cascade"
    fired = {(trigger, cause) for kind, trigger, cause, *_ in outcome.facts if kind == "event"}
    assert ("reported", "t_report") in fired, "a body that fires"
    commits = {point.split()[-1] for point in outcome.points if "commit" in point}
    expected = ("Fire", "Configure", "Claim", "Heartbeat", "Finish", "Fail", "Replay", "Recover")
    assert commits == set(expected)
    assert outcome.points.count("before commit of Recover") == 1, "for the cooldown, and no more"
    for what in ("before dispatch", "after dispatch", "in a body", "before due"):
        assert what in outcome.points


def test_extra_runs_are_those_of_bodies_that_were_interrupted() -> None:
    expected = run_with(Fault(), MemoryStore, stays_up)
    found = survey(every_crash_point, MemoryStore, stays_up)
    interrupted = ("in a body", "Heartbeat", "before commit of Finish", "before commit of Fail")
    assert found.extra_runs == sum(point.endswith(interrupted) for point in expected.points)


def test_a_dead_process_does_nothing_more() -> None:
    points = CrashPoints(crash_at=2)
    inner = MemoryStore()
    session = SessionDriver(CrashingStore(inner, points))
    with pytest.raises(Crash, match="crash point 2: after commit of Fire"):
        session.fire("a")
    for _ in range(2):
        with pytest.raises(Crash, match="crash point 2: after commit of Fire"):
            session.fire("b")
    assert SessionDriver(inner).fired() == ["a"]


# -- broken on purpose ----------------------------------------------------------------------------


def sweep_without_workers(patch: pytest.MonkeyPatch) -> None:
    """A sweep that repeats lost messages and forgets lost workers."""
    recover = Recover._recover

    def only_messages(
        self: Recover, draft: Draft, instance: Instance, recovered: Recovered
    ) -> None:
        if instance.status is not Status.RUNNING:
            recover(self, draft, instance, recovered)

    patch.setattr(Recover, "_recover", only_messages)


def claim_without_fence(patch: pytest.MonkeyPatch) -> None:
    """A claim that looks at nothing."""

    def decide(self: Claim, uid: str, rules: Rules) -> CommandSteps[Any]:
        snapshot = yield Query(instances=(self.instance,), payloads=True)
        draft = Draft(snapshot, rules)
        instance = draft.instance(*split_instance_name(self.instance))
        change = draft.set_status(instance, Status.RUNNING)
        change.lease_in = change.due_in = rules.timing.lease
        instance.token = self.token
        task = draft.configuration.tasks[instance.task]
        claimed = Claimed(
            instance=instance, task=task, generation=self.generation, events=snapshot.numbered
        )
        return draft.plan(claimed)

    patch.setattr(Claim, "decide", decide)


class CascadeLater:
    """The cascade of an instance that has finished already."""

    def __init__(self, instance: str, result: bytes) -> None:
        self.instance, self.result = instance, result

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Any]:
        task, number = split_instance_name(self.instance)
        draft = Draft((yield Query(instances=(self.instance,), triggers=(task,))), rules)
        instance = draft.instance(task, number)
        draft.touch(instance).keep_times = True
        instance.result = fire(draft, cascade_of(instance, self.result)).number
        return draft.plan(None)


def cascade_in_a_second_commit(patch: pytest.MonkeyPatch) -> None:
    """Outcome first, cascade afterwards: the way of a queue without transactions."""
    commit = TriggerManager.commit

    def outcome_only(self: Finish, draft: Draft, snapshot: Any, instance: Instance) -> Applying:
        draft.set_status(instance, Status.FINISHED)
        for each in self.fires:
            yield from record(draft, fired_by(instance, each.trigger, each.payload))

    def in_two_steps(self: TriggerManager, command: Any) -> Plan[Any]:
        plan = commit(self, command)
        if isinstance(command, Finish):
            commit(self, CascadeLater(command.instance, command.result))
        return plan

    patch.setattr(Finish, "_apply", outcome_only)
    patch.setattr(TriggerManager, "commit", in_two_steps)


def dispatch_before_commit(patch: pytest.MonkeyPatch) -> None:
    """The message is on its way before what it is about is durable."""
    commit = TriggerManager.commit

    def too_early(self: TriggerManager, command: Any) -> Plan[Any]:
        store = self.storage.store
        plan = drive(command, self.uid, self.app.rules, lambda query: store.load(self.uid, query))
        if plan.header is not None:
            self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)
        return commit(self, command)

    patch.setattr(TriggerManager, "commit", too_early)


def fire_without_memory(patch: pytest.MonkeyPatch) -> None:
    """A fire that does not recognise an event by its id."""
    fire = Fire.decide

    def forgetful(self: Fire, uid: str, rules: Rules) -> CommandSteps[Any]:
        anew = structs.replace(self, event_id=new_id(), given_id=False)
        return (yield from fire(anew, uid, rules))

    patch.setattr(Fire, "decide", forgetful)


@pytest.mark.parametrize(
    ("break_it", "faults", "problem"),
    [
        (sweep_without_workers, every_crash_point, "something is still due"),
        (claim_without_fence, every_message, "with 2 cascades"),
        (cascade_in_a_second_commit, every_crash_point, "with 0 cascades"),
        (dispatch_before_commit, every_message, "sent too early"),
        (fire_without_memory, every_crash_point, "too many"),
    ],
)
def test_a_broken_core_does_not_get_through(
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    faults: Faults,
    problem: str,
) -> None:
    break_it(monkeypatch)
    found = survey(faults, MemoryStore, stays_up)
    assert [each for each in found.problems if problem in each]
