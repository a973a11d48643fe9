"""A batch for backtests: one event and everything that it makes ready, in one commit.

A backtest runs nothing in between, so a fire, its claims and their ends need not be stored one by
one. The commands are those of production, on snapshots of production: only what they lead to is
kept back and merged, until nothing is ready any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any, Final, TypeVar

from triggers_core.engine.attempts import Finish
from triggers_core.engine.commands import Fire, FireOutcome
from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.protocol import (
    Change,
    Command,
    CommandSteps,
    Plan,
    Query,
    Rules,
    Snapshot,
)
from triggers_core.engine.records import Event, Header, Instance, Status
from triggers_core.exceptions import TriggersError

T = TypeVar("T")

TOKEN: Final = "backtest"
"""Every replay claims with this token, so that one started again goes on with what it had begun."""

_MAX_INSTANCES: Final = 200  # instances that one commit takes to their end
_UNSTARTED, _SCHEDULED, _RUNNING = Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING


class Unusual(Exception):
    """What one commit cannot do, and commit after commit can: a plugin's error, a limit."""


class Step:
    """Fires an event and finishes, with ``{}``, whatever becomes ready.

    The plan's `scheduled` is what is still ready when the commit would become too large.

    :raises Unusual: nothing is stored: the same has to be done one commit at a time.
    """

    def __init__(self, fire: Fire) -> None:
        self.fire = fire

    def decide(self, uid: str, rules: Rules) -> CommandSteps[FireOutcome]:
        working = _Working(uid, rules)
        plan = yield from working.drive(self.fire)
        if plan.empty:
            return plan
        outcome, ready = plan.outcome, deque(plan.scheduled)
        ended = 0
        while ready and ended < _MAX_INSTANCES:
            ready.extend((yield from working.end(ready.popleft())))
            ended += 1
        return working.plan(outcome, ready)


class _Working:
    """A session in the middle of a commit: what its storage told, and what has changed since."""

    def __init__(self, uid: str, rules: Rules) -> None:
        self.uid, self.rules = uid, rules
        self.now = 0.0
        self.header: Header | None = None
        self.configuration: Configuration = EMPTY
        self.instances: dict[str, Instance] = {}
        self._unstarted: dict[str, dict[str, Instance]] = {}  # task → name → instance
        self._loaded: set[str] = set()  # triggers whose waiting instances are all here
        self._begun = False
        self._created = self._waiting = self._fleet_changed = False
        self._group_before: tuple[str, ...] | None = None
        self._began = False  # to keep plans
        self._events: list[Event] = []
        self._changes: dict[str, Change] = {}
        self._configuration: Configuration | None = None
        self._floor = 0.0
        self._notes: list[str] = []
        self._now = None if rules.clock is None else rules.clock()

    def end(self, ready: Instance) -> Generator[Query, Snapshot, Iterable[Instance]]:
        """Take a ready instance to its end; returns what that made ready."""
        name = ready.name
        header, instance = self.header, self.instances[name]
        assert header is not None
        # What `Claim` does; nobody else can have claimed what this very commit has made ready.
        header.add(instance.task, _SCHEDULED, -1)
        header.add(instance.task, _RUNNING, +1)
        header.version += 1
        instance.status, instance.token = _RUNNING, TOKEN
        instance.config_version, instance.started_at = header.config_version, self.now
        try:
            plan = yield from self.drive(Finish(instance=name, token=TOKEN))
        except TriggersError as error:
            raise Unusual(str(error)) from error
        return plan.scheduled

    def drive(self, command: Command[T]) -> CommandSteps[T]:
        """Decide a command on the session as it is now, and keep what it leads to."""
        steps = command.decide(self.uid, self.rules)
        looked = False
        try:
            query = next(steps)
            while True:
                if query.instances:
                    if looked:  # it begins anew, and what it has changed would have to be undone
                        raise Unusual(f"{self.uid}: {query.instances[0]} did not just finish")
                    looked = True
                query = steps.send((yield from self._answer(query)))
        except StopIteration as done:
            plan: Plan[T] = done.value
        self._keep(plan)
        return plan

    def _answer(self, query: Query) -> Generator[Query, Snapshot, Snapshot]:
        unknown = [name for name in query.instances if name not in self.instances]
        triggers = [each for each in query.triggers if self._may_lack(each)]
        if query.moments is not None:
            raise Unusual(f"{self.uid}: something has fallen due within a commit")
        mine = {event.number: event for event in self._events}
        numbers = tuple(number for number in query.numbers if number not in mine)
        asked = unknown or triggers or query.event_ids or query.all_events or numbers
        if not self._begun or asked:
            snapshot = yield Query(
                triggers=tuple(triggers),
                instances=tuple(unknown),
                event_ids=query.event_ids,
                all_events=query.all_events,
                numbers=numbers,
            )
            self.now = snapshot.now
            if not self._begun:
                self._begun = True
                self.header, self.configuration = snapshot.header, snapshot.configuration
            for name, instance in snapshot.instances.items():
                if name not in self.instances:
                    self._add(name, instance)
            self._loaded.update(triggers)
        else:
            snapshot = Snapshot(now=self.now)
        snapshot.header, snapshot.configuration = self.header, self.configuration
        snapshot.numbered |= {number: mine[number] for number in query.numbers if number in mine}
        if query.all_events:
            snapshot.events += self._events
        snapshot.instances = {name: self.instances[name] for name in query.instances}
        for trigger in query.triggers:
            for task in self.configuration.listeners.get(trigger, ()):
                snapshot.instances |= self._unstarted.get(task.name, {})
        return snapshot

    def _may_lack(self, trigger: str) -> bool:
        """Whether the storage may know of an instance that waits for it, and is not here."""
        if trigger in self._loaded:
            return False
        if self.header is None:
            return not self._begun
        for task in self.configuration.listeners.get(trigger, ()):
            here = self._unstarted.get(task.name, ())
            if self.header.count(task.name, _UNSTARTED) > len(here):
                return True
        return False

    def _add(self, name: str, instance: Instance) -> None:
        self.instances[name] = instance
        if instance.status is _UNSTARTED:
            self._unstarted.setdefault(instance.task, {})[name] = instance

    def _keep(self, plan: Plan[Any]) -> None:
        header = plan.header
        self._floor = max(self._floor, plan.floor)
        self._notes += plan.notes
        if plan.configuration is not None:
            self.configuration = self._configuration = plan.configuration
        if header is not None:
            if not self._began:
                self._group_before, self._began = plan.group_before, True
            self.header = header
            self._created = self._created or plan.created
            self._fleet_changed = self._fleet_changed or plan.fleet_changed
            self._waiting = plan.waiting
            if not plan.waiting:
                header.waiting_since = None
            self._events += plan.events
        for change in plan.changes:
            instance = change.instance
            name = instance.name
            first = self._changes.get(name)
            if first is not None:
                change.before, change.waits_before = first.before, first.waits_before
            self._changes[name] = change
            if instance.status is _UNSTARTED:
                self._add(name, instance)
            else:
                self.instances[name] = instance
                self._unstarted.get(instance.task, {}).pop(name, None)

    def plan(self, outcome: T, ready: Iterable[Instance]) -> Plan[T]:
        """Everything that has to be written."""
        return Plan(
            outcome=outcome,
            header=self.header,
            created=self._created,
            waiting=self._waiting,
            fleet_changed=self._fleet_changed,
            group_before=self._group_before,
            events=self._events,
            changes=list(self._changes.values()),
            configuration=self._configuration,
            scheduled=list(ready),
            tasks=self.configuration.tasks,
            floor=self._floor,
            notes=self._notes,
            now=self._now,
        )
