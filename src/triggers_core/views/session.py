"""A session, an instance and an event as plain data. Moments are RFC 3339 texts in UTC."""

from __future__ import annotations

from typing import Any, Final

from triggers_core import payloads
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import STATUSES, Event, Header
from triggers_core.exceptions import SessionNotFound
from triggers_core.explain import holder_of
from triggers_core.redaction import mask
from triggers_core.storages.base import SessionSummary
from triggers_core.storages.session import SessionStorage, TaskInstance
from triggers_core.texts import iso

_CONTENT: Final = ("kwargs", "result", "metadata")
"""What the application put into an instance; the rest of it is ours."""


def session_data(storage: SessionStorage) -> dict[str, Any]:
    """A session: where it stands, its tasks with their instances by status, what is unresolved.

    :raises SessionNotFound: nothing has been stored under the uid.

    Example::

        session_data(manager.storage)["tasks"]["t_ship"]["failed"]  # 1
    """
    snapshot = storage.store.load(storage.uid, Query())
    header = snapshot.header
    if header is None:
        raise SessionNotFound(f"there is no session {storage.uid!r}: nothing has been fired yet")
    unresolved = storage.get_unresolved_instances()
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
        "tasks": {name: status_counts(header, name) for name in snapshot.configuration.tasks},
        "fired": list(header.latest),
        "unresolved": [{"name": each.name, "status": each.status.value} for each in unresolved],
    }


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
        "unstarted": summary.unstarted,
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
        "attempt": instance.attempt,
        "retries": instance.retries,
        "parent": instance.parent,
        "replayed_as": instance.replayed_as or None,
        "idempotency_key": instance.idempotency_key,
        "created_at": iso(instance.created_at),
        "started_at": iso(instance.started_at),
        "ended_at": iso(instance.ended_at),
        "lease_until": iso(instance.lease_until),
        "holder": holder_of(instance.record) or None,
        "kwargs": instance.kwargs,
        "result": instance.result,
        "metadata": instance.metadata,
    }
    return data if secrets else {**data, **mask({key: data[key] for key in _CONTENT})}


def event_data(event: Event, secrets: bool = False) -> dict[str, Any]:
    """An event: its number, trigger, moment, cause and kwargs.

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
        "kwargs": kwargs if secrets else mask(kwargs),
    }
