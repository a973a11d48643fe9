"""A smaller scenario that still shows the same trouble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

from words.scenarios import Scenario, Step

MOST = 2_000
"""Scenarios that are tried."""


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], seconds: float = 60) -> Scenario:
    """Drop steps, tasks, directives, members and kwargs as long as it fails.

    :param fails: whether a scenario shows the trouble; an illegal one does not.
    """
    end = time.monotonic() + seconds
    tried = 0
    found = True
    while found:
        found = False
        for smaller in _smaller(scenario):
            tried += 1
            if tried > MOST or time.monotonic() > end:
                return scenario
            if fails(smaller):
                scenario, found = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    steps = scenario.steps
    for size in (8, 4, 2, 1):
        for start in range(0, len(steps), size):
            if size < len(steps):
                yield replace(scenario, steps=steps[:start] + steps[start + size :])
    for place, step in enumerate(steps):
        for other in _smaller_steps(step):
            yield replace(scenario, steps=[*steps[:place], other, *steps[place + 1 :]])
    for task, outcomes in scenario.bodies.items():
        if outcomes not in ([], [{}]):
            for fewer in ([], outcomes[:1], outcomes[1:]):
                if len(fewer) < len(outcomes):
                    yield replace(scenario, bodies={**scenario.bodies, task: fewer})
            for number, outcome in enumerate(outcomes):
                for other in _without_one(outcome) if isinstance(outcome, dict) else ():
                    changed = [*outcomes[:number], other, *outcomes[number + 1 :]]
                    yield replace(scenario, bodies={**scenario.bodies, task: changed})


def _smaller_steps(step: Step) -> Iterator[Step]:
    what, at, *more = step
    if what == "fire":
        trigger, kwargs = more
        if len(kwargs) > 1:
            yield (what, at, trigger, {})
        for fewer in _without_one(kwargs):
            yield (what, at, trigger, fewer)
    elif what == "configure":
        tasks, past = more
        for name in tasks:
            yield (what, at, {each: tasks[each] for each in tasks if each != name}, past)
        for name, task in tasks.items():
            for smaller in _smaller_parts(task):
                if smaller:
                    yield (what, at, {**tasks, name: smaller}, past)


def _without_one(mapping: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in mapping:
        yield {each: mapping[each] for each in mapping if each != key}


def _smaller_parts(part: Any) -> Iterator[Any]:
    """A part of a configuration without one of its parts, at any depth; or one of them in place."""
    if isinstance(part, dict):
        for key in part:
            yield {each: deepcopy(part[each]) for each in part if each != key}
        if set(part) == {"trigger"}:
            yield part["trigger"]
        for key, inner in part.items():
            for smaller in _smaller_parts(inner):
                yield {**part, key: smaller}
    elif isinstance(part, list):
        for place, inner in enumerate(part):
            yield part[:place] + part[place + 1 :]
            for smaller in _smaller_parts(inner):
                yield [*part[:place], smaller, *part[place + 1 :]]
        if len(part) == 1:
            yield part[0]
