"""Commands of applications and operators: fire, configure, replay, skip, fail, close.

A command is plain data with a `decide` method: a generator that asks for snapshots and returns a
plan (`triggers_core.engine.protocol`). It holds whatever is random (ids, tokens), made by its
caller, so that deciding twice after a conflict decides the same. What workers do is in `attempts`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.additions import due_first, run_before_commit
from triggers_core.engine.conditions import FAILED, SKIPPED
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.features import FEATURE
from triggers_core.engine.fire_rule import fire
from triggers_core.engine.leaving import otherwise
from triggers_core.engine.machine import Draft, cascade_of
from triggers_core.engine.metadata import add_metadata, read_metadata, resolve_logs
from triggers_core.engine.moments import fire_otherwise, load_facts, load_values, record
from triggers_core.engine.names import (
    generated_id,
    instance_name,
    new_id,
    number_in_id,
    split_instance_name,
)
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules, Snapshot
from triggers_core.engine.reconfiguring import configure
from triggers_core.engine.records import Event, Instance, SessionState, Status
from triggers_core.engine.replaying import clone
from triggers_core.exceptions import (
    EventIdConflict,
    LimitExceeded,
    SessionClosed,
    TaskNameFired,
    TaskNotFound,
    WrongState,
)


class FireOutcome(msgspec.Struct, kw_only=True):
    """What became of a fire: ``recorded``, ``duplicate`` or ``already fired``."""

    status: str
    event_id: str
    number: int = -1
    waited_for: bool = True
    """Whether a task of the session names the trigger; True while it has no configuration."""
    due: list[str] = []
    """The instances that were due, and were worked off before it."""


class Fire(msgspec.Struct, kw_only=True):
    """An application fires a trigger."""

    trigger: str
    payload: bytes
    event_id: str
    """The application's id, or what makes the generated one unique."""
    given_id: bool = False
    """Whether the application gave the id, so that it may have been seen before."""
    as_given: bytes | None = None
    """The payload before `pre_fire` hooks changed it, if it has an id: a repetition is recognised
    by it, for hooks stamp what differs from one server to the next."""
    once: bool = False
    force: bool = False
    by: str = ""
    """Who fires it by hand, as far as is known."""
    carrier: dict[str, str] | None = None
    """Of its event, and of what follows from that in the same commit."""
    generation: str = ""
    """Of the session, should this be its first event; made when it is needed, then kept."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[FireOutcome]:
        asked = (self.event_id,) if self.given_id else ()
        snapshot = yield Query(triggers=(self.trigger,), event_ids=asked)
        if snapshot.header is None and not self.generation:
            self.generation = new_id()
        draft = Draft(snapshot, rules, self.generation)
        known = snapshot.known.get(self.event_id)
        if known is not None:
            check_same_event(known, self.trigger, self.payload, self.as_given)
            return self._nothing("duplicate", draft, known.id, known.number)
        if self.given_id and number_in_id(self.event_id) is not None:
            raise EventIdConflict(
                f"{uid}: {self.event_id!r} is an id that Triggers generates, and the session has no"
                " such event: give an id of your own, or none"
            )
        if draft.header.state is SessionState.CLOSED:
            raise SessionClosed(f"{uid}: the session is closed and accepts no more events")
        if self.once and self.trigger in draft.header.latest:
            number = draft.header.latest[self.trigger]
            return self._nothing("already fired", draft, self.event_id, number)
        if draft.created and rules.default_configuration is not None:
            configure(draft, rules.default_configuration, rules.default_requires)
        if self.trigger in draft.configuration.tasks and not self.force:
            raise TaskNameFired(
                f"{self.trigger!r} is a task: its name fires by itself when an instance of it"
                " finishes. Fire the triggers that it waits for, or insist (force=True, --force)"
            )
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        if self.once and self.trigger in draft.header.latest:  # what was due has fired it
            yield from run_before_commit(draft, uid)
            number = draft.header.latest[self.trigger]
            return draft.plan(self._outcome("already fired", draft, self.event_id, number))
        if self.carrier is not None:  # from here on: what was due has other causes
            draft.carrier = self.carrier
        identity = self.event_id
        if not self.given_id:
            identity = generated_id(draft.header.events, self.event_id)
        event = Event(id=identity, trigger=self.trigger, payload=msgspec.Raw(self.payload))
        if self.by:
            event.by = self.by
        if self.as_given is not None and not payloads.same(self.as_given, self.payload):
            event.extra = {AS_GIVEN: msgspec.Raw(b'"%b"' % payloads.digest(self.as_given))}
        if self.trigger in draft.configuration.with_facts:  # as `record`, in line
            yield from load_facts(draft, event)
        fire(draft, event)
        if draft.fired:
            yield from fire_otherwise(draft)
        if rules.before_commit:
            yield from run_before_commit(draft, uid)
        return draft.plan(self._outcome("recorded", draft, event.id, event.number))

    def _outcome(self, status: str, draft: Draft, event_id: str, number: int) -> FireOutcome:
        configuration = draft.configuration
        waited_for = self.trigger in configuration.listeners or not configuration.tasks
        outcome = FireOutcome(
            status=status, event_id=event_id, number=number, waited_for=waited_for
        )
        if draft.worked_off:
            outcome.due = list(draft.worked_off)
        return outcome

    def _nothing(self, status: str, draft: Draft, event_id: str, number: int) -> Plan[FireOutcome]:
        return Plan(outcome=self._outcome(status, draft, event_id, number))


AS_GIVEN: Final = "given"
"""Where `Event.extra` holds the digest of a payload that hooks changed, as it was given."""


def check_same_event(
    known: Event, trigger: str, payload: bytes, as_given: bytes | None = None
) -> None:
    """Raise `EventIdConflict` unless an event seen before is this very one.

    :param as_given: the payload before hooks changed it, if that is known: it counts as well.
    """
    if known.trigger != trigger:
        raise EventIdConflict(
            f"event id {known.id!r} was used for {known.trigger!r}, now it comes with"
            f" {trigger!r}: an id names one event"
        )
    recorded = bytes(known.payload)
    if payloads.same(recorded, payload):
        return
    given = payload if as_given is None else as_given
    digest = known.extra.get(AS_GIVEN)
    if digest is None:
        same = as_given is not None and payloads.same(recorded, as_given)
    else:
        same = bytes(digest) == b'"%b"' % payloads.digest(given)
    if not same:
        raise EventIdConflict(
            f"event id {known.id!r} was used for {trigger!r} with another payload: an id names one"
            " event"
        )


class Configured(msgspec.Struct, kw_only=True):
    """What an `update_configuration` led to, or would lead to. Lists hold names of instances."""

    version: int
    changed: bool
    scheduled: list[str] = []
    """Instances that run now."""
    began: list[str] = []
    """Instances of new tasks, which have begun with events of the past."""
    held: list[str] = []
    """Those of them that are held back, `waiting`."""
    late: list[str] = []
    """Instances whose deadline has passed."""
    called_off: list[str] = []
    """Instances that `unless` calls off."""
    moved: list[str] = []
    """Instances of replaced tasks that waited, and that stand elsewhere now."""
    due: list[str] = []
    """The instances that were due, and were worked off before it."""


class Configure(msgspec.Struct, kw_only=True):
    """Add tasks to a session's configuration, or replace them."""

    configuration: Configuration
    requires: tuple[str, ...] = ()
    past: bool = False
    """Apply the recorded events to tasks that are new."""
    generation: str = msgspec.field(default_factory=new_id)

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Configured]:
        snapshot = yield Query()
        header = snapshot.header
        merged = snapshot.configuration.updated(self.configuration)
        if header is not None and header.config:
            snapshot = yield self._query(snapshot, merged)
        elif header is not None:
            snapshot = yield Query(all_events=True)
        draft = Draft(snapshot, rules, self.generation)
        version = draft.header.config_version
        if not merged.tasks:  # the first tasks, when they come, apply what was fired before them
            return Plan(outcome=Configured(version=version, changed=False))
        if len(merged.tasks) > rules.limits.tasks:
            raise LimitExceeded(
                f"{uid}: the session would have {len(merged.tasks):,} tasks, the limit is"
                f" {rules.limits.tasks:,} (Limits.tasks)"
            )
        merged.check_together()
        kept = (each for each in draft.header.requires if not each.startswith(FEATURE))
        requires = tuple(sorted({*kept, *self.requires, *merged.requires}))
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        if merged.hash == draft.header.config and requires == draft.header.requires:
            outcome = Configured(version=version, changed=False, due=list(draft.worked_off))
            if not draft.worked_off:
                return Plan(outcome=outcome)
            yield from run_before_commit(draft, uid)
            return draft.plan(outcome)
        known, due = set(draft.configuration.tasks), list(draft.worked_off)
        ran = len(draft.scheduled)
        events = [*snapshot.events, *draft.events] if snapshot.events else list(draft.events)
        moved = configure(draft, merged, requires, events, self.past)
        yield from fire_otherwise(draft)
        yield from run_before_commit(draft, uid)
        outcome = Configured(
            version=draft.header.config_version,
            changed=True,
            scheduled=[each.name for each in draft.scheduled[ran:]],
            moved=moved,
            due=due,
        )
        for change in draft.changes:
            instance = change.instance
            if change.before is None and instance.task not in known:
                outcome.began.append(instance.name)
                if instance.status is Status.UNSTARTED and instance.met:
                    outcome.held.append(instance.name)
            if instance.status is Status.ABANDONED and instance.name not in due:
                (outcome.late if instance.late else outcome.called_off).append(instance.name)
        return draft.plan(outcome)

    def _query(self, snapshot: Snapshot, merged: Configuration) -> Query:
        """What has to be seen of a session that has a configuration."""
        header, before = snapshot.header, snapshot.configuration
        assert header is not None
        changed = merged.changed_since(before)
        plain = all(
            task.rule.plain
            and (task.name not in before.tasks or before.tasks[task.name].rule.plain)
            for task in changed
        )
        if plain and not self.past:
            return Query(unstarted=tuple(self.configuration.tasks))
        again = [
            task for task in changed if task.rule.every_time and task.name not in header.rounds
        ]
        return Query(
            unstarted=tuple(merged.tasks),
            instances=tuple(
                instance_name(task.name, number)
                for task in again
                for number in range(header.created(task.name))
            ),
            all_events=True,
        )


