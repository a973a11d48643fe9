"""The loop that drives a change through a storage, and what storages answer it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import MOST_DUE, Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Header, Instance, Status
from triggers_core.engine.waits import moment_key, moment_of
from triggers_core.exceptions import UnknownSchema

_T = TypeVar("_T")


def drive(
    command: Command[_T], uid: str, rules: Rules, load: Callable[[Query], Snapshot]
) -> Plan[_T]:
    """Drive a change to its plan: load what it asks for until it returns one.

    :raises UnknownSchema: the session cannot be read; names it.
    """
    steps = command.decide(uid, rules)
    try:
        query = next(steps)
        while True:
            query = steps.send(load(query))
    except StopIteration as done:
        plan: Plan[_T] = done.value
        return plan
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__


def may_wait(header: Header, configuration: Configuration, trigger: str) -> bool:
    """Whether any instance can be waiting for the trigger; if not, a storage need not look."""
    for task in configuration.listeners.get(trigger, ()):
        if header.count(task.name, Status.UNSTARTED):
            return True
    return False


def add_due(
    snapshot: Snapshot, index: Iterable[tuple[str, Instance | None]], moments: float
) -> None:
    """Answer `Query.moments` from an index, which is read no further than needed.

    :param index: moment keys and their instances, earliest first; None where there is none. What an
        older process has left there is passed over: it knows of no such index.
    """
    latest, last, found = moment_key(moments), "", 0
    for key, instance in index:
        if key > latest or (found >= MOST_DUE and key != last):
            snapshot.next_moment = moment_of(key)
            return
        if instance is None or instance.status is not Status.UNSTARTED or instance.due_at is None:
            continue
        if moment_key(instance.due_at) <= latest:
            snapshot.instances[instance.name] = instance
            last, found = key, found + 1
