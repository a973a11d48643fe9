"""The page of an instance, and what can be done with it: replay, skip, fail, mark its logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from triggers_core import payloads
from triggers_core.engine.records import Header, Status
from triggers_core.exceptions import InvalidInput, TaskNotFound, WrongState
from triggers_core.explain import explain
from triggers_core.storages.session import SessionStorage, TaskInstance
from triggers_core.views.session import instance_data
from triggers_core.views.tasks import tasks_data
from triggers_web.http import Response
from triggers_web.pages.editing import Unreadable, as_text, check, from_text
from triggers_web.pages.page import Asked, Page

MAY: dict[str, tuple[Status, ...]] = {
    "replay": (Status.FAILED,),
    "skip": (Status.FAILED,),
    "fail": (Status.SCHEDULED, Status.RUNNING),
}
"""What can be done with an instance, and in which of its states."""


def show(asked: Asked) -> Page:
    """An instance: where it stands and why, what it was given, and what came of it."""
    storage, header, instance = _found(asked)
    app = asked.app
    told: list[dict[str, Any]] = []
    try:
        ask = app.plugins.explain_trigger
        explained = explain(storage, instance.task, app.rules, ask, instance.name)
        tasks = tasks_data(explained, storage.store.now())
        told = [each for task in tasks for each in task["instances"]]
    except TaskNotFound:
        pass  # of an earlier configuration
    data = instance_data(instance, asked.access.secrets)
    metadata = dict(data["metadata"])
    error = metadata.pop("error", None)
    may = [name for name, states in MAY.items() if instance.status in states]
    return Page(
        "instance.html",
        {
            "uid": storage.uid,
            "header": header,
            "name": instance.name,
            "instance": instance,
            "data": data,
            "told": told[0] if told else None,
            "error": _error(error),
            "metadata": metadata,
            "may": may if asked.access.act else [],
            "open_logs": instance.record.has_open_logs,
        },
    )


def _error(error: object) -> dict[str, Any] | None:
    """What is kept of an error; applications may have put something else in its place."""
    if not isinstance(error, dict):
        return None
    texts = {key: str(error.get(key, "")) for key in ("type", "message", "traceback")}
    return {**texts, "context": error.get("context")}


def ask_replay(asked: Asked) -> Page:
    """The form to replay an instance, with its kwargs to be edited."""
    return _form(asked, "replay")


def ask_skip(asked: Asked) -> Page:
    """The form to skip an instance."""
    return _form(asked, "skip")


def ask_fail(asked: Asked) -> Page:
    """The form to fail an instance that is stuck."""
    return _form(asked, "fail")


def replay(asked: Asked) -> Page | Response:
    """Run a failed instance again, maybe with other kwargs."""
    return _act(asked, "replay", _replay)


def skip(asked: Asked) -> Page | Response:
    """Give up on a failed instance, maybe with a cascade."""
    return _act(asked, "skip", _skip)


def fail(asked: Asked) -> Page | Response:
    """Fail an instance that is stuck."""
    return _act(asked, "fail", _fail)


def mark_logs(asked: Asked) -> Page | Response:
    """Note that somebody has dealt with what an instance logged."""
    storage, _, instance = _found(asked)
    asked.manager.mark_instance_logs_resolved(instance.name)
    return asked.back("/instance", uid=storage.uid, name=instance.name, done="marked")


# -- acting ----------------------------------------------------------------------------------------


def _act(asked: Asked, what: str, act: Callable[[Asked, TaskInstance], str]) -> Page | Response:
    storage, _, instance = _found(asked)
    if instance.status not in MAY[what]:
        return _conflict(storage.uid, instance)
    try:
        name = act(asked, instance)
    except (Unreadable, InvalidInput) as error:
        return _form(asked, what, str(error))
    except WrongState:
        return _conflict(storage.uid, storage[instance.name])
    done = {"replay": "replayed", "skip": "skipped", "fail": "failed"}[what]
    return asked.back("/instance", uid=storage.uid, name=name, done=done)


def _replay(asked: Asked, instance: TaskInstance) -> str:
    text, stored = asked.form.get("kwargs"), instance.kwargs
    replacement = None
    if text is not None:
        edited = from_text(text, stored, asked.access.secrets)
        limits = asked.app.rules.limits
        check(edited, limits)
        payloads.encode_replacement(edited, limits)
        # What was not changed stays recorded, so that the replay keeps the idempotency key.
        if not _same(edited, stored, asked):
            replacement = edited
    return asked.manager.replay_failed_instance(instance.name, replacement).name


def _same(edited: dict[str, Any], stored: dict[str, Any], asked: Asked) -> bool:
    limits = asked.app.rules.limits
    try:
        return payloads.same(payloads.encode(edited, limits), payloads.encode(stored, limits))
    except InvalidInput:  # what is stored is more than one event may have
        return edited == stored


def _skip(asked: Asked, instance: TaskInstance) -> str:
    cascade = "cascade" in asked.form
    text = asked.form.get("result", "").strip()
    result = from_text(text, {}, secrets=True) if text else None
    if result and not cascade:
        raise Unreadable("a result goes along with a cascade: tick that, too, or leave it empty")
    check(result or {}, asked.app.rules.limits, "result")
    return asked.manager.skip_failed_instance(instance.name, cascade, result).name


def _fail(asked: Asked, instance: TaskInstance) -> str:
    reason = asked.form.get("reason", "").strip() or "failed by hand"
    return asked.manager.fail_instance(instance.name, reason).name


# -- pages -----------------------------------------------------------------------------------------


def _found(asked: Asked) -> tuple[SessionStorage, Header, TaskInstance]:
    """The session and the instance that are asked for; a form is about one life of the session."""
    storage = asked.storage
    header = asked.header(storage)
    return storage, header, storage[asked.given("name")]


def _form(asked: Asked, what: str, problem: str = "") -> Page:
    asked.needs("act")
    storage, header, instance = _found(asked)
    if instance.status not in MAY[what]:
        return _conflict(storage.uid, instance)
    typed = dict(asked.form)
    if what == "replay" and "kwargs" not in typed:
        typed["kwargs"] = as_text(instance.kwargs, asked.access.secrets)
    return Page(
        f"{what}.html",
        {
            "uid": storage.uid,
            "header": header,
            "name": instance.name,
            "instance": instance,
            "problem": problem,
            "typed": typed,
        },
        422 if problem else 200,
    )


def _conflict(uid: str, instance: TaskInstance) -> Page:
    """Somebody was faster, or the page was old."""
    values = {"uid": uid, "name": instance.name, "instance": instance}
    return Page("conflict.html", values, 409)
