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
from triggers_core.engine.additions import run_before_commit
from triggers_core.engine.configuration import FEATURE, Configuration
from triggers_core.engine.machine import Draft, cascade_of
from triggers_core.engine.metadata import add_metadata, read_metadata, resolve_logs
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import (
    Event,
    Instance,
    SessionState,
    Status,
    generated_id,
    number_in_id,
)
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
            draft.configure(rules.default_configuration, rules.default_requires, ())
        if self.trigger in draft.configuration.tasks and not self.force:
            raise TaskNameFired(
                f"{self.trigger!r} is a task: its name fires by itself when an instance of it"
                " finishes. Fire the triggers that it waits for, or insist (force=True, --force)"
            )
        identity = self.event_id
        if not self.given_id:
            identity = generated_id(draft.header.events, self.event_id)
        event = Event(id=identity, trigger=self.trigger, payload=msgspec.Raw(self.payload))
        if self.as_given is not None and not payloads.same(self.as_given, self.payload):
            event.extra = {AS_GIVEN: msgspec.Raw(b'"%b"' % payloads.digest(self.as_given))}
        draft.fire(event)
        yield from run_before_commit(draft, uid)
        return draft.plan(
            FireOutcome(
                status="recorded",
                event_id=event.id,
                number=event.number,
                waited_for=_is_waited_for(draft, self.trigger),
            )
        )

    def _nothing(self, status: str, draft: Draft, event_id: str, number: int) -> Plan[FireOutcome]:
        waited_for = _is_waited_for(draft, self.trigger)
        return Plan(
            outcome=FireOutcome(
                status=status, event_id=event_id, number=number, waited_for=waited_for
            )
        )


def _is_waited_for(draft: Draft, trigger: str) -> bool:
    configuration = draft.configuration
    return trigger in configuration.listeners or not configuration.tasks


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
    """What an `update_configuration` led to."""

    version: int
    changed: bool
    scheduled: list[str] = []


class Configure(msgspec.Struct, kw_only=True):
    """Add tasks to a session's configuration, or replace them."""

    configuration: Configuration
    requires: tuple[str, ...] = ()
    generation: str = msgspec.field(default_factory=new_id)

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Configured]:
        snapshot = yield Query()
        first = snapshot.header is None or not snapshot.header.config
        if first:
            snapshot = yield Query(all_events=True)
        else:
            snapshot = yield Query(unstarted=tuple(self.configuration.tasks))
        draft = Draft(snapshot, rules, self.generation)
        merged = draft.configuration.updated(self.configuration)
        if not merged.tasks:  # the first tasks, when they come, apply what was fired before them
            return Plan(outcome=Configured(version=draft.header.config_version, changed=False))
        if len(merged.tasks) > rules.limits.tasks:
            raise LimitExceeded(
                f"{uid}: the session would have {len(merged.tasks):,} tasks, the limit is"
                f" {rules.limits.tasks:,} (Limits.tasks)"
            )
        kept = (each for each in draft.header.requires if not each.startswith(FEATURE))
        requires = tuple(sorted({*kept, *self.requires, *merged.requires}))
        if merged.hash == draft.header.config and requires == draft.header.requires:
            return Plan(outcome=Configured(version=draft.header.config_version, changed=False))
        draft.configure(merged, requires, snapshot.events)
        yield from run_before_commit(draft, uid)
        version, scheduled = draft.header.config_version, [each.name for each in draft.scheduled]
        return draft.plan(Configured(version=version, changed=True, scheduled=scheduled))


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

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        if instance.status is Status.REPLAYED and instance.request == self.request:
            draft, clone = yield from _instance(instance.replayed_as, rules)
            return Plan(outcome=OperatorResult(instance=instance, replay=clone, repeated=True))
        _only_failed(instance, "replayed")
        if instance.task not in draft.configuration.tasks:
            raise TaskNotFound(f"{instance.name}: the session has no task {instance.task!r}")
        instance.request = self.request
        resolve_logs(draft, instance)
        clone = draft.clone(
            instance, replaced=self.payload, retries=0, cooldown=None, honour_unless=False
        )
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance, replay=clone))


class Skip(msgspec.Struct, kw_only=True):
    """Give up on a failed instance; with `cascade`, go on as if it had returned `result`."""

    instance: str
    cascade: bool = False
    result: bytes = b"{}"
    request: str = msgspec.field(default_factory=new_id)

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        task_name, _ = split_instance_name(self.instance)
        triggers = (task_name,) if self.cascade else ()
        draft, instance = yield from _instance(self.instance, rules, triggers)
        if instance.status is Status.SKIPPED and instance.request == self.request:
            return Plan(outcome=OperatorResult(instance=instance, repeated=True))
        _only_failed(instance, "skipped")
        instance.request = self.request
        resolve_logs(draft, instance)
        draft.set_status(instance, Status.SKIPPED)
        if self.cascade:
            instance.result = draft.fire(cascade_of(instance, self.result)).number
        yield from run_before_commit(draft, uid)
        return draft.plan(OperatorResult(instance=instance))


class FailByHand(msgspec.Struct, kw_only=True):
    """Fail an instance that is stuck in `scheduled` or `running`; its attempt is fenced off."""

    instance: str
    reason: str

    def decide(self, uid: str, rules: Rules) -> CommandSteps[OperatorResult]:
        draft, instance = yield from _instance(self.instance, rules)
        if instance.status not in (Status.SCHEDULED, Status.RUNNING):
            raise WrongState(
                f"{self.instance} is {instance.status}: only a scheduled or running instance can be"
                " failed by hand"
            )
        draft.set_status(instance, Status.FAILED)
        instance.token = ""
        add_metadata(draft, instance, {"error": {"type": "FailedByHand", "message": self.reason}})
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


def _only_failed(instance: Instance, verb: str) -> None:
    if instance.status is not Status.FAILED:
        raise WrongState(
            f"{instance.name} is {instance.status}: only a failed instance can be {verb}"
        )
