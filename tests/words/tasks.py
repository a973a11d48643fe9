"""Random tasks that use every word of the language of conditions.

Tasks have a rank, the number in their names. A task's required set names only events of the
application, tasks of lower rank and what those fire `otherwise`: so every scenario comes to an end.
"""

from __future__ import annotations

import random
from copy import deepcopy
from datetime import timedelta
from typing import Any

from words import values

EVENTS = ("a", "b", "c", "d")
RANKS = 6

Directives = dict[str, Any]


def name_of(rank: int) -> str:
    return f"t_{rank}"


def rank_of(name: str) -> int:
    return int(name.removeprefix("t_"))


class TaskMaker:
    """Makes the tasks of one scenario: they share triggers and tests, so that they meet.

    :param pools: path → pool of `values.POOLS`.
    """

    def __init__(self, rng: random.Random, pools: dict[str, str]) -> None:
        self.rng = rng
        self.pools = pools
        self.tests = [values.where(rng, pools) for _ in range(3)]
        self.favourite = (rng.choice(EVENTS), rng.choice((None, self.tests[0])))
        self._keys: dict[str, Any] = {}
        self._own: list[str] = []

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def task(self, rank: int) -> Directives:
        """One task. Whether all of it is legal is for the oracle to say."""
        rng = self.rng
        self._keys, self._own = {}, []
        if self.chance(0.3):
            return self._pattern(rank)
        made: Directives = {}
        kind = rng.random()
        if kind > 0.12:
            made["after"] = self._top(rank, "after")
        if kind < 0.3:
            made["andEvery"] = self._and_every(rank)
        elif self.chance(0.4):
            made["everyTime"] = True
        if self.chance(0.45):
            made["unless"] = self._top(rank, "unless")
        if "after" in made and self.chance(0.35):
            made["keeping"] = self._keeping()
        if self.chance(0.4):
            made["waiting"] = self._waiting()
        if self.chance(0.45):
            made["within"] = self._within()
        if self.chance(0.6):
            made["otherwise"] = self._otherwise(rank)
        return made

    def _pattern(self, rank: int) -> Directives:
        """A task as people write them, where several words have to work together."""
        rng = self.rng
        made: Directives = {}
        shape = rng.randrange(7)
        leaf = self._leaf(rank, "after")
        made["after"] = [leaf]
        if shape == 0:  # debounce
            made |= {"keeping": "latest", "everyTime": self.chance(0.8)}
            made["waiting"] = self.duration()
            if self.chance(0.6):
                made["waiting"] = {"time": rng.choice((10, 20)), "atMost": rng.choice((20, 30, 40))}
        elif shape == 1:  # a date that may be put off
            made["waiting"] = {"until": f"{self._own[0]}.at"}
            made["keeping"] = {self._own[0]: "latest"}
        elif shape == 2:  # a reminder
            made["waiting"] = self.duration()
            made["unless"] = [{"anyOf": [self._leaf(rank, "unless") for _ in range(2)]}]
        elif shape == 3:  # a fan-in whose size an event names
            count = {"atLeast": f"{self._own[0]}.n", "of": self._leaf(rank, "counted")}
            made["after"] = [leaf, count]
            made["within"] = self._within()
            if self.chance(0.5):
                made["everyTime"] = True
        elif shape == 4:  # steps up to a deadline that all have in common
            made["andEvery"] = self._and_every(rank)
            made["within"] = {"of": self._own[0], "time": rng.choice((10, 20))}
        elif shape == 5:  # batches
            made["after"] = [{"atLeast": rng.choice((2, 3)), "of": leaf}]
            made["everyTime"] = True
        else:  # escalation of something else
            made["after"] = [f"x_{rng.randrange(rank)}" if rank else leaf]
            made["waiting"] = self.duration()
        if "unless" not in made and self.chance(0.4):
            made["unless"] = self._top(rank, "unless")
        if "within" not in made and self.chance(0.3):
            made["within"] = self.duration()
        made["otherwise"] = self._otherwise(rank)
        return made

    def counting(self, rank: int) -> Directives:
        """A task that counts what others count as well, whenever they came."""
        trigger, where = self.favourite
        leaf = trigger if where is None else {"trigger": trigger, "where": deepcopy(where)}
        made: Directives = {"after": [{"atLeast": self.rng.choice((1, 2, 3, 4)), "of": leaf}]}
        for word in ("waiting", "within"):
            if self.chance(0.2):
                made[word] = self.duration()
        return made | {"otherwise": self._otherwise(rank)}

    def changed(self, task: Directives, rank: int) -> Directives:
        """The task with something else about it, as a new version of an application has it."""
        rng, other = self.rng, self.task(rank)
        made = deepcopy(task)
        words = sorted({*made, *other})
        for word in rng.sample(words, min(len(words), rng.choice((1, 1, 2)))):
            if word in other:
                made[word] = other[word]
            elif len(made) > 1:
                made.pop(word)
        if self.chance(0.25):
            made = _renamed(made, rng)
        return made

    # -- trees ------------------------------------------------------------------------------------

    def _top(self, rank: int, role: str) -> Any:
        rng = self.rng
        amount = rng.choice((1, 1, 2, 2, 3) if role == "after" else (1, 1, 1, 2))
        conditions = [self._condition(rank, role, 0) for _ in range(amount)]
        # Counts last: the leaf that they name stands in the list by then.
        for _ in range(self.chance(0.35 if role == "after" else 0.2)):
            conditions.append(self._counted(rank, role))
        if len(conditions) == 1 and self.chance(0.2) and conditions[0]:
            return conditions[0]
        rng.shuffle(conditions)
        return conditions

    def _condition(self, rank: int, role: str, depth: int) -> Any:
        kind = self.rng.random()
        if kind < 0.6 or depth > 1:
            return self._leaf(rank, role)
        if kind < 0.68:
            return self._counted(rank, role)
        members = [
            self._condition(rank, role, depth + 1) for _ in range(self.rng.choice((2, 2, 3)))
        ]
        if kind < 0.85:
            return {"anyOf": members}
        if kind < 0.95:
            return {"atLeast": self.rng.randint(1, len(members)), "of": members}
        return members

    def _counted(self, rank: int, role: str) -> Any:
        rng = self.rng
        count: Any = rng.choice((1, 2, 2, 2, 3, 3))
        if self._own and self.chance(0.5):
            count = f"{rng.choice(self._own)}.n"
        return {"atLeast": count, "of": self._leaf(rank, "counted")}

    def _and_every(self, rank: int) -> Any:
        if self.chance(0.5):
            return self._leaf(rank, "every")
        return {"anyOf": [self._leaf(rank, "every") for _ in range(self.rng.choice((2, 2, 3)))]}

    def _leaf(self, rank: int, role: str) -> Any:
        rng = self.rng
        below = rank if role != "unless" else RANKS
        others = [name_of(each) for each in range(below) if each != rank]
        others += [f"x_{each}" for each in range(below)]
        trigger = rng.choice(others) if others and self.chance(0.25) else rng.choice(EVENTS)
        leaf: dict[str, Any] = {"trigger": trigger}
        if self.chance(0.45):
            leaf["where"] = deepcopy(rng.choice(self.tests))
        if role == "counted" and self.chance(0.4):  # what several tasks count has one record
            trigger, where = self.favourite
            leaf = {"trigger": trigger} if where is None else {"trigger": trigger, "where": where}
        if trigger in self._keys and (
            role == "counted" or self._keys[trigger] != leaf.get("where")
        ):
            leaf["as"] = f"k{len(self._keys)}"
        elif self.chance(0.12):
            leaf["as"] = f"k{rng.randrange(4)}"
        key = leaf.get("as", trigger)
        self._keys[key] = leaf.get("where")
        if role in ("after", "every"):
            self._own.append(key)
        return trigger if len(leaf) == 1 and self.chance(0.9) else leaf

    # -- the other words --------------------------------------------------------------------------

    def _keeping(self) -> Any:
        rng = self.rng
        if self.chance(0.5) or not self._own:
            return rng.choice(("latest", "all", "first"))
        keys = rng.sample(sorted(set(self._own)), rng.randint(1, min(2, len(set(self._own)))))
        return {key: rng.choice(("latest", "latest", "all", "first")) for key in keys}

    def _waiting(self) -> Any:
        kind = self.rng.random()
        if kind < 0.4 and self._own:
            return {"until": f"{self.rng.choice(self._own)}.at"}
        if kind < 0.6:
            return {"time": self.duration(), "atMost": self.duration()}
        return {"time": self.duration()} if kind < 0.65 else self.duration()

    def _within(self) -> Any:
        if self._own and self.chance(0.35):
            return {"of": self.rng.choice(self._own), "time": self.duration()}
        return self.duration()

    def _otherwise(self, rank: int) -> Any:
        def trigger() -> str:
            return f"x_{rank if self.chance(0.7) else self.rng.randrange(rank, RANKS)}"

        if self.chance(0.4):
            return trigger()
        whys = ("late", "failed", "skipped", "calledOff")
        return {why: trigger() for why in whys if self.chance(0.7)} or {"late": trigger()}

    def duration(self) -> Any:
        """Mostly whole steps of time, so that moments coincide."""
        common = (10, 10, 20, 30, "10 seconds", "20 seconds", "0.5 minutes", timedelta(seconds=20))
        rare = (0.1, 7.5, "1 minute", "2 hours", "1 day", "1 week", timedelta(milliseconds=1))
        return self.rng.choice(common if self.chance(0.9) else rare)


def _renamed(task: Directives, rng: random.Random) -> Directives:
    """The same leaves under other keys: what an instance took in them stays."""
    leaves: list[dict[str, Any]] = []

    def walk(condition: Any) -> None:
        if isinstance(condition, list):
            for member in condition:
                walk(member)
        elif isinstance(condition, dict):
            if "trigger" in condition:
                leaves.append(condition)
            walk(condition.get("anyOf"))
            walk(condition.get("of"))

    for role in ("after", "andEvery", "unless"):
        walk(task.get(role))
    if leaves:
        rng.choice(leaves)["as"] = f"r{rng.randrange(3)}"
    return task
