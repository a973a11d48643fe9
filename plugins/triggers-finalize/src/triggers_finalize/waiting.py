"""Which tasks wait for a trigger, directly or through other tasks."""

from __future__ import annotations

from collections.abc import Mapping

from triggers_core.configuration import Task


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
