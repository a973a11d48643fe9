"""The limits that keep one bad fire or configuration from harming everybody else."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Final

import msgspec

_MOST: Final = {"kwargs_depth": 500, "condition_depth": 20, "attempts": 1_000_000}
"""The largest values of fields that count, where the next is not enough: Python's stack ends."""
_MOST_OF_ALL: Final = 2**31 - 1
_TEN_YEARS: Final = 10 * 366 * 86_400.0
_LEAST: Final = 0.001
"""Seconds: what is checked more often than that takes a whole processor."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds, checked before anything is stored; all settable as `TRIGGER_LIMITS`.

    Breaking one raises `LimitExceeded` (`CascadeTooDeep` for `cascade_depth`); one that could not
    work is a `ValueError`. The defaults follow
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
    condition_depth: int = 8
    """Levels of lists, `anyOf` and `atLeast` below a task's `after` or `unless`."""
    condition_width: int = 100
    """Members of one of them."""
    instances: int = 10_000
    """Instances of one task in one session."""
    trigger_names: int = 10_000
    """Different trigger names that have fired in one session. Each fire reads them all: a tenth
    of a millisecond for a thousand, one for ten thousand. What varies (an id, a date) belongs in
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

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            number = getattr(self, name)
            if not isinstance(number, int):
                continue  # refused by type checkers and the settings
            if number < 1:
                raise ValueError(f"expected {name} to be at least 1")
            _check_most(name, number)


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of the protocol, in seconds, and how often an attempt is made; all settable.

    One that could not work is a `ValueError`, as is a heartbeat that is no shorter than the lease.

    Example::

        Timing(lease=30.0, heartbeat=10.0)
    """

    lease: float = 60.0
    """How long a worker holds an instance without a heartbeat."""
    heartbeat: float = 15.0
    """How often it renews its lease: four chances before it runs out."""
    attempts: int = 5
    """Tries at one instance before it is failed because its workers were lost."""
    redispatch_after: float = 60.0
    """When an instance that nobody claimed is dispatched again; doubles each time…"""
    redispatch_at_most: float = 3_600.0
    """…up to this."""
    sweep: float = 5.0
    """How often the background sweep looks."""
    time_limit: float | None = None
    """How long a body may run if its task does not say; then its instance fails. None: no limit."""
    soft_time_limit: float | None = None
    """When `SoftTimeLimitExceeded` is raised in such a body. None: never."""
    unknown_task_for: float = 300.0
    """How long an instance is left to other workers when one does not know its task: as long as
    workers of an old version may still run while a new one is rolled out."""

    def __post_init__(self) -> None:
        with suppress(TypeError):  # other types are refused by type checkers and the settings
            self._check_durations()
            self._check_order()

    def _check_durations(self) -> None:
        for name in self.__struct_fields__:
            number = getattr(self, name)
            if number is None:
                continue
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"expected {name} to be positive")
            if name == "attempts":
                _check_most(name, number)
            elif not _LEAST <= number <= _TEN_YEARS:
                raise ValueError(f"expected {name} to be between 0.001 seconds and ten years")

    def _check_order(self) -> None:
        if self.heartbeat >= self.lease:
            raise ValueError(
                f"expected heartbeat ({self.heartbeat:g} s) to be shorter than lease"
                f" ({self.lease:g} s): a worker would lose what it runs"
            )
        soft, hard = self.soft_time_limit, self.time_limit
        if soft and hard and soft >= hard:
            raise ValueError(
                f"expected soft_time_limit ({soft:g} s) to be shorter than time_limit ({hard:g} s)"
            )
        if self.redispatch_at_most < self.redispatch_after:
            raise ValueError(
                f"expected redispatch_at_most ({self.redispatch_at_most:g} s) not to be below"
                f" redispatch_after ({self.redispatch_after:g} s)"
            )

    def unknown_task_in(self, rounds: int) -> float:
        """Seconds until another worker is asked, after so many that did not know the task."""
        return min(2.0 ** min(rounds, 30), 10.0, self.unknown_task_for)

    def redispatch_in(self, redispatches: int) -> float:
        """Seconds until the next dispatch, after so many redispatches."""
        wait = self.redispatch_after * 2.0 ** min(redispatches, 30)
        return min(wait, self.redispatch_at_most)


def _check_most(name: str, number: float) -> None:
    if number > (most := _MOST.get(name, _MOST_OF_ALL)):
        raise ValueError(f"expected {name} to be at most {most:,}")
