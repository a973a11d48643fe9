"""Which tasks cannot run without a trigger, directly or through other tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from triggers_core.engine.conditions import FAILED, SKIPPED, Reference
from triggers_core.engine.configuration import Task


def tasks_waiting_for(trigger: str, tasks: Mapping[str, Task]) -> frozenset[str]:
    """The names of the tasks that cannot run before `trigger` has fired.

    A task of which another condition may hold as well (`anyOf`) does not wait for it. What such
    tasks fire `otherwise`, once they have run, comes no earlier.

    Example::

        # t_report waits for sessionFinalized, t_archive for t_report
        tasks_waiting_for("sessionFinalized", tasks)  # frozenset({"t_report", "t_archive"})
    """
    return _need({trigger}, tasks, _only_fired_by)


def exceptions(tasks: Mapping[str, Task]) -> dict[str, frozenset[str]]:
    """The tasks that run only if another one comes to no success, with the triggers that say so.

    Those are they that cannot run without a trigger that tasks fire `otherwise`, directly or
    through other tasks. As long as it `cannot_run`, nobody has to wait for such a task.

    Example::

        # t_ship has "otherwise": {"late": "shipLate"}, t_refund is after paid and shipLate
        exceptions(tasks)  # {"t_refund": frozenset({"shipLate"})}
    """
    answers = {trigger for task in tasks.values() for trigger in task.rule.otherwise.values()}
    found = _need(answers, tasks)
    return {name: tasks[name].required.triggers & (answers | found) for name in found}


def cannot_run(task: Task, absent: Collection[str]) -> bool:
    """Whether a task cannot run while none of these triggers has fired."""
    # A count that an event names may be 0.
    possible = {
        leaf.key
        for leaf in task.required.leaves
        if leaf.trigger not in absent or isinstance(leaf.count, Reference)
    }
    return not task.required.holds(possible)


def _need(
    triggers: Collection[str],
    tasks: Mapping[str, Task],
    fired_by: Callable[[Collection[str], Mapping[str, Task]], set[str]] | None = None,
) -> frozenset[str]:
    """The tasks that cannot run without any of these triggers, directly or through each other.

    :param fired_by: the triggers, beside their names, that come through such tasks only.
    """
    absent, fresh = set(triggers), set(triggers)
    waiting: set[str] = set()
    while fresh:
        found = {
            name
            for name, task in tasks.items()
            if name not in waiting
            and not task.required.triggers.isdisjoint(fresh)
            and cannot_run(task, absent)
        }
        waiting |= found
        fresh = (found if fired_by is None else found | fired_by(waiting, tasks)) - absent
        absent |= fresh
    return frozenset(waiting)


def _only_fired_by(names: Collection[str], tasks: Mapping[str, Task]) -> set[str]:
    """The triggers that only these tasks fire `otherwise`, and only once they have run."""
    others = {
        trigger
        for name, task in tasks.items()
        for why, trigger in task.rule.otherwise.items()
        if name not in names or why not in (FAILED, SKIPPED)
    }
    own = {trigger for name in names for trigger in tasks[name].rule.otherwise.values()}
    return own - others


def is_optional(task: Task) -> bool:
    """Whether the session may end although the task has never begun (``"optional": true``)."""
    return task.directives.get("optional") is True


def may_keep_open(trigger: str, tasks: Mapping[str, Task]) -> dict[str, str]:
    """Tasks that may well never begin, and would keep `trigger` from ever firing.

    Those are they that run *every* time something happens, if at all: their `andEvery` is a trigger
    of the application that no other task waits for, no task waits for them (or for what they fire
    `otherwise`), and no `unless` calls them off. For a linter: each should say
    ``"optional": true``, or is meant to be waited for.

    :returns: task → the trigger of its `andEvery`; empty when no task waits for `trigger`.

    Example::

        # t_mail runs at each statusChanged; an order without one never ends
        may_keep_open("sessionFinalized", tasks)  # {"t_mail": "statusChanged"}
    """
    waiting = tasks_waiting_for(trigger, tasks)
    if not waiting:
        return {}
    found: dict[str, str] = {}
    for name, task in tasks.items():
        every = [leaf.trigger for leaf in task.rule.every]
        ours = any(each in tasks for each in every)
        if not every or ours or name in waiting or is_optional(task) or task.rule.unless:
            continue
        answers = {name, *every, *task.rule.otherwise.values()}
        others = [other for other in tasks.values() if other.name != name]
        if not any(answers & other.listens_to for other in others):
            found[name] = " or ".join(every)
    return found
