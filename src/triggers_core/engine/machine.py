"""The state machine's workpiece: a snapshot under change, and what is done to single instances.

Pure: no I/O, no clock. What an event does to a session is in `fire_rule`, what falls due in
`moments`, what another configuration does in `reconfiguring`; `plan` says what to write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappush
from typing import Any, TypeVar

import msgspec

from triggers_core import payloads
from triggers_core.engine.conditions import Leaf
from triggers_core.engine.configuration import Configuration, Task
from triggers_core.engine.features import FEATURE, is_understood, newest, unknown_features
from triggers_core.engine.missing import error_type, missing_triggers
from triggers_core.engine.protocol import Change, Plan, Rules, Snapshot
from triggers_core.engine.records import (
    NOTHING,
    Event,
    Header,
    Instance,
    SessionState,
    Source,
    Status,
    to_micros,
)
from triggers_core.engine.standing import latest_event
from triggers_core.engine.waits import NO_KEYS, wait_keys
from triggers_core.exceptions import (
    InstanceNotFound,
    LimitExceeded,
    PluginMissing,
    SessionNotFound,
    UnknownSchema,
)

# Looked up once: reading a member of an enum costs a tenth of a microsecond, each time.
UNSTARTED, SCHEDULED, RUNNING = Status.UNSTARTED, Status.SCHEDULED, Status.RUNNING
FAILED, ABANDONED = Status.FAILED, Status.ABANDONED
OPEN = SessionState.OPEN

T = TypeVar("T")


class Draft:
    """A snapshot that one command changes step by step; `plan` says what to write.

    :ivar at: the time of what is recorded now: the slice's, or the moment that is worked off.
    :ivar due: whether something may have fallen due by then.
    :ivar floor: the time of the last event, or of a later moment that is decided.
    :ivar position: how many of the recorded events count; more only while past ones are applied.
    :ivar fired: the otherwise-triggers of this change that are still to be recorded, in order.
    :ivar numbered: recorded events that were loaded, by number.
    :ivar past: whether past events are applied to new tasks: no hold ends meanwhile.
    :ivar carrier: the carrier of what is recorded now.
    :ivar awake: (moment, order of the task, number, task) of what falls due; None unless somebody
        works off what is due.
    :ivar notes: sentences for the log of whoever commits this.
    """

    # What few changes need: made by those that do.
    awake: list[tuple[float, int, int, str]] | None = None
    past: bool = False
    stored_configuration: Configuration | None = None
    carrier: dict[str, str] | None = None
    _position: int | None = None
    _kwargs: dict[int, dict[str, Any]] | None = None
    _passed: dict[tuple[str, int], bool] | None = None

    def __init__(self, snapshot: Snapshot, rules: Rules, generation: str | None = None) -> None:
        """Begin a change.

        :param generation: creates the session under this generation when there is none.
        :raises SessionNotFound: there is no session and no `generation`.
        :raises PluginMissing: this process lacks a plugin that the session's configuration needs.
        """
        self.created: bool = snapshot.header is None
        if snapshot.header is None:
            if generation is None:
                raise SessionNotFound("there is no such session: it never existed or was deleted")
            snapshot.header = Header(generation=generation)
        self.header: Header = snapshot.header
        self.now: float = snapshot.now if rules.clock is None else rules.clock()
        self.floor: float = snapshot.header.last_at or snapshot.header.updated_at
        header, now, floor = self.header, self.now, self.floor
        at = to_micros(now)
        self.at: float = at if at > floor else floor
        moment = header.next_moment
        self.due: bool = moment is not None and moment <= self.at
        self.rules: Rules = rules
        self.configuration: Configuration = snapshot.configuration
        self.events: list[Event] = []
        self.scheduled: list[Instance] = []
        self.fired: deque[Event] = deque()
        self.notes: list[str] = []
        self.worked_off: list[str] = []
        self.numbered: dict[int, Event] = snapshot.numbered
        self._by_task: dict[str, dict[int, Instance]] = {}
        self._changes: dict[tuple[str, int], Change] = {}
        self._failed_before = header.total(FAILED)
        if header.requires:
            check_plugins(header.requires, rules.plugins)
        if snapshot.instances:
            self.absorb(snapshot)

    def absorb(self, snapshot: Snapshot) -> None:
        """Add the instances of a further snapshot; those that are here already stay as they are."""
        for instance in snapshot.instances.values():
            self._by_task.setdefault(instance.task, {}).setdefault(instance.number, instance)
        if snapshot.numbered and snapshot.numbered is not self.numbered:
            self.numbered |= snapshot.numbered

    def instance(self, task: str, number: int) -> Instance:
        """An instance that was loaded; raises `InstanceNotFound`."""
        try:
            return self._by_task[task][number]
        except KeyError:
            known = self.header.created(task)
            raise InstanceNotFound(
                f"there is no instance {task}#{number}: "
                + (f"the task has {known} so far" if known else f"{task!r} has no instances yet")
            ) from None

    def unstarted(self, task: str) -> Iterator[Instance]:
        """The loaded unstarted instances of a task, in order."""
        instances = self._by_task.get(task)
        if instances:
            for number in sorted(instances):
                if instances[number].status is UNSTARTED:
                    yield instances[number]

    # -- events -------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self.header.events if self._position is None else self._position

    @position.setter
    def position(self, events: int | None) -> None:
        self._position = events

    def kwargs_of(self, event: Event) -> dict[str, Any]:
        """An event's kwargs, decoded once."""
        if self._kwargs is None:
            self._kwargs = {}
        kwargs = self._kwargs.get(event.number)
        if kwargs is None:
            kwargs = self._kwargs[event.number] = payloads.decode(bytes(event.payload))
        return kwargs

    def passes(self, leaf: Leaf, event: Event) -> bool:
        """Whether an event of the leaf's trigger passes its tests; they are made once."""
        if leaf.where is None:
            return True
        asked = leaf.record, event.number
        if self._passed is None:
            self._passed = {}
        known = self._passed.get(asked)
        if known is None:
            known = self._passed[asked] = leaf.where.passes_payload(bytes(event.payload))
        return known

    def event(self, number: int) -> Event:
        """An event of this change, or one that was loaded."""
        first = self.header.events - len(self.events)
        return self.events[number - first] if number >= first else self.numbered[number]

    def lacks(self, number: int) -> bool:
        """Whether an event is neither of this change nor loaded."""
        return number < self.header.events - len(self.events) and number not in self.numbered

    def latest(self, leaf: Leaf) -> int:
        """The number of the latest event on record that passes a leaf; -1 when there is none."""
        return latest_event(leaf, self.header)

    # -- changing instances -------------------------------------------------------------------

    def new_instance(self, task: Task) -> Instance:
        """The next unstarted instance of a task; `add` makes it part of the session."""
        number = self.header.created(task.name)
        if number >= self.rules.limits.instances:
            raise LimitExceeded(
                f"{task.name}: it has {number:,} instances in this session, the limit is"
                f" {self.rules.limits.instances:,} (Limits.instances)"
            )
        instance = Instance(task=task.name, number=number)
        instance.key = f"{self.header.generation}/{instance.name}"
        return instance

    def add(self, instance: Instance) -> None:
        """Make a new instance part of the session."""
        self._by_task.setdefault(instance.task, {})[instance.number] = instance
        self._changes[instance.task, instance.number] = Change(instance=instance, before=None)
        self.header.add(instance.task, UNSTARTED, 1)

    def touch(self, instance: Instance, task: Task | None = None) -> Change:
        """Register an instance as changed, before it is; remembers how it is stored."""
        change = self._changes.get((instance.task, instance.number))
        if change is None:
            wanted = NO_KEYS
            if instance.status is UNSTARTED:
                task = task or self.configuration.tasks.get(instance.task)
                wanted = wait_keys(task, instance)
            change = Change(instance=instance, before=instance.status, waits_before=wanted)
            self._changes[instance.task, instance.number] = change
        return change

    def change(self, instance: Instance, **facts: Any) -> None:
        """Set attributes of an instance; registers it as changed if any of them is another one."""
        for name, value in facts.items():
            if getattr(instance, name) != value:
                self.touch(instance)
                setattr(instance, name, value)

    def set_status(self, instance: Instance, status: Status) -> Change:
        """Move an instance to a status: it loses its place in every index until told otherwise."""
        change = self.touch(instance)
        self.header.add(instance.task, instance.status, -1)
        self.header.add(instance.task, status, 1)
        instance.status = status
        change.keep_times = False
        change.due_in = change.lease_in = None
        return change

    def schedule(self, instance: Instance) -> None:
        """Make an instance ready to be claimed, and list it for dispatch."""
        change = self.set_status(instance, SCHEDULED)
        instance.attempt += 1
        instance.token = ""
        instance.redispatches = 0
        change.due_in = self.rules.timing.redispatch_after
        self.scheduled.append(instance)

    def wake(self, instance: Instance, at: float, held: bool) -> None:
        """Have an unstarted instance looked at, at a moment in seconds since 1970.

        :param held: whether it will be scheduled then; else it will be late.
        """
        not_before = at if held else None
        if instance.due_at != at or instance.not_before != not_before:
            self.touch(instance)
            instance.due_at, instance.not_before = at, not_before
        next_moment = self.header.next_moment
        if next_moment is None or at < next_moment:
            self.header.next_moment = at
        if self.awake is not None:
            self.listen(instance)

    def listen(self, instance: Instance) -> None:
        """Put a due instance among those that are worked off in this change."""
        assert self.awake is not None
        assert instance.due_at is not None
        order = self.configuration.order.get(instance.task, 0)
        heappush(self.awake, (instance.due_at, order, instance.number, instance.task))

    def hold(self, instance: Instance, seconds: float) -> None:
        """Keep a replay back for a time; whoever looks then schedules it."""
        self.wake(instance, to_micros(self.at + seconds), held=True)

    # -- the end ------------------------------------------------------------------------------

    @property
    def changes(self) -> Iterable[Change]:
        """What has been done to instances so far."""
        return self._changes.values()

    def plan(self, outcome: T, again: bool = False) -> Plan[T]:
        """Everything that has to be written."""
        header = self.header
        header.version += 1
        failed = header.total(FAILED)
        waiting = (
            header.state is OPEN
            and not header.total(SCHEDULED, RUNNING)
            and bool(
                failed
                or header.total(UNSTARTED) > header.idle
                or len(header.counts) < len(self.configuration.tasks)
                or not header.config
            )
        )
        tasks = self.configuration.tasks
        for change in self._changes.values():
            instance = change.instance
            if instance.status is UNSTARTED:
                change.waits_after = wait_keys(tasks.get(instance.task), instance)
            elif instance.status is FAILED and change.before is not FAILED:
                instance.error = error_type(instance)
        missing = missing_triggers(header, self.configuration) if waiting else ()
        plan = Plan(
            outcome=outcome,
            header=header,
            floor=self.floor,
            created=self.created,
            waiting=waiting,
            fleet_changed=waiting != (header.waiting_since is not None)
            or failed != self._failed_before,
            group_before=None if header.waiting_since is None else header.missing,
            events=self.events,
            changes=list(self._changes.values()),
            configuration=self.stored_configuration,
            scheduled=self.scheduled,
            tasks=tasks,
        )
        header.missing = missing
        if again or self.notes or self.rules.clock is not None:
            plan.again, plan.notes = again, self.notes
            plan.now = None if self.rules.clock is None else self.now
        return plan


