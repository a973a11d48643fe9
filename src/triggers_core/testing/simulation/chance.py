"""Chance and time of the product, put into the hands of a simulation for as long as it runs."""

from __future__ import annotations

import logging
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from triggers_core import failures
from triggers_core.engine import names
from triggers_core.running import heartbeats, sweep, worker

_TIMED: Final = (heartbeats, sweep, worker)


class Substitutes:
    """What stands in for the operating system; a simulation sets `rng`, `now` and `sleep`."""

    rng: random.Random

    def __init__(self) -> None:
        self.rng = random.Random(0)
        self.now: Callable[[], float] = lambda: 0.0
        self.sleep: Callable[[float], None] = lambda seconds: None


@contextmanager
def substituted() -> Iterator[Substitutes]:
    """Ids, jitter, pauses and monotonic time come from the substitutes, within the block.

    Whatever a simulated process logs is dropped: what goes wrong there does so on purpose.
    """
    chance = Substitutes()
    clock = types.SimpleNamespace(
        monotonic=lambda: chance.now(),
        time=lambda: chance.now(),
        sleep=lambda seconds: chance.sleep(seconds),
    )
    replaced: list[tuple[Any, str, Any]] = [
        (names, "os", types.SimpleNamespace(urandom=lambda size: chance.rng.randbytes(size))),
        (worker, "random", types.SimpleNamespace(uniform=lambda a, b: chance.rng.uniform(a, b))),
        *((module, "time", clock) for module in _TIMED),
        (failures, "_masked", lru_cache(maxsize=10_000)(failures._masked)),
        (failures, "_traceback", _remembering(failures._traceback)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        for module, name, value in replaced:
            setattr(module, name, value)
        yield chance
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        logging.disable(disabled)


def _remembering(format_error: Callable[[BaseException], list[str]]) -> Any:
    """Formats the traceback of a simulated body's error once for each way to it.

    What comes out is the same. To format them all would take a twentieth of the time of a run.
    """
    known: dict[tuple[type, str, tuple[tuple[CodeType, int], ...]], list[str]] = {}

    def remembered(error: BaseException) -> list[str]:
        if type(error) is not ValueError or error.__cause__ or error.__context__:
            return format_error(error)
        way, step = [], error.__traceback__
        while step is not None:
            way.append((step.tb_frame.f_code, step.tb_lasti))
            step = step.tb_next
        key = type(error), str(error), tuple(way)
        found = known.get(key)
        if found is None:
            found = known[key] = format_error(error)
        return found

    return remembered
