"""The hook: whatever commit resolves the last task also fires the trigger."""

from __future__ import annotations

from typing import Any

from triggers_core import hookimpl
from triggers_core.commit import CommitPlan, CommitSession
from triggers_core.records import STATUSES
from triggers_finalize.options import Options, read_options
from triggers_finalize.waiting import tasks_waiting_for

_CONFIGURATIONS = 256  # distinct ones whose waiting tasks are remembered in a process


@hookimpl(trylast=True)  # what other plugins add to the commit may open the session again
def before_commit(session: CommitSession, plan: CommitPlan) -> None:
    """Fire the trigger if this commit leaves nothing unresolved."""
    options = read_options(session.options.get("finalize", {}))
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
    key = (session.config, options.trigger)
    ignored = _ignored.get(key)
    if ignored is None:
        ignored = tasks_waiting_for(options.trigger, session.tasks)
        if len(_ignored) >= _CONFIGURATIONS:
            _ignored.clear()
        _ignored[key] = ignored
    relevant = [name for name in session.tasks if name not in ignored]
    unresolved = [status for status in STATUSES if status not in options.resolved]
    return bool(relevant) and all(
        session.created(name) and not session.count(name, *unresolved) for name in relevant
    )


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


_ignored: dict[tuple[str, str], frozenset[str]] = {}
"""(configuration, trigger) → tasks that are not waited for. A configuration never changes."""
