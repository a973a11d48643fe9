"""The hook: whatever commit resolves the last task also fires the trigger."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from triggers_core import hookimpl
from triggers_core.engine.additions import CommitPlan, CommitSession
from triggers_core.engine.configuration import Task
from triggers_core.engine.plugin_options import PluginOptions
from triggers_core.engine.records import STATUSES, Status
from triggers_core.texts import count, listed, names
from triggers_finalize.options import NAME, Options
from triggers_finalize.waiting import (
    cannot_run,
    exceptions,
    is_optional,
    may_keep_open,
    tasks_waiting_for,
)

_CONFIGURATIONS = 256  # distinct ones whose waiting tasks are remembered in a process


@hookimpl(trylast=True)  # what other plugins add to the commit may open the session again
def before_commit(session: CommitSession, plan: CommitPlan) -> None:
    """Fire the trigger if this commit leaves nothing unresolved."""
    options = session.options(NAME, Options)
    if is_finalized(session, options):
        plan.fire(options.trigger, summary(session))


def is_finalized(session: CommitSession, options: Options) -> bool:
    """Whether everything that has to be resolved is, and the trigger has not fired yet."""
    if session.has_fired(options.trigger) or not session.tasks:
        return False
    if options.level is not None and any(
        level >= options.level for level in session.unresolved_logs
    ):
        return False
    relevant = _relevant(session, options)
    unresolved = _unresolved(options.resolved)
    begun = False
    for name, expected in relevant.items():
        if not expected.now(session):
            continue
        if session.created(name):
            begun = True
            if _open(session, name, unresolved):
                return False
        elif not expected.optional:
            return False
    return begun


def _open(session: CommitSession, task: str, unresolved: tuple[Status, ...]) -> int:
    """Instances of a task that keep the session open: none that waits for the next time only."""
    idle = session.idle(task) if Status.UNSTARTED in unresolved else 0
    return session.count(task, *unresolved) - idle


class _Expected(NamedTuple):
    """A task that is waited for."""

    task: Task
    optional: bool
    """Whether it need not begin."""
    exceptions: frozenset[str]
    """The triggers without which it cannot run, and that say that another came to no success."""

    def now(self, session: CommitSession) -> bool:
        """Whether it may run yet; if not, that it has begun means nothing."""
        if not self.exceptions:
            return True
        absent = {each for each in self.exceptions if not session.has_fired(each)}
        return not cannot_run(self.task, absent)


@lru_cache(maxsize=16)
def _unresolved(resolved: frozenset[Status]) -> tuple[Status, ...]:
    """The statuses that keep a session open."""
    return tuple(status for status in STATUSES if status not in resolved)


def _relevant(session: CommitSession, options: Options) -> Mapping[str, _Expected]:
    """The tasks that are waited for."""
    key = (session.config, options.trigger)
    relevant = _cached.get(key)
    if relevant is None:
        waiting = tasks_waiting_for(options.trigger, session.tasks)
        exceptional = exceptions(session.tasks)
        relevant = {
            name: _Expected(task, is_optional(task), exceptional.get(name, frozenset()))
            for name, task in session.tasks.items()
            if name not in waiting
        }
        if len(_cached) >= _CONFIGURATIONS:
            _cached.clear()
        _cached[key] = relevant
    return relevant


@hookimpl
def declare_directives() -> Mapping[str, Any]:
    """``"optional": true``: the session ends without the task, should it never begin."""
    return {"optional": bool}


@hookimpl
def explain_trigger(session: CommitSession, trigger: str) -> str | None:
    """What keeps the session open, task by task."""
    options = session.options(NAME, Options)
    if trigger != options.trigger:
        return None
    expected = _relevant(session, options)
    relevant = {name: each for name, each in expected.items() if each.now(session)}
    unresolved = _unresolved(options.resolved)
    to_begin = [
        name for name, each in relevant.items() if not each.optional and not session.created(name)
    ]
    to_end = [name for name in relevant if _open(session, name, unresolved)]
    needs = []
    if to_begin:
        verb = "has" if len(to_begin) == 1 else "have"
        needs.append(f"{names(to_begin)} {verb} begun and ended")
    if to_end:
        needs.append(f"{names(to_end)} {'has' if len(to_end) == 1 else 'have'} ended")
    if not any(session.created(name) for name in relevant) and not to_begin:
        needs.append("a task has begun and ended")
    logs = sum(
        amount
        for level, amount in session.unresolved_logs.items()
        if options.level is not None and level >= options.level
    )
    if logs:
        needs.append(f"what {count(logs, 'instance')} logged is resolved")
    return f"comes once {listed(needs)}" if needs else "comes with the next change"


@hookimpl
def lint_configuration(tasks: Mapping[str, Task], options: PluginOptions) -> dict[str, str]:
    """Tasks that may never begin, and would keep the session open for ever."""
    trigger = options.read(NAME, Options).trigger
    return {
        name: f"may never begin: nothing else waits for {names([every])}. As long as it has not"
        f" begun, {names([trigger])} does not fire. If that is not meant, it should say"
        ' "optional": true.'
        for name, every in may_keep_open(trigger, tasks).items()
    }


def summary(session: CommitSession) -> dict[str, Any]:
    """The kwargs of the trigger: how many events, and each task's instances by status."""
    return {
        "events": session.events,
        "tasks": {
            name: {
                status.value: count for status in STATUSES if (count := session.count(name, status))
            }
            for name in session.tasks
            if session.created(name)
        },
    }


_cached: dict[tuple[str, str], Mapping[str, _Expected]] = {}
"""(configuration, trigger) → tasks that are waited for. A configuration never changes."""
