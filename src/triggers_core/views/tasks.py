"""The tasks of an explanation as plain data: each condition as a tree, line by line in words."""

from __future__ import annotations

from typing import Any

from triggers_core.explain import Explanation, InstanceExplained, Part
from triggers_core.explain.outline import said_part
from triggers_core.explain.times import Times
from triggers_core.redaction import mask
from triggers_core.texts import duration


def tasks_data(explanation: Explanation, now: float) -> list[dict[str, Any]]:
    """The tasks of a session: what each has, needs and waits for. Secrets in texts are masked.

    :param now: the storage's clock, in seconds since 1970.
    :returns: tasks with ``name``, ``rule``, ``why``, ``waits_for``, ``left_out``, ``condition`` and
        ``instances``. Instances have a ``condition`` while it matters, and ``called_off_by``;
        ``due``: what comes by itself, as ``{"at", "then", "left"}``, or None. A condition has
        ``text``, ``holds``, ``has``, ``needs`` (None: not known yet) and ``of``: the conditions
        in it.

    Example::

        tasks_data(manager.explain(), store.now())[0]["condition"]["of"][1]["text"]  # "packed"
    """
    times = Times(now)
    tasks = [
        {
            "name": task.name,
            "rule": task.rule,
            "why": task.why,
            "waits_for": task.waits_for,
            "left_out": task.left_out,
            "condition": _part(task.condition, times),
            "instances": [_instance(each, times) for each in task.instances],
        }
        for task in explanation.tasks
    ]
    masked: list[dict[str, Any]] = mask(tasks)
    return masked


def _instance(instance: InstanceExplained, times: Times) -> dict[str, Any]:
    waits = instance.status == "unstarted"
    matters = waits or instance.reason == "late"
    return {
        "name": instance.name,
        "status": instance.status.value,
        "why": instance.why,
        "idle": instance.idle,
        "holder": instance.holder,
        "condition": _part(instance.condition, times) if matters else None,
        "called_off_by": _part(instance.called_off_by, times) if waits else None,
        "due": _due(instance, times) if waits else None,
    }


def _due(instance: InstanceExplained, times: Times) -> dict[str, Any] | None:
    at, then = instance.held_until, "scheduled"
    if at is None:
        at, then = instance.deadline, "late"
    if at is None:
        return None
    left = duration(at - times.now) if at > times.now else None
    return {"at": at, "then": then, "left": left}


def _part(part: Part | None, times: Times) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        "text": said_part(part, times),
        "holds": part.holds,
        "has": part.has,
        "needs": part.needs,
        "of": [_part(each, times) for each in part.of],
    }
