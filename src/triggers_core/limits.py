"""The limits that keep one bad fire or configuration from harming everybody else."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds, checked before anything is stored; all settable as `TRIGGER_LIMITS`.

    Breaking one raises `LimitExceeded` (`CascadeTooDeep` for `cascade_depth`). The defaults follow
    what brokers and databases digest without harm: SQS and Celery on Redis suffer from messages
    above 256 kB, and a JSON parser's stack from nesting beyond a few dozen levels.

    Example::

        Limits(kwargs_bytes=1_000_000)
    """

    kwargs_bytes: int = 65_536
    """Size of one event's kwargs or one task's result, encoded, in bytes."""
    kwargs_depth: int = 32
    """Levels of nesting in kwargs or a result; the kwargs themselves are level 1."""
    tasks: int = 1_000
    """Tasks in one session's configuration."""
    instances: int = 10_000
    """Instances of one task in one session."""
    trigger_names: int = 10_000
    """Different trigger names that have fired in one session. Each fire reads them all: a tenth
    of a millisecond for a thousand, one for ten thousand. What varies (an id, a date) belongs into
    the kwargs. Names that a task of the session waits for, and those of its tasks, can fire always.
    """
    body_fires: int = 10_000
    """Fires that one body makes."""
    cascade_depth: int = 100
    """Length of a chain of cascades that goes back to one event of the application."""
    additions: int = 32
    """Rounds in which `before_commit` hooks may add triggers to one commit; and levels of fires
    that the hooks after a commit make in answer to each other's."""
    record_bytes: int = 16_384
    """Size of what is kept of one failure or one instance's metadata, in bytes; longer is cut."""
