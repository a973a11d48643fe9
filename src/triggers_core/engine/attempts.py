"""Commands of workers: claim, heartbeat, finish, fail, skip, pass on.

Each attempt is fenced by its token: whoever no longer holds it can neither renew nor finish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from decimal import Decimal
from typing import Any, Final

import msgspec

from triggers_core import payloads
from triggers_core.engine.additions import due_first, run_before_commit
from triggers_core.engine.commands import check_same_event, no_success
from triggers_core.engine.conditions import FAILED, SKIPPED
from triggers_core.engine.configuration import Task
from triggers_core.engine.machine import Draft, cascade_of, fired_by
from triggers_core.engine.metadata import add_metadata, count_logs, read_metadata
from triggers_core.engine.moments import fire_otherwise, record
from triggers_core.engine.names import new_id, split_instance_name
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.engine.replaying import clone
from triggers_core.engine.taken_events import KwargsByTrigger, merge_params, recorded_kwargs
from triggers_core.exceptions import (
    EventIdConflict,
    HookFailed,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    StaleMessage,
    TaskNameFired,
    TaskNotFound,
    TriggersError,
)
from triggers_core.failures import describe_error
from triggers_core.texts import short_repr


class Claimed(msgspec.Struct, kw_only=True):
    """An attempt that the caller now holds."""

    instance: Instance
    task: Task
    generation: str
    events: dict[int, Event]
    """Event number → event, for the events that the instance has taken (`waits.event_spans`)."""

    def kwargs(self) -> KwargsByTrigger:
        """What the body gets: the recorded kwargs over the task's `withParams`."""
        recorded = recorded_kwargs(self.instance, self.events)
        under = self.task.with_params
        return merge_params(under, recorded) if under else recorded


class Claim(msgspec.Struct, kw_only=True):
    """A worker takes an instance: ``scheduled → running``, if the message is still current."""

    instance: str
    attempt: int
    generation: str
    token: str = msgspec.field(default_factory=new_id)

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Claimed]:
        task_name, number = split_instance_name(self.instance)
        snapshot = yield Query(instances=(self.instance,), payloads=True)
        if snapshot.header is None or snapshot.header.generation != self.generation:
            raise StaleMessage(
                f"{uid}: the session of this message was deleted",
                no_session=snapshot.header is None,
            )
        draft = Draft(snapshot, rules)
        instance = draft.instance(task_name, number)
        claimed = (instance.status, instance.attempt, instance.token)
        if claimed == (Status.RUNNING, self.attempt, self.token):
            return Plan(outcome=self._claimed(draft, instance, snapshot))  # a retried request
        if instance.status is not Status.SCHEDULED or instance.attempt != self.attempt:
            raise StaleMessage(
                f"{uid}: the message is for attempt {self.attempt} of {self.instance}, which is"
                f" {instance.status}, attempt {instance.attempt}"
            )
        change = draft.set_status(instance, Status.RUNNING)
        instance.token = self.token
        instance.config_version = draft.header.config_version
        change.lease_in = change.due_in = rules.timing.lease
        return draft.plan(self._claimed(draft, instance, snapshot))

    def _claimed(self, draft: Draft, instance: Instance, snapshot: Snapshot) -> Claimed:
        task = draft.configuration.tasks.get(instance.task)
        if task is None:
            raise TaskNotFound(f"{self.instance}: the session has no task {instance.task!r}")
        return Claimed(
            instance=instance, task=task, generation=self.generation, events=snapshot.numbered
        )


class Heartbeat(msgspec.Struct, kw_only=True):
    """A worker renews its lease; raises `LeaseLost` when it no longer holds the instance."""

    instance: str
    token: str

    def decide(self, uid: str, rules: Rules) -> CommandSteps[None]:
        snapshot = yield Query(instances=(self.instance,))
        draft, instance = _held(snapshot, rules, uid, self.instance, self.token)
        change = draft.touch(instance)
        change.lease_in = change.due_in = rules.timing.lease
        # The header stays: nobody who decides has to look again.
        return Plan(outcome=None, changes=[change])


class AttemptResult(msgspec.Struct, kw_only=True):
    """What the end of an attempt led to."""

    instance: Instance
    replay: Instance | None = None
    dropped: dict[str, str] = {}
    """Plugin → error, for plugins whose additions were left out."""
    failure: Exception | None = None
    """Why a body that succeeded still ended as failed."""
    passed_on: float | None = None
    """Seconds until another worker is asked, when this one did not know the task."""


class BodyFire(msgspec.Struct, kw_only=True):
    """A `context.fire(...)` that a body made; it joins the commit of the finish."""

    trigger: str
    payload: bytes
    event_id: str = ""
    once: bool = False
    force: bool = False


