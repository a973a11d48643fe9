"""A session, an instance and an event as plain data. Moments are RFC 3339 texts in UTC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import STATUSES, Event, Header, Instance, Status
from triggers_core.engine.standing import is_idle
from triggers_core.exceptions import SessionNotFound
from triggers_core.explain import holder_of
from triggers_core.redaction import mask
from triggers_core.storages.session import SessionStorage, TaskInstance
from triggers_core.storages.summaries import SessionSummary
from triggers_core.texts import iso

_CONTENT: Final = ("kwargs", "result", "metadata")
"""What the application put into an instance; the rest of it is ours."""


def session_data(storage: SessionStorage) -> dict[str, Any]:
    """A session: where it stands, its tasks with their instances by status, what is unresolved.

    An instance that merely waits for the next time (`everyTime`) is not unresolved.

    :raises SessionNotFound: nothing has been stored under the uid.

    Example::

        session_data(manager.storage)["tasks"]["t_ship"]["failed"]  # 1
    """
    snapshot = storage.store.load(storage.uid, Query())
    header = snapshot.header
    if header is None:
        raise SessionNotFound(f"there is no session {storage.uid!r}: nothing has been fired yet")
    tasks = snapshot.configuration.tasks
    unresolved = [
        each
        for each in storage.get_unresolved_instances()
        if each.task not in tasks or not is_idle(tasks[each.task].rule, each.record)
    ]
    return {
        "uid": storage.uid,
        "state": header.state.value,
        "events": header.events,
        "created_at": iso(header.created_at),
        "updated_at": iso(header.updated_at),
        "waiting_since": iso(header.waiting_since),
        "version": header.version,
        "config_version": header.config_version,
        "requires": list(header.requires),
        "tasks": {name: status_counts(header, name) for name in tasks},
        "fired": list(header.latest),
        "unresolved": [{"name": each.name, "status": each.status.value} for each in unresolved],
        "coming": coming([each.record for each in unresolved]),
    }


def coming(instances: Iterable[Instance]) -> list[dict[str, Any]]:
    """What falls due by itself: instances that are held back, and deadlines; the next ones first.

    A moment is when somebody looks: an event that came meanwhile may have moved the end.

    Example::

        coming(instances)  # [{"name": "t_ship#0", "at": "2026-01-02T09:05:00Z", "then": "late"}]
    """
    due = [
        (each.due_at, each)
        for each in instances
        if each.status is Status.UNSTARTED and each.due_at is not None
    ]
    return [
        {
            "name": each.name,
            "at": iso(at),
            "then": "late" if each.not_before is None else "scheduled",
        }
        for at, each in sorted(due, key=lambda pair: pair[0])
    ]


def status_counts(header: Header, task: str) -> dict[str, int]:
    """Status → how many instances of the task have it; every status is there."""
    return {status.value: header.count(task, status) for status in STATUSES}


def summary_data(summary: SessionSummary, overdue: int = 0) -> dict[str, Any]:
    """One line of the fleet index, as `Store.sessions` returns it.

    :param overdue: its overdue instances, which the index does not count; see `views.stuck`.
    """
    return {
        "uid": summary.uid,
        "state": summary.state.value,
        "failed": summary.failed,
        "overdue": overdue,
        "under_way": summary.under_way,
        "unstarted": summary.unstarted - summary.idle,
        "events": summary.events,
        "waiting_since": iso(summary.waiting_since),
        "created_at": iso(summary.created_at),
        "updated_at": iso(summary.updated_at),
    }


def instance_data(instance: TaskInstance, secrets: bool = False) -> dict[str, Any]:
    """An instance: its status, times and holder, its kwargs, result and metadata.

    :param secrets: do not mask what the application put into it.

    Example::

        instance_data(manager.storage["t_ship#0"])["metadata"].get("error")
    """
    data = {
        "name": instance.name,
        "status": instance.status.value,
        "why": instance.why,
        "attempt": instance.attempt,
        "retries": instance.retries,
        "parent": instance.parent,
        "replayed_as": instance.replayed_as or None,
        "acted_by": instance.acted_by,
        "idempotency_key": instance.idempotency_key,
        "created_at": iso(instance.created_at),
        "started_at": iso(instance.started_at),
        "ended_at": iso(instance.ended_at),
        "due_at": iso(instance.due_at) if instance.status is Status.UNSTARTED else None,
        "moment": iso(instance.moment),
        "lease_until": iso(instance.lease_until),
        "holder": holder_of(instance.record) or None,
        "kwargs": instance.kwargs,
        "result": instance.result,
        "metadata": instance.metadata,
    }
    return data if secrets else {**data, **mask({key: data[key] for key in _CONTENT})}


def event_data(event: Event, secrets: bool = False) -> dict[str, Any]:
    """An event: its number, trigger, moment, cause and kwargs; what it carries for tracers.

    :param secrets: do not mask its kwargs.

    Example::

        [event_data(each) for each in manager.storage.events]
    """
    kwargs = payloads.decode(bytes(event.payload))
    return {
        "number": event.number,
        "id": event.id,
        "trigger": event.trigger,
        "at": iso(event.at),
        "source": event.source.value,
        "cause": event.cause or None,
        "by": event.by or None,
        "carrier": event.carrier,
        "kwargs": kwargs if secrets else mask(kwargs),
    }
