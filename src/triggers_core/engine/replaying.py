"""A failed instance is replayed: its clone takes over."""

from __future__ import annotations

import msgspec

from triggers_core.engine.leaving import leave
from triggers_core.engine.machine import ABANDONED, Draft
from triggers_core.engine.records import Instance, Status
from triggers_core.engine.standing import holding, watch


def clone(
    draft: Draft,
    failed: Instance,
    *,
    replaced: bytes | None,
    retries: int,
    cooldown: float | None,
    honour_unless: bool,
) -> Instance:
    """Replay a failed instance: it becomes `replayed`, its clone is scheduled or held.

    :param replaced: encoded kwargs in place of the events' ones; None keeps those.
    :param cooldown: seconds to hold the clone; None or 0 schedules it now.
    :param honour_unless: let what has fired of `unless` meanwhile abandon it.
    """
    draft.set_status(failed, Status.REPLAYED)
    task = draft.configuration.tasks[failed.task]
    rule = task.rule
    clone = draft.new_instance(task)
    draft.add(clone)
    clone.taken = {key: list(numbers) for key, numbers in failed.taken.items()}
    clone.noted = {key: list(numbers) for key, numbers in failed.noted.items()}
    clone.extents, clone.counts = dict(failed.extents), dict(failed.counts)
    clone.until, clone.told = failed.until, failed.told
    clone.created_by, clone.left = failed.created_by, failed.left
    clone.scheduled_by, clone.chain = failed.scheduled_by, failed.chain
    clone.parent, clone.depth, clone.retries = failed.name, failed.depth + 1, retries
    failed.replayed_as = clone.name
    clone.replaced = failed.replaced
    if replaced is None:
        clone.key = failed.key
    else:
        clone.replaced = msgspec.Raw(replaced)
    if honour_unless and rule.unless is not None:
        for leaf in rule.unless.leaves:
            number = draft.latest(leaf)
            if leaf.own and number >= 0 and leaf.key not in clone.noted:
                clone.noted[leaf.key] = [number]
        if rule.unless.holds(holding(rule, clone, draft.header)):
            leave(draft, task, clone, ABANDONED, None)
            return clone
    if cooldown:
        draft.hold(clone, cooldown)
        if rule.shared:
            held = holding(rule, clone, draft.header)
            clone.watched = watch(rule, clone, draft.header, held)
    else:
        clone.moment = draft.at
        draft.schedule(clone)
    return clone
