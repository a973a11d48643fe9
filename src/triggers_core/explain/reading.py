"""Reading what an explanation tells of, all of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from triggers_core.engine.additions import CommitSession
from triggers_core.engine.machine import Draft
from triggers_core.engine.protocol import Query, Rules, Snapshot
from triggers_core.engine.records import Instance
from triggers_core.engine.standing import prospect
from triggers_core.exceptions import PluginMissing, SessionNotFound, TaskNotFound, UnknownSchema
from triggers_core.explain.data import Explanation
from triggers_core.explain.progress import numbers_shown
from triggers_core.explain.telling import Words, shown
from triggers_core.explain.unheard import about_unheard, candidates, find_unheard
from triggers_core.storages.session import SessionStorage
from triggers_core.texts import did_you_mean

Ask = Callable[[CommitSession, str], str | None]
"""Asks plugins what a trigger that they fire waits for."""

_MAX_READS = 5  # reads of a session that changes meanwhile


def explain(
    storage: SessionStorage,
    task_name: str | None = None,
    rules: Rules | None = None,
    ask: Ask | None = None,
    instance_name: str | None = None,
) -> Explanation:
    """Explain one task of a session, or all of them.

    :param instance_name: describe this instance of `task_name`, and no other one.
    :param rules: of the application, for `ask`.
    :param ask: answers what a trigger that a plugin fires waits for; see `explain_trigger`.
    :raises SessionNotFound: nothing has been stored under the uid.
    :raises TaskNotFound: the session has no such task.
    """
    store, uid = storage.store, storage.uid
    for _ in range(_MAX_READS):  # the parts have to be of one moment
        snapshot = store.load(uid, Query())
        found = _by_task(store.instances(uid, task=task_name if instance_name else None))
        if instance_name is not None:
            found = {
                task: [each for each in instances if each.name == instance_name]
                for task, instances in found.items()
            }
        events = store.events_by_number(uid, _shown_events(snapshot, found, task_name))
        after = store.load(uid, Query())
        same = after.header == snapshot.header or (
            after.header is not None
            and snapshot.header is not None
            and after.header.generation == snapshot.header.generation
            and after.header.version == snapshot.header.version
        )
        snapshot = after
        if same:
            break
    header, tasks = snapshot.header, snapshot.configuration.tasks
    if header is None:
        raise SessionNotFound(f"there is no session {storage.uid!r}: nothing has been fired yet")
    if task_name is not None and task_name not in tasks:
        raise TaskNotFound(
            f"{storage.uid}: the session has no task {task_name!r}{did_you_mean(task_name, tasks)}"
        )
    chosen = list(tasks.values()) if task_name is None else [tasks[task_name]]
    asked: Callable[[str], str | None] | None = None
    if ask is not None:
        try:
            session = CommitSession(Draft(snapshot, rules or Rules()), uid)
            asked = partial(ask, session)
        except (PluginMissing, UnknownSchema):
            pass  # whoever could answer is not here
    words = Words(header, snapshot.now, events, tasks, asked)
    explained = [words.task(task, found.get(task.name, [])) for task in chosen]
    unheard = find_unheard(snapshot.configuration, header, events)
    if task_name is not None:
        own = tasks[task_name].listens_to
        unheard = [each for each in unheard if each.did_you_mean in own]
    return Explanation(
        uid=uid,
        state=words.session(),
        tasks=explained,
        unheard=unheard,
        notes=[*words.notes(), *about_unheard(unheard, words.times)],
    )


def _by_task(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.task, []).append(instance)
    return found


def _shown_events(
    snapshot: Snapshot, found: Mapping[str, list[Instance]], task_name: str | None
) -> set[int]:
    """The numbers of the events that an explanation tells of."""
    configuration, header = snapshot.configuration, snapshot.header
    if header is None:
        return set()
    numbers = set(candidates(configuration, header).values())
    for name in configuration.tasks if task_name is None else (task_name,):
        task = configuration.tasks.get(name)
        if task is None:
            continue
        instances = shown(found.get(name, ()))
        if not instances and not task.plain:
            instances = [prospect(name, task.rule, header)]
        for instance in instances:
            numbers.update(numbers_shown(task.rule, instance, header))
    return {number for number in numbers if number >= 0}
