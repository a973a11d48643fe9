"""Messages: what tells a runner to make an attempt. Identifiers only, never kwargs or classes."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One attempt at one instance, as it travels to a runner, possibly through a broker.

    A worker builds everything else from its own settings. `generation` and `attempt` make it
    stale once the session was deleted or another attempt began.
    """

    app: str
    uid: str
    generation: str
    instance: str
    attempt: int
