"""Chance and time of the product, put into the hands of a simulation for as long as it runs."""

from __future__ import annotations

import logging
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

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
