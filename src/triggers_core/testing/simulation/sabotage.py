"""The product, broken on purpose in one place: what a simulation has to notice.

Each sabotage is a context manager that patches the product, and puts it right again. They say what
the checks are worth, and find out quickly whether a change of the simulation has made it blind.

Example::

    with Simulator() as simulator, SABOTAGES["a finish without its token"]():
        assert any(simulator.run(seed).problems for seed in range(300))
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import msgspec

from triggers_core.engine import attempts, commands, leaving, moments, recovery
from triggers_core.engine.machine import Draft, cascade_of, fired_by
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Instance, Status
from triggers_core.exceptions import LeaseLost
from triggers_core.manager import TriggerManager
from triggers_core.storages import memory
from triggers_core.storages.driving import drive
from triggers_core.tasks.context import TaskContext
from triggers_core.testing.simulation.optimistic import OptimisticStore

Sabotage = Callable[[], AbstractContextManager[None]]
SABOTAGES: Final[dict[str, Sabotage]] = {}
"""What is broken → breaks it."""


def _sabotage(name: str) -> Callable[[Callable[[], Iterator[tuple[Any, str, Any]]]], Sabotage]:
    def register(patches: Callable[[], Iterator[tuple[Any, str, Any]]]) -> Sabotage:
        @contextmanager
        def broken() -> Iterator[None]:
            before: list[tuple[Any, str, Any]] = []
            try:
                for owner, attribute, value in patches():
                    before.append((owner, attribute, owner.__dict__[attribute]))
                    setattr(owner, attribute, value)
                yield
            finally:
                for owner, attribute, value in reversed(before):
                    setattr(owner, attribute, value)

        SABOTAGES[name] = broken
        return broken

    return register


Patches = Iterator[tuple[Any, str, Any]]


@_sabotage("a finish without its token")
def _finish_without_token() -> Patches:
    def held(
        snapshot: Snapshot, rules: Rules, uid: str, name: str, token: str
    ) -> tuple[Draft, Instance]:
        if snapshot.header is None:
            raise LeaseLost(uid)
        draft = Draft(snapshot, rules)
        instance = draft.instance(*split_instance_name(name))
        if instance.status is not Status.RUNNING:
            raise LeaseLost(uid)
        return draft, instance

    yield attempts, "_held", held


def _seeing(owner: Any, change: Callable[[Any, Snapshot], None]) -> Patches:
    """A command that sees something else than what is stored."""
    decide = owner.decide

    def deceived(self: Any, uid: str, rules: Rules) -> Generator[Query, Snapshot, Plan[Any]]:
        seeing = msgspec.structs.replace(self)
        steps = decide(seeing, uid, rules)
        try:
            query = next(steps)
            while True:
                snapshot = yield query
                change(seeing, snapshot)
                query = steps.send(snapshot)
        except StopIteration as done:
            plan: Plan[Any] = done.value
            return plan

    yield owner, "decide", deceived


@_sabotage("a claim of any attempt")
def _claim_of_any_attempt() -> Patches:
    def change(claim: attempts.Claim, snapshot: Snapshot) -> None:
        for instance in snapshot.instances.values():
            claim.attempt = instance.attempt

    yield from _seeing(attempts.Claim, change)


@_sabotage("a claim of what is claimed already")
def _claim_of_running() -> Patches:
    def change(claim: attempts.Claim, snapshot: Snapshot) -> None:
        for instance in snapshot.instances.values():
            if instance.status is Status.RUNNING and snapshot.header is not None:
                snapshot.header.add(instance.task, Status.RUNNING, -1)
                snapshot.header.add(instance.task, Status.SCHEDULED, 1)
                instance.status = Status.SCHEDULED

    yield from _seeing(attempts.Claim, change)


@_sabotage("commits without a check of the version")
def _no_version() -> Patches:
    yield OptimisticStore, "checks_version", False


@_sabotage("dispatch before the commit")
def _dispatch_first() -> Patches:
    commit = TriggerManager.commit

    def early(self: TriggerManager, command: Any) -> Plan[Any]:
        store, uid = self.storage.store, self.storage.uid
        if not isinstance(command, attempts.Claim | attempts.Heartbeat):
            copied = msgspec.structs.replace(command)
            plan = drive(copied, uid, self.app.rules, lambda query: store.load(uid, query))
            if plan.header is not None:
                self.dispatch(plan.header.generation, plan.scheduled, plan.tasks)
        return commit(self, command)

    yield TriggerManager, "commit", early


@_sabotage("the cascade in a commit of its own")
def _cascade_later() -> Patches:
    commit = TriggerManager.commit

    def apply(
        self: attempts.Finish, draft: Draft, snapshot: Snapshot, instance: Instance
    ) -> Generator[Query, Snapshot, None]:
        draft.set_status(instance, Status.FINISHED)
        for fire in self.fires:
            event = fired_by(instance, fire.trigger, fire.payload, fire.event_id)
            yield from moments.record(draft, event)

    def twice(self: TriggerManager, command: Any) -> Plan[Any]:
        plan = commit(self, command)
        if isinstance(command, attempts.Finish):
            instance = plan.outcome.instance
            event = cascade_of(instance, command.result)
            fire = commands.Fire(
                trigger=event.trigger, payload=bytes(event.payload), event_id="x", force=True
            )
            commit(self, fire)
        return plan

    yield attempts.Finish, "_apply", apply
    yield TriggerManager, "commit", twice


@_sabotage("deadlines by the clock of whoever looks")
def _deadline_when_seen() -> Patches:
    leave = moments.__dict__["leave"]

    def late(draft: Draft, *arguments: Any, moment: float, **more: Any) -> None:
        leave(draft, *arguments, moment=max(moment, draft.now), **more)

    yield moments, "leave", late


@_sabotage("deadlines that only a sweep enforces")
def _deadline_by_sweep() -> Patches:
    def nothing(draft: Draft, uid: str) -> Generator[Query, Snapshot, None]:
        return
        yield Query()

    yield commands, "due_first", nothing
    yield attempts, "due_first", nothing


@_sabotage("event ids that nobody looks up")
def _forgotten_ids() -> Patches:
    yield from _seeing(commands.Fire, lambda fire, snapshot: snapshot.known.clear())


@_sabotage("once, decided before the commit")
def _once_outside() -> Patches:
    def change(fire: commands.Fire, snapshot: Snapshot) -> None:
        fire.once = False

    yield from _seeing(commands.Fire, change)


@_sabotage("a lost worker's attempt keeps its number")
def _same_attempt() -> Patches:
    schedule = Draft.schedule

    def again(self: Draft, instance: Instance) -> None:
        running = instance.status is Status.RUNNING
        schedule(self, instance)
        instance.attempt -= running

    yield Draft, "schedule", again


@_sabotage("a sweep that does not dispatch again")
def _no_redispatch() -> Patches:
    def forget(self: Any, draft: Draft, instance: Instance, recovered: Any) -> None:
        draft.touch(instance).due_in = None

    yield recovery.Recover, "_dispatch_again", forget


@_sabotage("a body's fires, committed at once")
def _fires_at_once() -> Patches:
    def fire(self: TaskContext, trigger: str, kwargs: Any = None, **more: Any) -> None:
        self.manager.fire(trigger, kwargs)

    yield TaskContext, "fire", fire


@_sabotage("a replay that is not recognised when it comes again")
def _replay_again() -> Patches:
    def change(replay: commands.Replay, snapshot: Snapshot) -> None:
        for instance in snapshot.instances.values():
            if instance.status is Status.REPLAYED and snapshot.header is not None:
                snapshot.header.add(instance.task, Status.REPLAYED, -1)
                snapshot.header.add(instance.task, Status.FAILED, 1)
                instance.status = Status.FAILED

    yield from _seeing(commands.Replay, change)


@_sabotage("a store that forgets what is due")
def _forgets_due() -> Patches:
    save = memory.MemoryStore._save

    def forgetful(self: memory.MemoryStore, uid: str, written: Any) -> None:
        save(self, uid, written)
        for change, _ in written.instances:
            if change.instance.status is Status.RUNNING:
                self._due.pop((uid, change.instance.name), None)

    yield memory.MemoryStore, "_save", forgetful


@_sabotage("unless, looked at after the condition")
def _unless_last() -> Patches:
    yield leaving, "ABANDONED", Status.SCHEDULED