class OperatorResult(msgspec.Struct, kw_only=True):
    """What became of an instance that an operator replayed, skipped or failed."""

    instance: Instance
    replay: Instance | None = None
    repeated: bool = False
    """Whether this very request had been carried out before."""


class Replay(msgspec.Struct, kw_only=True):
    """Run a failed instance again, as a clone."""

    instance: str
    payload: bytes | None = None
    """Encoded kwargs (trigger → kwargs) in place of the events' ones; None keeps those."""
    request: str = msgspec.field(default_factory=new_id)
    by: str = ""
    """Who wants it, as far as is known."""
    carrier: dict[str, str] | None = None

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        if instance.status is Status.REPLAYED and instance.request == self.request:
            draft, replay = yield from _instance(instance.replayed_as, rules)
            return Plan(outcome=OperatorResult(instance=instance, replay=replay, repeated=True))
        _only_failed(instance, "replayed")
        if instance.task not in draft.configuration.tasks:
            raise TaskNotFound(f"{instance.name}: the session has no task {instance.task!r}")
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        draft.carrier = self.carrier
        instance.request, instance.acted_by = self.request, self.by
        resolve_logs(draft, instance)
        replay = clone(
            draft, instance, replaced=self.payload, retries=0, cooldown=None, honour_unless=False
        )
        replay.carrier = self.carrier
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance, replay=replay))


