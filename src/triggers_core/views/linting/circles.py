"""Circles: tasks that set each other going, by cascades and by what they fire `otherwise`.

They are legal; one without end goes on until the limit of cascades ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from triggers_core.engine.configuration import Task
from triggers_core.texts import names
from triggers_core.views.linting.findings import Finding, around
from triggers_core.views.linting.times import may_fire
from triggers_core.views.linting.waits import Tasks, cycles, runs_once


def about_circles(tasks: Tasks, never: Collection[str]) -> Iterator[Finding]:
    """Circles of tasks that may run.

    :param never: the tasks that can never run.
    """
    running = {name: task for name, task in tasks.items() if name not in never}
    awaiting: dict[str, list[str]] = {}
    for name, task in running.items():
        for trigger in dict.fromkeys(leaf.trigger for leaf in task.required.leaves):
            awaiting.setdefault(trigger, []).append(name)

    def fired(task: Task) -> list[str]:
        others = dict.fromkeys(task.rule.otherwise.values())
        return [task.name, *(each for each in others if may_fire(task, each, never))]

    def next_ones(task: Task) -> list[str]:
        found = (name for trigger in fired(task) for name in awaiting.get(trigger, ()))
        return list(dict.fromkeys(found))

    for circle in cycles(running, next_ones):
        triggers = {trigger for name in circle for trigger in fired(running[name])}
        yield _finding(circle, running, triggers)


def _finding(circle: list[str], tasks: Tasks, fired: Collection[str]) -> Finding:
    once = [name for name in circle if runs_once(tasks[name])]
    if once:
        message = (
            f"these tasks set each other going: {around(circle)}; and {names(once[:1])} runs only"
            " once, so that nothing begins again. If it should, give it everyTime; if not, leave"
            " out what leads back."
        )
    elif all(_begins_again(tasks[name], fired) for name in circle):
        message = (
            f"these tasks set each other going without end: {around(circle)}. Each round is a"
            " cascade, until their limit (Limits.cascade_depth) ends it. Let one of them wait for"
            " an event from outside, or do without everyTime."
        )
    else:
        message = (
            f"these tasks set each other going, again with each event that they wait for besides:"
            f" {around(circle)}. Is that meant? If not, leave out what leads back."
        )
    return Finding(code="circle", tasks=tuple(circle), message=message)


def _begins_again(task: Task, fired: Collection[str]) -> bool:
    """Whether what the circle fires is enough for another instance."""
    rule = task.rule
    if rule.every:
        return any(leaf.trigger in fired for leaf in rule.every)
    return rule.required.holds({leaf.key for leaf in rule.leaves.values() if leaf.trigger in fired})
