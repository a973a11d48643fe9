"""A linter for configurations: what one may say and hardly means. Pure: no files, no application.

Errors are the parser's business (`triggers_core.engine.configuration`). What is found here is
legal, and nearly always a mistake: tasks that can never run, cycles, an `unless` that reads as
something else, names that are spelled almost alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from triggers_core.engine.configuration import Configuration, Task
from triggers_core.texts import did_you_mean, names
from triggers_core.views.spelling import alike

CODES: Final = (
    "never-runs",
    "cycle",
    "unknown-task",
    "after-and-unless",
    "unless-several",
    "near-miss",
)
"""The kinds of findings."""

TASK_PREFIX: Final = "t_"
"""Names that begin so are tasks by convention: only a task's end fires them."""

_MAX_SHOWN: Final = 8  # names in one message


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is most likely a mistake."""

    code: str
    """One of `CODES`; the plugin's name for what a plugin found."""
    tasks: tuple[str, ...]
    """The tasks that it is about."""
    message: str
    never_runs: bool = False
    """Whether these tasks can never run because of it."""


def lint(configuration: Configuration, ignore: Collection[str] = ()) -> list[Finding]:
    """Everything that looks like a mistake, in the order of the tasks; near misses last.

    :param ignore: codes of findings to leave out. Without ``unknown-task``, names that look like
        tasks of other files are triggers like any other, so nothing follows from them.

    Example::

        lint(parse_configuration({"t_a": {"after": ["t_b"], "run": "A"},
                                  "t_b": {"after": ["t_a"], "run": "B"}}))[0].code  # 'cycle'
    """
    tasks = configuration.tasks
    known = set(_unknown_names(tasks)) if "unknown-task" in ignore else set[str]()
    cycles = list(_cycles(tasks))
    findings = [_cycle_finding(cycle) for cycle in cycles]
    never = {name for cycle in cycles for name in cycle}
    for task in tasks.values():
        found = [*_unknown(task, tasks, known), *_unless(task, tasks, never)]
        findings += found
        if any(each.never_runs for each in found):
            never.add(task.name)
    findings += _consequences(tasks, never)
    order = {name: position for position, name in enumerate(tasks)}
    findings.sort(key=lambda each: min(order[name] for name in each.tasks))
    findings += _near_misses(tasks, known)
    return [each for each in findings if each.code not in ignore]


# -- tasks that wait for each other, or for nothing that comes ------------------------------------


def _waits_for(task: Task, tasks: Mapping[str, Task]) -> list[str]:
    """The tasks that a task waits for, in its own order."""
    every = () if task.and_every is None else (task.and_every,)
    return [name for name in dict.fromkeys((*task.after, *every)) if name in tasks]


def _cycles(tasks: Mapping[str, Task]) -> Iterator[list[str]]:
    """Ways around which tasks wait for each other, so that each such task is on one of them.

    A task waits for *all* of its triggers: none on the way can be the first to run.
    """
    seen: set[str] = set()
    for name in tasks:
        if name not in seen and (path := _way_back(name, tasks)):
            yield path
            seen.update(path)


def _way_back(start: str, tasks: Mapping[str, Task]) -> list[str]:
    """The shortest way from a task to itself, along what it waits for; empty when there is none."""
    came_from: dict[str, str] = {}
    queue = [start]
    for name in queue:
        for other in _waits_for(tasks[name], tasks):
            if other == start:
                path = [name]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if other not in came_from:
                came_from[other] = name
                queue.append(other)
    return []


def _cycle_finding(cycle: list[str]) -> Finding:
    shown = [names([each]) for each in [*cycle, cycle[0]]]
    if len(shown) > _MAX_SHOWN + 1:
        left_out = len(shown) - _MAX_SHOWN
        shown = [*shown[: _MAX_SHOWN - 2], f"({left_out:,} more)", *shown[-2:]]
    around = " → ".join(shown)
    return Finding(
        code="cycle",
        tasks=tuple(cycle),
        message=f"these tasks wait for each other, so none of them can ever run: {around}.",
        never_runs=True,
    )


def _is_unknown(name: str, tasks: Mapping[str, Task]) -> bool:
    """Whether a trigger looks like a task and is none."""
    return name.startswith(TASK_PREFIX) and name not in tasks


def _unknown_names(tasks: Mapping[str, Task]) -> Iterator[str]:
    for task in tasks.values():
        yield from (name for name in task.listens_to if _is_unknown(name, tasks))