class Finish(msgspec.Struct, kw_only=True):
    """An attempt succeeded: outcome, cascade and the body's fires in one commit."""

    instance: str
    token: str
    result: bytes = b"{}"
    fires: list[BodyFire] = []
    log_level: int = 0
    metadata: dict[str, Any] = {}
    carrier: dict[str, str] | None = None
    """Of the events that are recorded with it."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[AttemptResult]:
        task_name, _ = split_instance_name(self.instance)
        query = Query(
            instances=(self.instance,),
            triggers=tuple(dict.fromkeys((*(fire.trigger for fire in self.fires), task_name))),
            event_ids=tuple(fire.event_id for fire in self.fires if fire.event_id),
        )
        try:
            return (yield from _end(self, uid, rules, query, self._apply))
        except (LimitExceeded, EventIdConflict, TaskNameFired) as error:
            failure = error
        fail = Fail(
            instance=self.instance,
            token=self.token,
            metadata={**self.metadata, "error": describe_error(failure, rules.limits)},
            log_level=max(self.log_level, logging.ERROR),
            carrier=self.carrier,
        )
        plan = yield from fail.decide(uid, rules)
        if not plan.again:
            plan.outcome.failure = failure
        return plan

    def _apply(self, draft: Draft, snapshot: Snapshot, instance: Instance) -> Applying:
        draft.set_status(instance, Status.FINISHED)
        if len(self.fires) > draft.rules.limits.body_fires:
            raise LimitExceeded(
                f"{instance.name} fired {len(self.fires):,} triggers, the limit for one body is"
                f" {draft.rules.limits.body_fires:,} (Limits.body_fires)"
            )
        known = dict(snapshot.known)
        for fire in self.fires:
            if fire.trigger in draft.configuration.tasks and not fire.force:
                raise TaskNameFired(
                    f"{instance.name} fired {fire.trigger!r}, which is a task: its name fires by"
                    " itself when an instance of it finishes"
                )
            if fire.once and fire.trigger in draft.header.latest:
                continue
            if fire.event_id in known:
                check_same_event(known[fire.event_id], fire.trigger, fire.payload)
                continue
            event = fired_by(instance, fire.trigger, fire.payload, fire.event_id)
            yield from record(draft, event)
            known[event.id] = event
        instance.result = (yield from record(draft, cascade_of(instance, self.result))).number


LONGEST_COOLDOWN: Final = 10 * 366 * 86_400
"""Seconds; longer ones are slips of a unit, and dates soon cannot show them."""


class Retry(msgspec.Struct, kw_only=True, frozen=True):
    """Fail, and replay after `cooldown` seconds, with other kwargs if `payload` is given.

    :raises InvalidArgument: the cooldown is not 0 to `LONGEST_COOLDOWN` seconds, or the payload is
        not what `payloads.encode_replacement` returns.
    """

    cooldown: float = 0.0
    payload: bytes | None = None

    def __post_init__(self) -> None:
        check_cooldown(self.cooldown)
        if self.payload is not None and not _is_kwargs(self.payload):
            raise InvalidArgument(
                "Retry.payload: expected kwargs as payloads.encode_replacement(kwargs, limits)"
                f" returns them, got {short_repr(self.payload)}"
            )


def check_cooldown(seconds: object) -> float:
    """A cooldown, in seconds.

    :raises InvalidArgument: it is not a number from 0 to `LONGEST_COOLDOWN`.
    """
    if isinstance(seconds, int | float | Decimal) and not isinstance(seconds, bool):
        try:
            if 0 <= seconds <= LONGEST_COOLDOWN:
                return float(seconds)
        except ArithmeticError:  # a Decimal that is no number
            pass
    raise InvalidArgument(
        f"cooldown: expected 0 to {LONGEST_COOLDOWN:,} seconds (ten years), got"
        f" {short_repr(seconds)}"
    )


def _is_kwargs(payload: object) -> bool:
    if not isinstance(payload, bytes):
        return False
    try:
        return all(payloads.is_kwargs(kwargs) for kwargs in payloads.decode(payload).values())
    except (TriggersError, msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        return False


class Fail(msgspec.Struct, kw_only=True):
    """An attempt failed; with `retry` it is replayed in the same commit. What it fired is lost."""

    instance: str
    token: str
    metadata: dict[str, Any] = {}
    log_level: int = 0
    retry: Retry | None = None
    carrier: dict[str, str] | None = None
    """Of the events that are recorded with it."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[AttemptResult]:
        query = Query(instances=(self.instance,))
        try:
            return (yield from _end(self, uid, rules, query, self._apply))
        except LimitExceeded as error:  # no room for another instance: it stays failed
            metadata = {**self.metadata, "retry_refused": str(error)}
        final = msgspec.structs.replace(self, retry=None, metadata=metadata)
        return (yield from final.decide(uid, rules))

    def _apply(self, draft: Draft, snapshot: Snapshot, instance: Instance) -> Applying:
        draft.set_status(instance, Status.FAILED)
        if self.retry is None:
            yield from no_success(draft, instance, FAILED)
        else:
            clone(
                draft,
                instance,
                replaced=self.retry.payload,
                retries=instance.retries + 1,
                cooldown=self.retry.cooldown,
                honour_unless=True,
            )
            yield from fire_otherwise(draft)


