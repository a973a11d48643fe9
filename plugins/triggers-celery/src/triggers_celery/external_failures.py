"""Failures that only a worker's main process sees: worker lost, hard time limit, task revoked.

Each is committed against the attempt's own token or number, so that it loses against an outcome
that was stored before it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from celery.exceptions import TimeLimitExceeded

from triggers_celery.identity import token_belongs_to
from triggers_core.engine.additions import run_before_commit
from triggers_core.engine.attempts import Claimed, Fail
from triggers_core.engine.machine import Draft
from triggers_core.engine.metadata import add_metadata
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import CommandSteps, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Status
from triggers_core.engine.recovery import WORKER_LOST
from triggers_core.exceptions import InstanceNotFound, LeaseLost
from triggers_core.failures import describe_error
from triggers_core.running.logs import log_failure
from triggers_core.running.worker import context_of
from triggers_core.storages.base import taken_events

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.engine.records import Instance
    from triggers_core.running.messages import Message

logger = logging.getLogger(__name__)


class MarkLost(msgspec.Struct, kw_only=True):
    """Schedule the next attempt of a lost one, whose process is gone, or fail it at the limit.

    What the sweep would do once the lease has run out, without the wait.
    """

    instance: str
    attempt: int
    generation: str
    node: str
    pid: int | None = None

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Instance | None]:
        snapshot = yield Query(instances=(self.instance,))
        instance = _this_attempt(snapshot, self.instance, self.attempt, self.generation)
        if instance is None or instance.status is not Status.RUNNING:
            return Plan(outcome=None)  # never claimed: the broker delivers the message again
        if not token_belongs_to(instance.token, self.node, self.pid):
            return Plan(outcome=None)
        draft = Draft(snapshot, rules)
        if instance.attempt < rules.timing.attempts:
            draft.schedule(instance)
        else:
            message = (
                f"no worker finished it in {instance.attempt} attempts: the process that ran the"
                " last one died"
            )
            _fail(draft, instance, WORKER_LOST, message)
        yield from run_before_commit(draft, uid)
        return draft.plan(draft.instance(*split_instance_name(self.instance)))


class MarkRevoked(msgspec.Struct, kw_only=True):
    """Fail an attempt whose Celery task somebody has revoked.

    A revoked message is dropped before it reaches a process; a terminated one may have been
    running, on the worker `node`.
    """

    instance: str
    attempt: int
    generation: str
    reason: str
    node: str = ""

    def decide(self, uid: str, rules: Rules) -> CommandSteps[Instance | None]:
        snapshot = yield Query(instances=(self.instance,))
        instance = _this_attempt(snapshot, self.instance, self.attempt, self.generation)
        if instance is None:
            return Plan(outcome=None)
        terminated = self.node and token_belongs_to(instance.token, self.node)
        if instance.status is not Status.SCHEDULED and not (
            instance.status is Status.RUNNING and terminated
        ):
            return Plan(outcome=None)
        draft = Draft(snapshot, rules)
        _fail(draft, instance, "celery.exceptions.TaskRevokedError", self.reason)
        yield from run_before_commit(draft, uid)
        return draft.plan(instance)


def _this_attempt(snapshot: Snapshot, name: str, attempt: int, generation: str) -> Instance | None:
    if snapshot.header is None or snapshot.header.generation != generation:
        return None
    instance = snapshot.instances.get(name)
    return instance if instance is not None and instance.attempt == attempt else None


def _fail(draft: Draft, instance: Instance, kind: str, message: str) -> None:
    draft.set_status(instance, Status.FAILED)
    instance.token = ""
    add_metadata(draft, instance, {"error": {"type": kind, "message": message}})


def mark_lost(application: Application, message: Message, node: str, pid: int | None) -> None:
    """Make the next attempt at once, because this one's process is gone."""
    manager = application.manager_for(message)
    command = MarkLost(
        instance=message.instance,
        attempt=message.attempt,
        generation=message.generation,
        node=node,
        pid=pid,
    )
    instance = manager.commit(command).outcome
    if instance is None:
        return
    logger.warning(
        "%s %s: the process that ran attempt %d (%s) died: %s",
        message.uid,
        message.instance,
        message.attempt,
        node if pid is None else f"{node}, pid {pid}",
        f"attempt {instance.attempt} follows"
        if instance.status is Status.SCHEDULED
        else "failed, there were attempts enough",
    )


def mark_revoked(application: Application, message: Message, reason: str, node: str = "") -> None:
    """Fail what somebody revoked, so that the sweep does not bring it back.

    :param node: the worker that has terminated it, if it was running.
    """
    manager = application.manager_for(message)
    command = MarkRevoked(
        instance=message.instance,
        attempt=message.attempt,
        generation=message.generation,
        reason=reason,
        node=node,
    )
    if manager.commit(command).outcome is not None:
        logger.warning("%s %s: failed: %s", message.uid, message.instance, reason)


def mark_timed_out(
    application: Application, message: Message, limit: float | None, node: str, pid: int | None
) -> None:
    """Fail an attempt whose process is killed for its hard time limit; plugins may retry it."""
    manager = application.manager_for(message)
    try:
        record = manager.storage[message.instance].record
    except InstanceNotFound:
        return
    current = record.status is Status.RUNNING and record.attempt == message.attempt
    if not current or not token_belongs_to(record.token, node, pid):
        return
    error = TimeLimitExceeded(limit)
    claimed = Claimed(
        instance=record,
        task=manager.storage.tasks[record.task],
        generation=message.generation,
        events=taken_events(manager.storage.store, message.uid, record),
    )
    context, _ = context_of(manager, claimed)
    retry = application.plugins.task_failed(context, error)
    if retry is None:
        log_failure(context, error)
    described: dict[str, Any] = {
        **describe_error(error, application.rules.limits),
        "message": f"its hard time limit of {limit:g} s was exceeded; the process was killed"
        if limit
        else "its hard time limit was exceeded; the process was killed",
    }
    fail = Fail(
        instance=record.name,
        token=record.token,
        metadata={"error": described},
        log_level=context.log_level,
        retry=retry,
    )
    try:
        ended = manager.commit(fail).outcome
    except LeaseLost:
        return  # it ended by itself at the last moment
    for plugin, problem in ended.dropped.items():
        logger.error("%s: plugin %s was left out: %s", manager.uid, plugin, problem)
