"""Tasks that wait for each other, or for nothing that comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping

from triggers_core.engine.conditions import Leaf, Reference
from triggers_core.engine.configuration import Task
from triggers_core.texts import count, did_you_mean, names
from triggers_core.views.linting.findings import (
    TASK_PREFIX,
    Finding,
    around,
    finding,
    key,
    some,
)
from triggers_core.views.linting.trees import no_count
from triggers_core.views.linting.wheres import impossible_path

Tasks = Mapping[str, Task]


def waits_for(task: Task, tasks: Tasks) -> list[str]:
    """The tasks without which a task never runs, in its own order."""
    rule = task.rule
    needed = rule.required.necessary
    if rule.until is not None:
        needed |= rule.leaves[rule.until.key].triggers
    triggers = dict.fromkeys(leaf.trigger for leaf in rule.required.leaves)
    return [name for name in triggers if name in needed and name in tasks]


# -- cycles ----------------------------------------------------------------------------------------


def cycles(tasks: Tasks, next_ones: Callable[[Task], list[str]]) -> Iterator[list[str]]:
    """Ways around which tasks follow each other, so that each such task is on one of them.

    :param next_ones: the names of the tasks that follow a task.
    """
    seen: set[str] = set()
    for name in tasks:
        if name not in seen and (path := way_back(name, tasks, next_ones)):
            yield path
            seen.update(path)


def way_back(start: str, tasks: Tasks, next_ones: Callable[[Task], list[str]]) -> list[str]:
    """The shortest way from a task to itself; empty when there is none."""
    came_from: dict[str, str] = {}
    queue = [start]
    for name in queue:
        for other in next_ones(tasks[name]):
            if other == start:
                path = [name]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if other not in came_from:
                came_from[other] = name
                queue.append(other)
    return []


def cycle_finding(cycle: list[str]) -> Finding:
    """A finding about tasks that wait for each other."""
    return Finding(
        code="cycle",
        tasks=tuple(cycle),
        message=f"these tasks wait for each other, so none of them can ever run: {around(cycle)}.",
        never_runs=True,
    )


# -- names that look like tasks and are none -------------------------------------------------------


class Unknown:
    """Tells the triggers that look like a task and are none.

    :param ignored: whether they are not to be told: names of other files, triggers like any other.
    """

    def __init__(self, tasks: Tasks, ignored: bool) -> None:
        self._tasks, self._ignored = tasks, ignored
        self._others = {
            trigger for task in tasks.values() for trigger in task.rule.otherwise.values()
        }

    def __contains__(self, name: object) -> bool:
        return (
            not self._ignored
            and isinstance(name, str)
            and name.startswith(TASK_PREFIX)
            and name not in self._tasks
            and name not in self._others
        )


def about_unknown(task: Task, tasks: Tasks, unknown: Unknown) -> Iterator[Finding]:
    """Names that look like tasks, and are no tasks of the configuration."""
    rule = task.rule
    for name in dict.fromkeys(leaf.trigger for leaf in rule.leaves.values()):
        if name not in unknown:
            continue
        hint = did_you_mean(name, tasks)
        hint = hint.removeprefix(":") if hint.endswith("?") else ""
        hint = hint[:2].upper() + hint[2:]
        told = f"{name!r}, which is no task of this configuration"
        if name in rule.required.necessary:
            message = f"can never run: it waits for {told}.{hint}"
            yield finding("unknown-task", task, message, never_runs=True)
        elif name in rule.required.triggers:
            message = f"one of the ways in which it may run names {told}, and never holds.{hint}"
            yield finding("unknown-task", task, message)
        elif rule.unless is not None and name in rule.unless.necessary:
            message = f"its unless names {told}, so that it is never called off.{hint}"
            yield finding("unknown-task", task, message)
        else:
            message = f"its unless names {told}, which never calls it off.{hint}"
            yield finding("unknown-task", task, message)


# -- leaves that never hold ------------------------------------------------------------------------


def about_leaves(task: Task, tasks: Tasks) -> Iterator[Finding]:
    """Leaves of which it can be seen in the configuration that they never hold."""
    for leaf in task.rule.leaves.values():
        if reason := _never_holds(task, leaf, tasks):
            code, message = reason
            never = leaf.required and not task.required.holds(_AllBut(leaf.key))
            yield finding(
                code, task, f"can never run: {message}" if never else message, never_runs=never
            )


class _AllBut:
    """The keys of all leaves but one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __contains__(self, name: object) -> bool:
        return name != self._name


