"""What can be done with a session: fire into it, tried first; close it; delete it."""

from __future__ import annotations

import secrets
from typing import Any

from triggers_core.exceptions import FireVetoed, InvalidInput, SessionClosed
from triggers_core.methods.operations import FireResult
from triggers_core.texts import nearest
from triggers_web.http import Response
from triggers_web.pages.editing import Unreadable, check, from_text
from triggers_web.pages.page import Asked, Page


def ask_fire(asked: Asked) -> Page:
    """The form to fire a trigger."""
    asked.needs("act")
    return _fire_page(asked, dict(asked.request.query))


def fire(asked: Asked) -> Page | Response:
    """Say what a fire would do, or do it."""
    storage = asked.storage
    asked.header(storage)
    typed = dict(asked.form)
    trigger, text = typed.get("trigger", ""), typed.get("kwargs", "").strip()
    typed.setdefault("event_id", "")
    # The id comes along with the answer of the first step: firing it twice is firing it once.
    identity = typed["event_id"] or f"web:{secrets.token_hex(8)}"
    typed["event_id"] = identity
    dry = typed.get("step") != "fire"
    try:
        kwargs = from_text(text, {}, secrets=True) if text else {}
        check(kwargs, asked.app.rules.limits)
        result = asked.manager.fire(trigger, kwargs, identity, dry_run=dry)
    except (Unreadable, InvalidInput, FireVetoed, SessionClosed) as error:
        return _fire_page(asked, typed, problem=str(error))
    if dry:
        return _fire_page(asked, typed, result)
    done = "duplicate" if result.status == "duplicate" else "fired"
    return asked.back("/session", uid=storage.uid, done=done)


def _fire_page(
    asked: Asked, typed: dict[str, Any], result: FireResult | None = None, problem: str = ""
) -> Page:
    storage = asked.storage
    header = asked.header(storage)
    configuration = storage.configuration
    listeners = sorted(configuration.listeners.keys() - configuration.tasks.keys())
    meant = None
    if result is not None and not result.waited_for:
        meant = nearest(typed.get("trigger", ""), listeners)
    values = {
        "uid": storage.uid,
        "header": header,
        "typed": typed,
        "result": result,
        "problem": problem,
        "triggers": listeners,
        "meant": meant,
        "has_pre_fire": asked.app.plugins.has_pre_fire,
    }
    return Page("fire.html", values, 422 if problem else 200)


def ask_close(asked: Asked) -> Page:
    """Ask whether to close a session."""
    return _confirm(asked, "close")


def ask_delete(asked: Asked) -> Page:
    """Ask whether to delete a session."""
    return _confirm(asked, "delete")


def close(asked: Asked) -> Page | Response:
    """Close a session."""
    storage = asked.storage
    asked.header(storage)
    asked.manager.close_session()
    return asked.back("/session", uid=storage.uid, done="closed")


def delete(asked: Asked) -> Page | Response:
    """Delete a session, for good."""
    asked.header(asked.storage)
    asked.manager.delete_session()
    return asked.back("/", done="deleted")


def _confirm(asked: Asked, what: str) -> Page:
    asked.needs("erase")
    storage = asked.storage
    header = asked.header(storage)
    return Page("confirm.html", {"uid": storage.uid, "header": header, "what": what})
