"""A linter for configurations: what one may say and hardly means. Pure: no files, no application.

Errors are the parser's business (`triggers_core.engine.configuration`). What is found here is
legal, and nearly always a mistake: tasks that can never run, cycles, an `unless` that reads as
something else, parts of a condition that decide nothing, names that are spelled almost alike.

The rules are in `linting`, one idea a module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from triggers_core.engine.configuration import Configuration, Task
from triggers_core.views.linting.circles import about_circles
from triggers_core.views.linting.findings import CODES as CODES
from triggers_core.views.linting.findings import TASK_PREFIX as TASK_PREFIX
from triggers_core.views.linting.findings import Finding as Finding
from triggers_core.views.linting.times import about_awaited_otherwise, about_otherwise, about_times
from triggers_core.views.linting.trees import about_trees
from triggers_core.views.linting.unless import about_unless
from triggers_core.views.linting.waits import (
    Tasks,
    Unknown,
    about_leaves,
    about_unknown,
    consequences,
    cycle_finding,
    cycles,
    waits_for,
)
from triggers_core.views.spelling import alike


def lint(configuration: Configuration, ignore: Collection[str] = ()) -> list[Finding]:
    """Everything that looks like a mistake, in the order of the tasks; near misses last.

    :param ignore: codes of findings to leave out. Without ``unknown-task``, names that look like
        tasks of other files are triggers like any other, so nothing follows from them.

    Example::

        lint(parse_configuration({"t_a": {"after": ["t_b"], "run": "A"},
                                  "t_b": {"after": ["t_a"], "run": "B"}}))[0].code  # 'cycle'
    """
    tasks = configuration.tasks
    unknown = Unknown(tasks, "unknown-task" in ignore)
    around = list(cycles(tasks, lambda task: waits_for(task, tasks)))
    findings = [cycle_finding(cycle) for cycle in around]
    never = {name for cycle in around for name in cycle}
    for task in tasks.values():
        found = [
            *about_unknown(task, tasks, unknown),
            *about_leaves(task, tasks),
            *about_unless(task, tasks, never),
        ]
        findings += found
        if any(each.never_runs for each in found):
            never.add(task.name)
    findings += consequences(tasks, never, unknown)
    for task in tasks.values():
        if not task.plain:
            findings += [
                *about_trees(task),
                *about_times(task, tasks),
                *about_otherwise(task, tasks, configuration.listeners),
            ]
        findings += about_awaited_otherwise(task, tasks, never)
    findings += about_circles(tasks, never)
    findings.sort(key=lambda each: min(configuration.order[name] for name in each.tasks))
    findings += _near_misses(tasks, unknown)
    return [each for each in findings if each.code not in ignore]


# -- spelling -------------------------------------------------------------------------------------


def _near_misses(tasks: Tasks, unknown: Unknown) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for task in tasks.values():
        for name in _names_of(task):
            if task.name not in users.setdefault(name, []):
                users[name].append(task.name)
    for one, other in alike({*users, *tasks}):
        if one in tasks and other in tasks:
            continue  # both were defined on purpose
        if one in unknown or other in unknown:
            continue  # told about already
        places = [f"{name!r} ({_place(name, users, tasks)})" for name in (one, other)]
        about = dict.fromkeys((*users.get(one, ()), *users.get(other, ())))
        yield Finding(
            code="near-miss",
            tasks=tuple(name for name in tasks if name in about),
            message=f"{places[0]} and {places[1]} are spelled almost alike, and are two different"
            " triggers. Is one of them a mistake?",
        )


def _names_of(task: Task) -> Iterator[str]:
    """The triggers that a task names, and what it takes for such."""
    leaves = task.rule.leaves
    yield from (leaf.trigger for leaf in leaves.values())
    yield from task.rule.otherwise.values()
    yield from (name for name in task.with_params if name not in leaves)


def _place(name: str, users: Mapping[str, list[str]], tasks: Tasks) -> str:
    places = ["a task"] if name in tasks else []
    used = users.get(name, [])
    if used:
        more = f" and {len(used) - 2} more" if len(used) > 2 else ""
        places.append(f"in {', '.join(used[:2])}{more}")
    return ", ".join(places)