def _never_holds(task: Task, leaf: Leaf, tasks: Tasks) -> tuple[str, str] | None:
    """Why a leaf never holds: the code, and a sentence; None when it may."""
    path = impossible_path(leaf.where)
    if path is not None:
        return (
            "never-passes",
            f"no event passes the where of {key(leaf)}, as no value passes its test of"
            f" {names([path])}. Change that test; for one of several values write a list of them.",
        )
    if no_count(task, leaf):
        assert isinstance(leaf.count, Reference)
        naming = task.rule.leaves[leaf.count.key]
        return (
            "never-passes",
            f"how many of {key(leaf)} it takes is told by {leaf.count}, which the where of"
            f" {key(naming)} lets be no whole number of 0 or more. Change the where, or the count.",
        )
    other = tasks.get(leaf.trigger)
    if isinstance(leaf.count, int) and leaf.count > 1 and other is not None and runs_once(other):
        return (
            "counts-too-many",
            f"it counts {count(leaf.count, 'event')} of {names([other.name])}, which runs only"
            f" once. Give {names([other.name])} andEvery or everyTime, or do not count it.",
        )
    return None


def runs_once(task: Task) -> bool:
    """Whether a task has one instance that may succeed, whatever fires again."""
    return not task.rule.every and not task.rule.every_time


# -- what follows ----------------------------------------------------------------------------------


class _Possible:
    """The keys of a task's leaves that may hold: nothing says that they do not.

    :param dead: the triggers that never fire; it may change.
    """

    def __init__(self, task: Task, tasks: Tasks, dead: Container[str]) -> None:
        self._task, self._dead = task, dead
        leaves = task.rule.leaves.values()
        self._never = {leaf.key for leaf in leaves if _never_holds(task, leaf, tasks)}

    def __contains__(self, name: object) -> bool:
        if name in self._never:
            return False
        leaf = self._task.rule.leaves[str(name)]
        if isinstance(leaf.count, Reference):
            return leaf.count.key in self  # it may be 0: then only what says so has to come
        return leaf.trigger not in self._dead

    def runs(self) -> bool:
        """Whether the task may run, as far as its condition goes."""
        rule = self._task.rule
        return rule.required.holds(self) and (rule.until is None or rule.until.key in self)


def consequences(tasks: Tasks, never: set[str], unknown: Unknown) -> list[Finding]:
    """The tasks that wait for one that can never run, and so on; `never` gets them, too."""
    found = _by_one(tasks, never)
    dying = _Dead(set(tasks), unknown)
    alive = _alive(tasks, never, dying)
    dead = [name for name in tasks if name not in alive and name not in never]
    if not dead:
        return found

    def dead_ones(task: Task) -> list[str]:
        triggers = dict.fromkeys(leaf.trigger for leaf in task.required.leaves)
        return [name for name in triggers if name in dead]

    on_cycles: set[str] = set()
    for cycle in cycles({name: tasks[name] for name in dead}, dead_ones):
        found.append(cycle_finding(cycle))
        on_cycles.update(cycle)
    for name in dead:
        if name not in on_cycles:
            found.append(_without_way(tasks[name], tasks, dying))
    never.update(dead)
    return found


def _by_one(tasks: Tasks, never: set[str]) -> list[Finding]:
    found = []
    growing = True
    while growing:
        growing = False
        for task in tasks.values():
            blocking = [name for name in waits_for(task, tasks) if name in never]
            if task.name not in never and blocking:
                growing = True
                never.add(task.name)
                message = f"can never run: it waits for {names(blocking[:1])}, which can never run."
                found.append(finding("never-runs", task, message, never_runs=True))
    return found


def _alive(tasks: Tasks, never: Collection[str], dead: _Dead) -> set[str]:
    """The tasks that may run, one after the other; they leave `dead`."""
    possible = {
        name: _Possible(task, tasks, dead) for name, task in tasks.items() if name not in never
    }
    followers: dict[str, list[str]] = {}
    for name in possible:
        for trigger in tasks[name].required.triggers:
            if trigger in tasks:
                followers.setdefault(trigger, []).append(name)
    alive: dict[str, None] = {}
    queue = list(possible)
    for name in queue:
        if name not in alive and possible[name].runs():
            alive[name] = None
            dead.names.remove(name)
            queue += followers.get(name, ())
    return set(alive)


class _Dead:
    """Triggers that never fire: of tasks that never run, and of names that are no tasks."""

    def __init__(self, names: set[str], unknown: Unknown) -> None:
        self.names, self._unknown = names, unknown

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self._unknown


def _without_way(task: Task, tasks: Tasks, dead: _Dead) -> Finding:
    possible = _Possible(task, tasks, dead)
    lacking = [leaf.key for leaf in task.required.leaves if leaf.key not in possible]
    verb = "never comes" if len(lacking) == 1 else "never come"
    return finding(
        "never-runs",
        task,
        f"can never run: {some(lacking)} {verb}, and it does not hold without. Name other triggers,"
        " or lower atLeast.",
        never_runs=True,
    )