def cascade_of(instance: Instance, result: bytes) -> Event:
    """The event that a finished instance fires: its task's name, with its result as kwargs."""
    return fired_by(instance, instance.task, result)


def fired_by(instance: Instance, trigger: str, payload: bytes, event_id: str = "") -> Event:
    """An event that an instance fires."""
    return Event(
        id=event_id,
        trigger=trigger,
        payload=msgspec.Raw(payload),
        source=Source.INSTANCE,
        cause=instance.name,
        chain=instance.chain + 1,
    )


def has_replaced_kwargs(instance: Instance) -> bool:
    """Whether a replay put kwargs in place of the events' ones."""
    return instance.replaced is not NOTHING


def check_plugins(requires: Iterable[str], present: frozenset[str]) -> None:
    """See that this process has what a session requires.

    :raises UnknownSchema: it does not know a word of the session's configuration.
    :raises PluginMissing: it lacks a plugin.
    """
    missing = sorted(x for x in requires if x not in present and not is_understood(x))
    if not missing:
        return
    if unknown := unknown_features(missing):
        install = newest(unknown.values())
        raise UnknownSchema(
            "the session's configuration needs a newer triggers-core, which knows"
            f" {', '.join(unknown)}: upgrade it in this process"
            + (f" to {install} or later" if install else "")
        )
    missing = [each for each in missing if not each.startswith(FEATURE)]
    if missing:
        named = ", ".join(missing)
        raise PluginMissing(
            f"the session's configuration requires the {'plugins' if missing[1:] else 'plugin'}"
            f" {named}, which this process has not loaded: install what provides"
            f" {'them' if missing[1:] else 'it'} (those of this project: triggers-<name>; where"
            " it is loaded, `triggers plugins` shows its distribution) and see that TRIGGER_PLUGINS"
            " does not leave it out"
        )