class Skip(msgspec.Struct, kw_only=True):
    """Give up on a failed instance; with `cascade`, go on as if it had returned `result`."""

    instance: str
    cascade: bool = False
    result: bytes = b"{}"
    request: str = msgspec.field(default_factory=new_id)
    by: str = ""
    """Who wants it, as far as is known."""
    carrier: dict[str, str] | None = None

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        task_name, _ = split_instance_name(self.instance)
        triggers = (task_name,) if self.cascade else ()
        draft, instance = yield from _instance(self.instance, rules, triggers)
        if instance.status is Status.SKIPPED and instance.request == self.request:
            return Plan(outcome=OperatorResult(instance=instance, repeated=True))
        _only_failed(instance, "skipped")
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        draft.carrier = self.carrier
        instance.request, instance.acted_by = self.request, self.by
        resolve_logs(draft, instance)
        draft.set_status(instance, Status.SKIPPED)
        if self.cascade:
            instance.result = (yield from record(draft, cascade_of(instance, self.result))).number
        else:
            yield from no_success(draft, instance, SKIPPED)
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance))


class FailByHand(msgspec.Struct, kw_only=True):
    """Fail an instance that is stuck in `scheduled` or `running`; its attempt is fenced off."""

    instance: str
    reason: str
    by: str = ""
    """Who wants it, as far as is known."""
    carrier: dict[str, str] | None = None

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        if instance.status not in (Status.SCHEDULED, Status.RUNNING):
            raise WrongState(
                f"{self.instance} is {instance.status}: only a scheduled or running instance can be"
                " failed by hand"
            )
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        draft.carrier = self.carrier
        draft.set_status(instance, Status.FAILED)
        instance.token, instance.acted_by = "", self.by
        add_metadata(draft, instance, {"error": {"type": "FailedByHand", "message": self.reason}})
        yield from no_success(draft, instance, FAILED)
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance))


