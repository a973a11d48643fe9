"""What the pages of a session and of an instance show: views of the core, masked; nothing else."""

from __future__ import annotations

import json
from typing import Any, Final

from triggers_core.application import Application
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.records import Instance, Status
from triggers_core.explain import explain
from triggers_core.redaction import mask, mask_url
from triggers_core.storages.session import SessionStorage
from triggers_core.texts import iso
from triggers_core.views.session import event_data, instance_data, session_data

PAGE: Final = 100
"""Events, and instances, of one page."""

_FIRST: Final = (Status.FAILED, Status.RUNNING, Status.SCHEDULED, Status.UNSTARTED)
_STUCK: Final = (Status.SCHEDULED, Status.RUNNING)
_ERROR: Final = 200  # characters of an error in a table


def actions_for(status: Status) -> list[str]:
    """What can be done about an instance."""
    if status is Status.FAILED:
        return ["replay", "skip"]
    return ["fail"] if status in _STUCK else []


def session_page(app: Application, storage: SessionStorage, start: int | None) -> dict[str, Any]:
    """A session: its data, explanation, instances and events.

    The number of queries does not depend on how many there are.

    :param start: the number of the first event; the latest ones if not given.
    """
    data = session_data(storage)
    explanation = explain(storage, None, app.rules, app.plugins.explain_trigger)
    instances = sorted(storage.store.instances(storage.uid), key=_urgency)
    first = max(0, data["events"] - PAGE) if start is None else start
    events = [event_data(each) for each in storage.store.events(storage.uid, first, PAGE)]
    return {
        "session": data,
        "explanation": str(explanation),
        "tasks": [
            {"name": each.name, "rule": each.rule, "why": each.why, "tree": each.tree}
            | {"counts": {k: v for k, v in data["tasks"].get(each.name, {}).items() if v}}
            for each in explanation.tasks
        ],
        "instances": [_row(each) for each in instances[:PAGE]],
        "instances_left": max(0, len(instances) - PAGE),
        "events": [{**each, "kwargs": as_text(each["kwargs"])} for each in events],
        "first": first,
        "earlier": max(0, first - PAGE) if first else None,
        "later": first + PAGE if first + PAGE < data["events"] else None,
    }


def _urgency(instance: Instance) -> tuple[int, float]:
    status = instance.status
    return (
        _FIRST.index(status) if status in _FIRST else len(_FIRST),
        -(instance.ended_at or instance.created_at),
    )


def _row(instance: Instance) -> dict[str, Any]:
    error = read_metadata(instance).get("error")
    told = ""
    if isinstance(error, dict):
        told = mask_url(f"{error.get('type', '')}: {error.get('message', '')}", size=_ERROR)
    return {
        "name": instance.name,
        "status": instance.status.value,
        "attempt": instance.attempt,
        "created_at": iso(instance.created_at),
        "ended_at": iso(instance.ended_at),
        "due_at": iso(instance.due_at) if instance.status is Status.UNSTARTED else None,
        "error": told,
        "actions": actions_for(instance.status),
    }


def instance_page(storage: SessionStorage, name: str) -> dict[str, Any]:
    """An instance: everything that is recorded about it.

    :raises InstanceNotFound: there is none.
    """
    instance = storage[name]
    data = instance_data(instance)
    metadata = dict(data.pop("metadata"))
    error = metadata.pop("error", None)
    content = {name: data.pop(name) for name in ("kwargs", "result")}
    if isinstance(error, dict):
        error = {name: as_text(each) for name, each in error.items()}
    return {
        "instance": data,
        "fields": [(name.replace("_", " "), each) for name, each in data.items() if each],
        "kwargs": as_text(content["kwargs"]),
        "result": as_text(content["result"]),
        "metadata": as_text(metadata),
        "error": error,
        "actions": actions_for(instance.status),
    }


def as_text(value: Any) -> str:
    """A value for people: JSON, as far as it goes."""
    if value in (None, {}, []):
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(mask(value), indent=1, ensure_ascii=False, default=str)
