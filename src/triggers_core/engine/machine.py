"""The state machine: how one event changes the instances of a session. Pure: no I/O, no clock.

A `Draft` is a snapshot under change. `Draft.fire` is the fire rule; `step` is the same as one
function for tests and tools. What the commands in `commands` do beside it is small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import TypeVar

import msgspec

from triggers_core.engine.configuration import FEATURE, FEATURES, Configuration, Task
from triggers_core.engine.protocol import Change, Plan, Rules, Snapshot
from triggers_core.engine.records import (
    NOTHING,
    Event,
    Header,
    Instance,
    SessionState,
    Source,
    Status,
    generated_id,
)
from triggers_core.exceptions import (
    CascadeTooDeep,
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
NO_TRIGGERS: frozenset[str] = frozenset()

T = TypeVar("T")


def step(snapshot: Snapshot, event: Event, rules: Rules | None = None) -> Plan[None]:
    """Apply one event to a snapshot and return the plan; the snapshot stays as it was.

    :param snapshot: header, configuration, and the unstarted instances that want the trigger.
    :raises LimitExceeded: a limit of `rules` is in the way.
    """
    draft = Draft(deepcopy(snapshot), rules or Rules())
    draft.fire(event)
    return draft.plan(None)


class Draft:
    """A snapshot that one command changes step by step; `plan` says what to write."""

    __slots__ = (
        "_by_task",
        "_changes",
        "_failed_before",
        "_stored_configuration",
        "configuration",
        "created",
        "events",
        "header",
        "now",
        "rules",
        "scheduled",
    )

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
        self.now: float = snapshot.now
        self.rules: Rules = rules
        self.configuration: Configuration = snapshot.configuration
        self.events: list[Event] = []
        self.scheduled: list[Instance] = []
        self._by_task: dict[str, dict[int, Instance]] = {}
        self._changes: dict[tuple[str, int], Change] = {}
        self._stored_configuration: Configuration | None = None
        self._failed_before = self.header.total(FAILED)
        if self.header.requires:
            _check_plugins(self.header.requires, rules.plugins)
        self.absorb(snapshot)

    def absorb(self, snapshot: Snapshot) -> None:
        """Add the instances of a further snapshot; those that are here already stay as they are."""
        for instance in snapshot.instances.values():
            self._by_task.setdefault(instance.task, {}).setdefault(instance.number, instance)

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

    # -- the fire rule ------------------------------------------------------------------------

    def fire(self, event: Event) -> Event:
        """Record an event and apply it. Its trigger's instances must have been loaded.

        :raises CascadeTooDeep: the chain of cascades behind it is too long.
        :raises LimitExceeded: a task would get too many instances, the session too many names.
        """
        if event.chain > self.rules.limits.cascade_depth:
            raise CascadeTooDeep(
                f"{event.cause or event.trigger}: {event.chain} cascades in a row go back to one"
                f" event, the limit is {self.rules.limits.cascade_depth} (Limits.cascade_depth):"
                " look for a cycle in the configuration"
            )
        latest = self.header.latest
        if event.trigger not in latest and len(latest) >= self.rules.limits.trigger_names:
            self._check_new_name(event.trigger)
        event.number = self.header.events
        if not event.id:
            event.id = generated_id(event.number)
        self.header.events += 1
        self.events.append(event)
        self.apply(event)
        return event

    def _check_new_name(self, trigger: str) -> None:
        if trigger in self.configuration.listeners or trigger in self.configuration.tasks:
            return  # there are no more of those than the configuration holds
        raise LimitExceeded(
            f"{trigger!r} would be trigger name {len(self.header.latest) + 1:,} of this session,"
            f" the limit is {self.rules.limits.trigger_names:,} (Limits.trigger_names): every fire"
            " reads them all. Put what varies, such as an id, into the kwargs"
        )

    def apply(self, event: Event) -> None:
        """Apply an event that is recorded already (the first configuration applies past ones)."""
        trigger, number = event.trigger, event.number
        for task in self.configuration.listeners.get(trigger, ()):
            touched = []
            for instance in self.unstarted(task.name):
                if trigger in missing_triggers(task, instance):
                    self.touch(instance, task)
                    _take(task, instance, trigger, number)
                    touched.append(instance)
            if self.header.created(task.name) == 0 or (trigger == task.and_every and not touched):
                instance = self.create(task)
                _take_latest(task, instance, self.header.latest, besides=trigger)
                _take(task, instance, trigger, number)
                touched.append(instance)
            for instance in touched:
                self.settle(task, instance, number, event.chain)
        self.header.latest[trigger] = number

    def settle(self, task: Task, instance: Instance, number: int, chain: int) -> None:
        """Abandon or schedule an unstarted instance if its conditions say so."""
        if task.abandoned_by.satisfied(instance.noted):
            instance.scheduled_by, instance.chain = number, chain
            self.set_status(instance, ABANDONED)
        elif instance.not_before is None and task.required.satisfied(instance.taken):
            instance.scheduled_by, instance.chain = number, chain
            self.schedule(instance)
        else:
            self._changes[instance.task, instance.number].waits_after = missing_triggers(
                task, instance
            )

    # -- changing instances -------------------------------------------------------------------

    def create(self, task: Task) -> Instance:
        """Add an unstarted instance of a task."""
        number = self.header.created(task.name)
        if number >= self.rules.limits.instances:
            raise LimitExceeded(
                f"{task.name}: it has {number:,} instances in this session, the limit is"
                f" {self.rules.limits.instances:,} (Limits.instances)"
            )
        instance = Instance(task=task.name, number=number)
        instance.key = f"{self.header.generation}/{instance.name}"
        self._by_task.setdefault(task.name, {})[number] = instance
        self._changes[task.name, number] = Change(instance=instance, before=None)
        self.header.add(task.name, UNSTARTED, 1)
        return instance

    def touch(self, instance: Instance, task: Task | None = None) -> Change:
        """Register an instance as changed; remembers how it is stored."""
        change = self._changes.get((instance.task, instance.number))
        if change is None:
            wanted = NO_TRIGGERS
            if instance.status is UNSTARTED:
                task = task or self.configuration.tasks.get(instance.task)
                wanted = missing_triggers(task, instance) if task else NO_TRIGGERS
            change = Change(
                instance=instance, before=instance.status, waits_before=wanted, waits_after=wanted
            )
            if instance.not_before is not None:
                # An instance that is held for a retry stays held, whatever it takes meanwhile.
                change.hold_for = change.due_in = instance.not_before - self.now
            self._changes[instance.task, instance.number] = change
        return change

    def set_status(self, instance: Instance, status: Status) -> Change:
        """Move an instance to a status: it loses its place in every index until told otherwise."""
        change = self.touch(instance)
        self.header.add(instance.task, instance.status, -1)
        self.header.add(instance.task, status, 1)
        instance.status = status
        change.waits_after, change.keep_times = NO_TRIGGERS, False
        change.due_in = change.lease_in = change.hold_for = None
        return change

    def schedule(self, instance: Instance) -> None:
        """Make an instance ready to be claimed, and list it for dispatch."""
        change = self.set_status(instance, SCHEDULED)
        instance.attempt += 1
        instance.token = ""
        instance.redispatches = 0
        instance.not_before = None
        change.due_in = self.rules.timing.redispatch_after
        self.scheduled.append(instance)

    def hold(self, instance: Instance, seconds: float) -> None:
        """Keep an unstarted instance back for a time; the sweep schedules it afterwards."""
        change = self.touch(instance)
        change.hold_for = change.due_in = seconds
        instance.not_before = self.now + seconds

    def clone(
        self,
        failed: Instance,
        *,
        replaced: bytes | None,
        retries: int,
        cooldown: float | None,
        honour_unless: bool,
    ) -> Instance:
        """Replay a failed instance: it becomes `replayed`, its clone is scheduled or held.

        :param replaced: encoded kwargs in place of the events' ones; None keeps those.
        :param cooldown: seconds to hold the clone; None or 0 schedules it now.
        :param honour_unless: let the `unless` triggers that have fired meanwhile abandon it.
        """
        self.set_status(failed, Status.REPLAYED)
        task = self.configuration.tasks[failed.task]
        clone = self.create(task)
        clone.taken = {trigger: list(numbers) for trigger, numbers in failed.taken.items()}
        clone.noted = {trigger: list(numbers) for trigger, numbers in failed.noted.items()}
        clone.scheduled_by, clone.chain = failed.scheduled_by, failed.chain
        clone.parent, clone.depth, clone.retries = failed.name, failed.depth + 1, retries
        failed.replayed_as = clone.name
        clone.replaced = failed.replaced
        if replaced is None:
            clone.key = failed.key
        else:
            clone.replaced = msgspec.Raw(replaced)
        if honour_unless:
            latest = self.header.latest
            for trigger in task.abandoned_by.missing(clone.noted) & latest.keys():
                clone.noted[trigger] = [latest[trigger]]
        if honour_unless and task.abandoned_by.satisfied(clone.noted):
            self.set_status(clone, ABANDONED)
        elif cooldown:
            self.hold(clone, cooldown)
            self.touch(clone).waits_after = missing_triggers(task, clone)
        else:
            self.schedule(clone)
        return clone

    # -- configuration ------------------------------------------------------------------------

    def configure(
        self, configuration: Configuration, requires: Iterable[str], past: Iterable[Event]
    ) -> None:
        """Give the session a configuration.

        :param past: the recorded events, for the first configuration; ignored by later ones.
        """
        before, first = self.configuration, not self.header.config
        replaced = [
            (old, configuration.tasks[name])
            for name, old in before.tasks.items()
            if name in configuration.tasks and configuration.tasks[name] != old
        ]
        held = [(new, i) for old, new in replaced for i in self._begin_replacing(old)]
        self.configuration = self._stored_configuration = configuration
        self.header.config = configuration.hash
        self.header.config_version += 1
        self.header.requires = tuple(sorted({*requires, *configuration.requires}))
        _check_plugins(self.header.requires, self.rules.plugins)
        if first:
            latest, self.header.latest = self.header.latest, {}
            for event in past:
                self.apply(event)
            self.header.latest = latest
        for task, instance in held:
            seen = [n for ns in (*instance.taken.values(), *instance.noted.values()) for n in ns]
            self.settle(task, instance, max(seen, default=-1), instance.chain)

    def _begin_replacing(self, old: Task) -> list[Instance]:
        instances = list(self.unstarted(old.name))
        for instance in instances:
            self.touch(instance, old)
        return instances

    # -- the end ------------------------------------------------------------------------------

    @property
    def changes(self) -> Iterable[Change]:
        """What has been done to instances so far."""
        return self._changes.values()

    def plan(self, outcome: T) -> Plan[T]:
        """Everything that has to be written."""
        header = self.header
        header.version += 1
        failed = header.total(FAILED)
        waiting = (
            header.state is OPEN
            and not header.total(SCHEDULED, RUNNING)
            and bool(
                failed
                or header.total(UNSTARTED)
                or len(header.counts) < len(self.configuration.tasks)
                or not header.config
            )
        )
        return Plan(
            outcome=outcome,
            header=header,
            created=self.created,
            waiting=waiting,
            fleet_changed=waiting != (header.waiting_since is not None)
            or failed != self._failed_before,
            events=self.events,
            changes=list(self._changes.values()),
            configuration=self._stored_configuration,
            scheduled=self.scheduled,
            tasks=self.configuration.tasks,
        )


def missing_triggers(task: Task, instance: Instance) -> frozenset[str]:
    """The triggers that an unstarted instance would still take or note."""
    required, unless = (
        task.required.missing(instance.taken),
        task.abandoned_by.missing(instance.noted),
    )
    return required | unless if unless else required


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


def _take(task: Task, instance: Instance, trigger: str, number: int) -> None:
    if task.required.takes(trigger, instance.taken):
        instance.taken[trigger] = [*instance.taken.get(trigger, ()), number]
    if task.abandoned_by.takes(trigger, instance.noted):
        instance.noted[trigger] = [*instance.noted.get(trigger, ()), number]


def _take_latest(task: Task, instance: Instance, latest: dict[str, int], besides: str) -> None:
    for trigger in task.listens_to:
        if trigger != besides and trigger in latest:
            _take(task, instance, trigger, latest[trigger])


def _check_plugins(requires: Iterable[str], present: frozenset[str]) -> None:
    missing = sorted(set(requires) - present)
    features = [each for each in missing if each.startswith(FEATURE)]
    if features:
        unknown = [each for each in features if each.removeprefix(FEATURE) not in FEATURES]
        if unknown:
            raise UnknownSchema(
                "the session's configuration needs a newer triggers-core, which knows"
                f" {', '.join(each.removeprefix(FEATURE) for each in unknown)}: upgrade it in this"
                " process"
            )
        missing = [each for each in missing if each not in features]
    if missing:
        named = ", ".join(missing)
        raise PluginMissing(
            f"the session's configuration requires the {'plugins' if missing[1:] else 'plugin'}"
            f" {named}, which this process has not loaded: install what provides"
            f" {'them' if missing[1:] else 'it'} (those of this project: triggers-<name>; where"
            " it is loaded, `triggers plugins` shows its distribution) and see that TRIGGER_PLUGINS"
            " does not leave it out"
        )