class UpdateMetadata(msgspec.Struct, kw_only=True):
    """Merge a mapping into an instance's metadata."""

    instance: str
    metadata: dict[str, Any]

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        draft.touch(instance).keep_times = True
        limits = rules.limits
        merged = {**read_metadata(instance), **self.metadata}
        size = len(payloads.encode(merged, msgspec.structs.replace(limits, kwargs_bytes=1 << 30)))
        if size > limits.record_bytes:
            raise LimitExceeded(
                f"{self.instance}: its metadata would take {size:,} bytes, the limit is"
                f" {limits.record_bytes:,} (Limits.record_bytes)"
            )
        instance.metadata = msgspec.Raw(payloads.encode(merged, limits, "metadata"))
        return draft.plan(OperatorResult(instance=instance))


class ResolveLogs(msgspec.Struct, kw_only=True):
    """Mark the logs of an instance as dealt with."""

    instance: str

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        if not instance.has_open_logs:
            return Plan(outcome=OperatorResult(instance=instance, repeated=True))
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        draft.touch(instance).keep_times = True
        resolve_logs(draft, instance)
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance))


class Close(msgspec.Struct, kw_only=True):
    """Refuse further events of the application; what is under way runs to its end."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[None]:
        draft = Draft((yield Query()), rules)
        if draft.header.state is SessionState.CLOSED:
            return Plan(outcome=None)
        draft.header.state = SessionState.CLOSED
        return draft.plan(None)


# -- shared with `attempts` ------------------------------------------------------------------------


def _instance(
    name: str, rules: Rules, triggers: tuple[str, ...] = ()
) -> Generator[Query, Snapshot, tuple[Draft, Instance]]:
    task, number = split_instance_name(name)
    draft = Draft((yield Query(instances=(name,), triggers=triggers)), rules)
    return draft, draft.instance(task, number)


def no_success(draft: Draft, instance: Instance, why: str) -> Generator[Query, Snapshot, None]:
    """Fire the otherwise-trigger of an instance that has failed or was skipped, if it has one."""
    task = draft.configuration.tasks.get(instance.task)
    if task is not None and task.rule.otherwise:
        yield from load_values(draft, task, instance)
        otherwise(draft, task, instance, why)
        yield from fire_otherwise(draft)


def _only_failed(instance: Instance, verb: str) -> None:
    if instance.status is not Status.FAILED:
        raise WrongState(
            f"{instance.name} is {instance.status}: only a failed instance can be {verb}"
        )
