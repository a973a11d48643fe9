"""Which tasks wait for a trigger, directly or through other tasks."""

from __future__ import annotations

from collections.abc import Mapping

from triggers_core.engine.configuration import Task


def tasks_waiting_for(trigger: str, tasks: Mapping[str, Task]) -> frozenset[str]:
    """The names of the tasks that cannot run before `trigger` has fired.

    Example::

        # t_report waits for sessionFinalized, t_archive for t_report
        tasks_waiting_for("sessionFinalized", tasks)  # frozenset({"t_report", "t_archive"})
    """
    waiting: set[str] = set()
    found = {trigger}
    while found:
        found = {
            name
            for name, task in tasks.items()
            if name not in waiting and task.required.triggers & found
        }
        waiting |= found
    return frozenset(waiting)


def is_optional(task: Task) -> bool:
    """Whether the session may end although the task has never begun (``"optional": true``)."""
    return task.directives.get("optional") is True


def may_keep_open(trigger: str, tasks: Mapping[str, Task]) -> dict[str, str]:
    """Tasks that may well never begin, and would keep `trigger` from ever firing.

    Those are they that run *every* time something happens, if at all: their `andEvery` is a trigger
    of the application that no other task waits for, no task waits for them, and no `unless` calls
    them off. For a linter: each should say ``"optional": true``, or is meant to be waited for.

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
        every = task.and_every
        if every is None or every in tasks or name in waiting or is_optional(task) or task.unless:
            continue
        others = [other for other in tasks.values() if other.name != name]
        if not any({name, every} & other.listens_to for other in others):
            found[name] = every
    return found