class SkipRunning(msgspec.Struct, kw_only=True):
    """A body skipped itself: no cascade, and what it fired is dropped."""

    instance: str
    token: str
    metadata: dict[str, Any] = {}
    log_level: int = 0
    carrier: dict[str, str] | None = None
    """Of the events that are recorded with it."""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[AttemptResult]:
        query = Query(instances=(self.instance,))
        return (yield from _end(self, uid, rules, query, self._apply))

    def _apply(self, draft: Draft, snapshot: Snapshot, instance: Instance) -> Applying:
        draft.set_status(instance, Status.SKIPPED)
        yield from no_success(draft, instance, SKIPPED)


class PassOn(msgspec.Struct, kw_only=True):
    """A worker does not know the task: it leaves the instance to others, who may be newer.

    The instance is `scheduled` again, for the same attempt, and dispatched by the sweep in a while.
    Once that has gone on for `Timing.unknown_task_for` it fails with the error.
    """

    instance: str
    token: str
    metadata: dict[str, Any] = {}
    """What a failure leaves behind; ``error`` describes it."""
    log_level: int = 0
    why: str = ""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[AttemptResult]:
        snapshot = yield Query(instances=(self.instance,))
        draft, instance = _held(snapshot, rules, uid, self.instance, self.token)
        before = read_metadata(instance).get(PASSED_ON)
        since, rounds = draft.now, 0
        if isinstance(before, dict):
            since, rounds = before.get("since", since), before.get("times", rounds)
        told = {"why": self.why, "since": since, "times": rounds + 1}
        wait = rules.timing.unknown_task_in(rounds)
        add_metadata(draft, instance, {PASSED_ON: told})
        # By count as well: clocks may be set back.
        longest = rules.timing.unknown_task_for
        over = draft.now - since >= longest or rounds > 5 + longest / wait
        if over or read_metadata(instance).get(PASSED_ON) != told:
            fail = Fail(
                instance=self.instance,
                token=self.token,
                metadata=self.metadata,
                log_level=self.log_level,
            )
            return (yield from fail.decide(uid, rules))
        change = draft.set_status(instance, Status.SCHEDULED)
        instance.token = ""
        instance.redispatches = 0
        change.due_in = wait
        return draft.plan(AttemptResult(instance=instance, passed_on=wait))


PASSED_ON: Final = "passed_on"
"""Where an instance's metadata tells how often it was left to other workers, and since when."""

_DEALT_WITH: Final = frozenset({Status.SKIPPED, Status.REPLAYED, Status.ABANDONED})
"""The statuses in which what an instance logged concerns nobody any more."""

Applying = Generator[Query, Snapshot, None]
Apply = Callable[[Draft, Snapshot, Instance], Applying]


def _end(
    command: Finish | Fail | SkipRunning, uid: str, rules: Rules, query: Query, apply: Apply
) -> CommandSteps[AttemptResult]:
    """End an attempt. A plugin that fails now is left out: it must not undo what a body did."""
    dropped: dict[str, str] = {}
    while True:
        snapshot = yield query
        draft, instance = _held(snapshot, rules, uid, command.instance, command.token)
        if draft.due and (first := (yield from due_first(draft, uid))) is not None:
            return first
        if command.carrier is not None:
            draft.carrier = command.carrier
        yield from apply(draft, snapshot, instance)
        instance.log_level = command.log_level
        if instance.has_open_logs:
            if instance.status in _DEALT_WITH:
                instance.logs_resolved = True
            else:
                count_logs(draft, instance, +1)
        problems = {"plugins_left_out": dropped} if dropped else {}
        add_metadata(draft, instance, {**command.metadata, **problems})
        try:
            yield from run_before_commit(draft, uid, without=dropped)
        except HookFailed as error:
            dropped[error.plugin] = str(error)
            continue
        return draft.plan(
            AttemptResult(instance=instance, replay=_replay_of(draft, instance), dropped=dropped)
        )


def _replay_of(draft: Draft, instance: Instance) -> Instance | None:
    if not instance.replayed_as:
        return None
    return draft.instance(*split_instance_name(instance.replayed_as))


def _held(
    snapshot: Snapshot, rules: Rules, uid: str, name: str, token: str
) -> tuple[Draft, Instance]:
    """The instance of an attempt, if it is still that attempt's."""
    if snapshot.header is None:
        raise LeaseLost(f"{uid}: the session was deleted while {name} ran; its outcome is dropped")
    draft = Draft(snapshot, rules)
    instance = draft.instance(*split_instance_name(name))
    if instance.status is not Status.RUNNING or instance.token != token:
        raise LeaseLost(
            f"{uid}: this attempt no longer holds {name}, which is {instance.status}, attempt"
            f" {instance.attempt}; its outcome is dropped"
        )
    return draft, instance