def _unknown(task: Task, tasks: Mapping[str, Task], known: Collection[str]) -> Iterator[Finding]:
    for name in dict.fromkeys((*task.after, task.and_every or "", *task.unless)):
        if name in known or not _is_unknown(name, tasks):
            continue
        hint = did_you_mean(name, tasks)
        hint = hint.removeprefix(":") if hint.endswith("?") else ""
        hint = hint[:2].upper() + hint[2:]
        told = f"{name!r}, which is no task of this configuration"
        if name in task.required.triggers:
            message = f"can never run: it waits for {told}.{hint}"
            yield Finding(code="unknown-task", tasks=(task.name,), message=message, never_runs=True)
        else:
            message = f"its unless names {told}, so that it is never called off.{hint}"
            yield Finding(code="unknown-task", tasks=(task.name,), message=message)


def _consequences(tasks: Mapping[str, Task], never: set[str]) -> list[Finding]:
    """The tasks that wait for one that can never run, and so on."""
    found = []
    growing = True
    while growing:
        growing = False
        for task in tasks.values():
            blocking = [name for name in _waits_for(task, tasks) if name in never]
            if task.name not in never and blocking:
                growing = True
                never.add(task.name)
                message = f"can never run: it waits for {names(blocking[:1])}, which can never run."
                found.append(_never(task, message))
    return found


def _never(task: Task, message: str) -> Finding:
    return Finding(code="never-runs", tasks=(task.name,), message=message, never_runs=True)


# -- unless ---------------------------------------------------------------------------------------


def _unless(task: Task, tasks: Mapping[str, Task], stuck: set[str]) -> Iterator[Finding]:
    unless, required = frozenset(task.unless), task.required.triggers
    if not unless:
        return
    both = [name for name in task.unless if name in required]
    before = _certain(task, tasks, stuck)
    if both:
        never = unless <= before
        message = (
            f"waits for {names(both)} and names {'it' if len(both) == 1 else 'them'} in unless"
        )
        if never:
            message = f"can never run: it {message}, which calls it off before it can start."
        else:
            message += ", which counts towards calling it off. Is that meant?"
        yield Finding(
            code="after-and-unless", tasks=(task.name,), message=message, never_runs=never
        )
    elif unless <= before:
        awaited = names(_waits_for(task, tasks))
        yield _never(
            task,
            f"can never run: by the time {awaited} can have finished, {names(task.unless)}"
            f" {'has' if len(unless) == 1 else 'have'} fired, and called it off.",
        )
    if len(unless) > 1:
        yield Finding(
            code="unless-several",
            tasks=(task.name,),
            message=f"its unless calls it off only once {_some(task.unless)} have"
            f" {'both' if len(unless) == 2 else 'all'} fired. If one of them should be enough, fire"
            " one more trigger with each of them, and name that one alone.",
        )


def _some(triggers: Sequence[str]) -> str:
    """Names in a sentence, cut if they are many."""
    if len(triggers) <= _MAX_SHOWN:
        return names(triggers)
    return f"{', '.join(map(repr, triggers[:_MAX_SHOWN]))} and {len(triggers) - _MAX_SHOWN:,} more"


def _certain(task: Task, tasks: Mapping[str, Task], never: Iterable[str]) -> frozenset[str]:
    """Every trigger that has fired, for certain, once a task has all that it waits for."""
    certain: set[str] = set()
    queue = [task]
    for each in queue:
        new = each.required.triggers - certain
        certain |= new
        queue += [tasks[name] for name in new if name in tasks and name not in never]
    return frozenset(certain)


# -- spelling -------------------------------------------------------------------------------------


def _near_misses(tasks: Mapping[str, Task], known: Collection[str]) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for task in tasks.values():
        for name in (*task.after, task.and_every or "", *task.unless, *task.with_params):
            if name and task.name not in users.setdefault(name, []):
                users[name].append(task.name)
    for one, other in alike({*users, *tasks}):
        if one in tasks and other in tasks:
            continue  # both were defined on purpose
        if any(_is_unknown(name, tasks) and name not in known for name in (one, other)):
            continue  # told about already
        places = [f"{name!r} ({_place(name, users, tasks)})" for name in (one, other)]
        about = dict.fromkeys((*users.get(one, ()), *users.get(other, ())))
        yield Finding(
            code="near-miss",
            tasks=tuple(name for name in tasks if name in about),
            message=f"{places[0]} and {places[1]} are spelled almost alike, and are two different"
            " triggers. Is one of them a mistake?",
        )


def _place(name: str, users: Mapping[str, list[str]], tasks: Mapping[str, Task]) -> str:
    places = ["a task"] if name in tasks else []
    used = users.get(name, [])
    if used:
        more = f" and {len(used) - 2} more" if len(used) > 2 else ""
        places.append(f"in {', '.join(used[:2])}{more}")
    return ", ".join(places)
