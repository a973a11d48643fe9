"""Many seeds, in this process or spread over several."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from itertools import chain
from typing import Final

from triggers_core.testing.simulation.runs import Outcome, Simulator

_CHUNK: Final = {"memory": 250, "sqlite": 25}
"""Seeds that a process takes at a time."""


def many(first: int, seeds: int, storage: str, jobs: int) -> Iterator[Outcome]:
    """Simulate every word, seed by seed, in order.

    :param jobs: processes; with 1, this one.
    """
    if jobs == 1:
        with Simulator(storage=storage) as simulator:
            for seed in range(first, first + seeds):
                yield simulator.run(seed)
        return
    size, last = _CHUNK[storage], first + seeds
    chunks = ((start, min(start + size, last)) for start in range(first, last, size))
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _begin, (storage,)) as pool:
        yield from chain.from_iterable(pool.imap(_run, chunks))


_simulator: Simulator | None = None


def _begin(storage: str) -> None:
    global _simulator
    _simulator = Simulator(storage=storage).__enter__()
    _simulator.run(0)
    gc.collect()
    gc.freeze()  # what is here stays: no need to look through it again and again
    gc.set_threshold(50_000, 20, 50)


def _run(seeds: tuple[int, int]) -> list[Outcome]:
    assert _simulator is not None
    return [_simulator.run(seed) for seed in range(*seeds)]
