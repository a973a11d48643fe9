"""The sweep: finds what is overdue in a store and sets it going again, whoever left it behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

from triggers_core.attempts import Recover, Recovered
from triggers_core.exceptions import TriggersError
from triggers_core.storages.base import Due, Store

if TYPE_CHECKING:
    from triggers_core.manager import TriggerManager

logger = logging.getLogger(__name__)

LEASE = "sweep"
"""Name of the lease that keeps several processes from sweeping one store at a time."""


def recover(
    store: Store, manager_of: Callable[[str], TriggerManager], limit: int = 1_000
) -> list[Recovered]:
    """Look after every overdue instance of a store, session by session.

    A session that cannot be changed (a plugin is missing, say) is logged and does not keep the
    others from being looked after.

    :param manager_of: makes the manager of a uid.
    :param limit: instances to look after at most.
    """
    recovered: list[Recovered] = []
    stubborn: set[Due] = set()
    while len(recovered) < limit:
        # What cannot be recovered stays overdue, and must not hide what is due after it.
        page = [due for due in store.due(limit + len(stubborn)) if due not in stubborn]
        before = len(stubborn)
        for uid, instances in groupby(sorted(page, key=_uid), key=_uid):
            overdue = list(instances)
            try:
                names = tuple(due.instance for due in overdue)
                recovered.append(recover_session(manager_of(uid), names))
            except TriggersError:
                logger.exception("%s: the sweep could not recover it", uid)
                stubborn.update(overdue)
        if len(stubborn) == before or len(page) < limit:
            break
    return recovered


def _uid(due: Due) -> str:
    return due.uid


def recover_session(manager: TriggerManager, instances: tuple[str, ...]) -> Recovered:
    """Look after the overdue ones among a session's instances, and dispatch them."""
    plan = manager.commit(Recover(instances=instances))
    recovered: Recovered = plan.outcome
    again = [each for each in recovered.dispatch if each[0] not in plan.scheduled]
    manager.dispatch(recovered.generation, again, plan.tasks)
    return recovered
