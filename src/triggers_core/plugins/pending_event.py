"""`PendingEvent`: a fire that has not happened yet, which `pre_fire` hooks see and may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class PendingEvent:
    """An application's fire on its way in. Only `kwargs` can be set; nothing is stored yet.

    Example::

        event.kwargs = {**event.kwargs, "request_id": current_request_id()}
    """

    trigger: str
    event_id: str
    """The id that the application gave, or else the one generated for it."""
    once: bool
    force: bool
    kwargs: dict[str, Any]
    """The payload, not validated yet. A copy: adding a key does not touch the caller's mapping."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "kwargs" and hasattr(self, name):
            raise AttributeError(f"event.{name} is read-only: a hook may only replace event.kwargs")
        object.__setattr__(self, name, value)
