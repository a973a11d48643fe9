"""Deadlines, holds, and what is fired when a task does not come to a success."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from triggers_core.engine.conditions import CALLED_OFF, LATE, REASONS
from triggers_core.engine.configuration import Task
from triggers_core.texts import names
from triggers_core.views.linting.findings import Finding, finding
from triggers_core.views.linting.waits import Tasks, runs_once, waits_for
from triggers_core.views.wording import span


def about_times(task: Task, tasks: Tasks) -> Iterator[Finding]:
    """What `waiting`, `within` and `everyTime` of one task say and hardly mean."""
    rule = task.rule
    if rule.at_most is not None and rule.waiting is not None and rule.at_most < rule.waiting:
        yield finding(
            "waiting-cut",
            task,
            f"its waiting ends after {span(rule.at_most)} at most, before its time of"
            f" {span(rule.waiting)} is over. Make atMost the longer one, or leave it out.",
        )
    if rule.within is not None:
        yield from _within(task, rule.within)
    if rule.every_time:
        for name in waits_for(task, tasks):
            if runs_once(tasks[name]):
                yield finding(
                    "every-time-once",
                    task,
                    f"its everyTime changes nothing: it waits for {names([name])}, which runs only"
                    f" once. Give {names([name])} everyTime (or andEvery), too.",
                )


def _within(task: Task, within: int) -> Iterator[Finding]:
    rule = task.rule
    horizon = rule.waiting
    if horizon is not None and rule.at_most is not None:
        horizon = min(horizon, rule.at_most)
    if horizon is not None and within < horizon:
        yield finding(
            "within-and-waiting",
            task,
            f"its within ({span(within)}) is shorter than its waiting ({span(horizon)}), and does"
            " not cut it short: a deadline is for the condition, and lifted once that holds. To"
            " wait less, shorten waiting; to call off what is held, let unless name what another"
            " task fires.",
        )
    elif _holds_with_one_event(task):
        yield finding(
            "within-idle",
            task,
            "its within never decides: the first event that it waits for makes its condition hold."
            " To be told when an event does not come, wait for what comes before it as well.",
        )


def _holds_with_one_event(task: Task) -> bool:
    rule = task.rule
    if rule.until is not None or rule.within_of is not None:
        return False
    required = rule.required.leaves
    return all(leaf.count is None or leaf.count == 1 for leaf in required) and all(
        rule.required.holds({leaf.key}) for leaf in required
    )


# -- otherwise -------------------------------------------------------------------------------------


def about_otherwise(task: Task, tasks: Tasks, heard: Collection[str]) -> Iterator[Finding]:
    """What the `otherwise` of one task says and hardly means.

    :param heard: the triggers that some task waits for.
    """
    rule = task.rule
    if not rule.otherwise:
        return
    if not fires_always(task):
        for why, lacking in ((LATE, "within"), (CALLED_OFF, "unless")):
            if why in rule.otherwise and not _may_come(task, why):
                verb = "late" if why == LATE else "called off"
                yield finding(
                    "otherwise-never",
                    task,
                    f"its otherwise never fires {names([rule.otherwise[why]])}: it has no"
                    f" {lacking}, so that it is never {verb}. Add {lacking}, or leave {why} out.",
                )
    unheard = [each for each in dict.fromkeys(rule.otherwise.values()) if each not in heard]
    if unheard:
        yield finding(
            "otherwise-unheard",
            task,
            f"its otherwise fires {names(unheard)}, for which no task waits. Name"
            f" {'it' if len(unheard) == 1 else 'them'} in the after of a task that answers, unless"
            " the application listens.",
        )


def fires_always(task: Task) -> bool:
    """Whether one trigger stands for all reasons, as when `otherwise` is a text."""
    otherwise = task.rule.otherwise
    return len(otherwise) == len(REASONS) and len(set(otherwise.values())) == 1


def _may_come(task: Task, why: str) -> bool:
    """Whether a task may end so, as far as its words go."""
    rule = task.rule
    if why == LATE:
        return rule.within is not None
    return why != CALLED_OFF or rule.unless is not None


def may_fire(task: Task, trigger: str, never: Collection[str]) -> bool:
    """Whether a task may fire a trigger because it does not come to a success.

    :param never: the tasks that can never run.
    """
    return any(
        fired == trigger
        and _may_come(task, why)
        and (why in (LATE, CALLED_OFF) or task.name not in never)
        for why, fired in task.rule.otherwise.items()
    )


def about_awaited_otherwise(task: Task, tasks: Tasks, never: Collection[str]) -> Iterator[Finding]:
    """Triggers for which a task waits, and which those that name them never fire.

    :param never: the tasks that can never run.
    """
    for trigger in dict.fromkeys(leaf.trigger for leaf in task.required.leaves):
        firing = [each for each in tasks.values() if trigger in each.rule.otherwise.values()]
        if firing and not any(may_fire(each, trigger, never) for each in firing):
            shown = firing[0]
            reasons = [why for why, fired in shown.rule.otherwise.items() if fired == trigger]
            yield finding(
                "waits-for-otherwise",
                task,
                f"waits for {names([trigger])}, which {names([shown.name])} would fire when it is"
                f" {_or(reasons)}, and never is. Give {names([shown.name])} what is missing, or"
                f" fire {names([trigger])} from the application.",
            )


def _or(reasons: list[str]) -> str:
    told = ["called off" if why == CALLED_OFF else why for why in reasons]
    *most, last = told
    return f"{', '.join(most)} or {last}" if most else last
