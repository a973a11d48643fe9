"""An `unless` that reads as something else than it says."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from triggers_core.engine.conditions import Group, Leaf
from triggers_core.engine.configuration import Task
from triggers_core.texts import names
from triggers_core.views.linting.findings import Finding, finding, key, some
from triggers_core.views.linting.trees import certain_leaves, covers, key_of_trigger
from triggers_core.views.linting.waits import Tasks, waits_for
from triggers_core.views.linting.wheres import exclude_each_other, implies


def about_unless(task: Task, tasks: Tasks, stuck: Collection[str]) -> Iterator[Finding]:
    """What the `unless` of one task says and hardly means.

    :param stuck: tasks that can never run.
    """
    unless = task.rule.unless
    if unless is None:
        return
    yield from _holds_before(task, unless, tasks, stuck)
    if len(unless.members) > 1:
        yield _several(task, unless)
    yield from _ever_passed(task, unless)


def _holds_before(
    task: Task, unless: Group, tasks: Tasks, stuck: Collection[str]
) -> Iterator[Finding]:
    before = _certain(task, tasks, stuck)
    held = {
        leaf.key
        for leaf in unless.leaves
        if any(covers(leaf, other) for other in before.get(leaf.trigger, ()))
    }
    never = unless.holds(held)
    both = [leaf.key for leaf in unless.leaves if _also_required(task, leaf)]
    if both:
        message = (
            f"waits for {names(both)} and names {'it' if len(both) == 1 else 'them'} in unless"
        )
        if never:
            message = f"can never run: it {message}, which calls it off before it can start."
        else:
            message += ", which counts towards calling it off. Is that meant?"
        yield finding("after-and-unless", task, message, never_runs=never)
    elif never:
        fired = [leaf.key for leaf in unless.leaves if leaf.key in held]
        awaited = names(waits_for(task, tasks))
        until = f"{awaited} can have finished" if awaited else "its condition holds"
        yield finding(
            "never-runs",
            task,
            f"can never run: by the time {until}, {names(fired)}"
            f" {'has' if len(fired) == 1 else 'have'} fired, and called it off.",
            never_runs=True,
        )


def _also_required(task: Task, leaf: Leaf) -> bool:
    """Whether a leaf of `unless` is about the same events as a required one."""
    if leaf.required:
        return True
    return any(
        other.required and other.where is not None and implies(leaf, other) and implies(other, leaf)
        for other in task.rule.by_trigger.get(leaf.trigger, ())
    )


def _several(task: Task, unless: Group) -> Finding:
    shown = [next(iter(member.leaves)).key for member in unless.members]
    if all(isinstance(member, Leaf) for member in unless.members):
        cure = "fire one more trigger with each of them, and name that one alone"
        if not task.plain:
            cure = "write {'anyOf': […]} around them"
        return finding(
            "unless-several",
            task,
            f"its unless calls it off only once {some(shown)} have"
            f" {'both' if len(shown) == 2 else 'all'} fired. If one of them should be enough,"
            f" {cure}.",
        )
    return finding(
        "unless-several",
        task,
        f"its unless calls it off only once all {len(shown):,} of its conditions hold. If one of"
        " them should be enough, write {'anyOf': […]} around them.",
    )


def _ever_passed(task: Task, unless: Group) -> Iterator[Finding]:
    for leaf in unless.leaves:
        if leaf.where is None or _also_required(task, leaf):
            continue
        contrary = next(
            (
                other
                for other in task.rule.by_trigger[leaf.trigger]
                if other.required and other.where is not None and exclude_each_other(leaf, other)
            ),
            None,
        )
        trigger = key_of_trigger(leaf)
        message = (
            f"its unless calls it off once any event of {trigger} has ever passed the where of"
            f" {key(leaf)}, whatever the latest one says"
        )
        if contrary is not None:
            message += (
                f": also if another one passes {key(contrary)}, for which it waits, before or after"
            )
        yield finding(
            "unless-where",
            task,
            f"{message}. If what is so now should decide, fire another trigger for each state, or"
            " let the body look at the latest event ('keeping').",
        )


def _certain(task: Task, tasks: Tasks, stuck: Collection[str]) -> dict[str, list[Leaf]]:
    """Every leaf that holds, for certain, once a task has all that it waits for; by trigger."""
    certain: dict[str, list[Leaf]] = {}
    queue = [task]
    followed: set[str] = set()
    for each in queue:
        for leaf in certain_leaves(each.required).values():
            certain.setdefault(leaf.trigger, []).append(leaf)
            name = leaf.trigger
            if name in tasks and name not in followed and name not in stuck:
                followed.add(name)
                queue.append(tasks[name])
    return certain
