"""Random scenarios: what is done to a session, step by step, as plain data.

The same seed makes the same scenario. `Scenario.written` is Python that makes it again.
"""

from __future__ import annotations

import pprint
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from words import values
from words.tasks import EVENTS, RANKS, Directives, TaskMaker, name_of, rank_of

FAILED, SKIPPED = "FAILED", "SKIPPED"

Step = tuple[Any, ...]
"""What is done, and when, in seconds since 1970:

`("configure", at, tasks, past)`, `("fire", at, trigger, kwargs)`, `("advance", at)`,
`("replay", at, place)` and `("skip", at, place, result)`, where `place` says which of the failed
instances, in the order of their names, is meant; nothing is done where none has failed.
"""

Refuses = Callable[[str, Directives], bool]
"""Whether a configuration refuses a task of this name."""


@dataclass(frozen=True)
class Scenario:
    """:param bodies: task → what its instances return in turn: kwargs, `FAILED` or `SKIPPED`.
    :param sweeps: whether somebody looks whenever something falls due."""

    seed: int
    steps: list[Step]
    bodies: dict[str, list[Any]] = field(default_factory=dict)
    sweeps: bool = True

    def body(self, task: str, number: int) -> Any:
        """What the body of an instance comes to."""
        outcomes = self.bodies.get(task) or [{}]
        return outcomes[number % len(outcomes)]

    def timed(self) -> list[Step]:
        """The steps, at their times: none lies before a step that is no fire.

        A sweep that finds nothing, and a configuration that changes nothing, leave no trace from
        which a session could know how late it had been.
        """
        done, floor = [], float("-inf")
        for what, at, *more in self.steps:
            if what == "configure" and not more[0]:
                continue  # no configuration: the first one is still to come
            moment = round(max(at, floor), 6)  # as times are stored
            if what != "fire":
                floor = moment
            done.append((what, moment, *more))
        return done

    def written(self) -> str:
        """Python that makes it again (with `datetime`, `Decimal` and `UUID` at hand)."""
        shown = pprint.pformat(self.steps, width=160, sort_dicts=False)
        return (
            f"Scenario({self.seed}, {shown},\n"
            f"    {pprint.pformat(self.bodies, width=150, sort_dicts=False)}, sweeps={self.sweeps})"
        )


class _Maker:
    def __init__(self, seed: int, refuses: Refuses) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.refuses = refuses
        self.pools = {path: self.rng.choice(sorted(values.POOLS)) for path in values.PATHS}
        self.tasks = TaskMaker(self.rng, self.pools)
        self.present: dict[str, Directives] = {}
        self.at: float = values.START
        self.recounts = self.rng.random() < 0.05
        self.refused: list[tuple[str, Directives]] = []

    def scenario(self) -> Scenario:
        rng = self.rng
        steps: list[Step] = []
        amount = rng.randint(8, 22)
        first = rng.randint(1, 8) if rng.random() < 0.15 else 0
        later = {rng.randrange(3, amount) for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3)))}
        pasts = [rng.random() < 0.6 for _ in later]
        if self.recounts:  # a record begins late, and is put right by the past
            first, later, pasts = 0, {4, rng.randint(7, 8)}, [False, True]
        for place in range(amount):
            if place == first:
                steps.append(("configure", self.at, self._first(), False))
            if place in later and place > first and pasts:
                self._time_passes()
                steps.append(("configure", self.at, self._update(), pasts.pop(0)))
            self._time_passes()
            steps.append(self._step())
        if rng.random() < 0.7:
            self.at += rng.choice((10, 30, 100, 100_000))
            steps.append(("advance", self.at))
        bodies = {name_of(rank): self._outcomes() for rank in range(RANKS)}
        return Scenario(self.seed, steps, bodies, sweeps=rng.random() < 0.5)

    def _time_passes(self) -> None:
        rng = self.rng
        self.at += rng.choice((0, 0, 0, 10, 10, 10, 10, 10, 20, 20, 30, 5))
        if rng.random() < 0.06:
            self.at = max(values.START, self.at - 10)
        if rng.random() < 0.04:
            self.at += rng.choice((0.1, 0.000001, 3_600, 86_400))

    def _step(self) -> Step:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.06:
            return ("advance", self.at)
        if kind < 0.10:
            return ("replay", self.at, rng.randrange(4))
        if kind < 0.15:
            result = self._kwargs() if rng.random() < 0.4 else None
            return ("skip", self.at, rng.randrange(4), result)
        trigger = rng.choice(EVENTS) if rng.random() < 0.97 else f"x_{rng.randrange(RANKS)}"
        if self.recounts and rng.random() < 0.5:
            trigger = self.tasks.favourite[0]
        return ("fire", self.at, trigger, self._kwargs())

    def _kwargs(self) -> dict[str, Any]:
        return values.kwargs(self.rng, self.pools, self.at)

    def _outcomes(self) -> list[Any]:
        rng = self.rng

        def outcome() -> Any:
            kind = rng.random()
            return FAILED if kind < 0.25 else SKIPPED if kind < 0.35 else self._kwargs()

        return [outcome() for _ in range(rng.choice((1, 2, 3)))]

    # -- configurations ---------------------------------------------------------------------------

    def _first(self) -> dict[str, Directives]:
        ranks = sorted(self.rng.sample(range(RANKS), self.rng.choice((1, 2, 2, 3, 3, 4, 5, 6))))
        return self._legal({name_of(rank): None for rank in ranks})

    def _update(self) -> dict[str, Directives]:
        """Some tasks replaced, mostly by something much like them, some new."""
        rng = self.rng
        names = [name for name in self.present if rng.random() < 0.6]
        names += [name_of(rng.randrange(RANKS)) for _ in range(rng.choice((0, 1, 1, 2)))]
        if self.recounts:
            names.append(
                next(
                    (
                        each
                        for each in map(name_of, range(RANKS))
                        if each not in {*names, *self.present}
                    ),
                    "t_0",
                )
            )
        chosen: dict[str, Directives | None] = {}
        for name in dict.fromkeys(names or sorted(self.present)):
            chosen[name] = self.present.get(name) if rng.random() < 0.8 else None
        return self._legal(chosen)

    def _legal(self, wanted: dict[str, Directives | None]) -> dict[str, Directives]:
        """Tasks that the session takes, one by one: what is refused is made anew."""
        names = list(wanted)
        made: dict[str, Directives] = {}
        for name in names:
            for _ in range(60):
                was = wanted[name]
                rank = rank_of(name)
                if was is not None:
                    task = self.tasks.changed(was, rank)
                elif self.present and self.rng.random() < (0.9 if self.recounts else 0.4):
                    task = self.tasks.counting(rank)
                else:
                    task = self.tasks.task(rank)
                if not self.refuses(name, task):
                    made[name] = task
                    break
                self.refused.append((name, task))
        self.rng.shuffle(names)
        made = {name: made[name] for name in names if name in made}
        self.present = {**self.present, **made}
        return made


def make_scenario(seed: int, refuses: Refuses) -> Scenario:
    """The scenario of a seed; `refuses` keeps illegal configurations out."""
    return _Maker(seed, refuses).scenario()


def refused_tasks(seed: int, refuses: Refuses) -> list[tuple[str, Directives]]:
    """What was refused on the way to the scenario of a seed."""
    maker = _Maker(seed, refuses)
    maker.scenario()
    return maker.refused
