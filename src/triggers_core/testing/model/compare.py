"""Compares everything that a storage shows of its sessions with what the model says they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from triggers_core import payloads
from triggers_core.engine.machine import has_replaced_kwargs
from triggers_core.engine.metadata import read_metadata
from triggers_core.engine.protocol import Query
from triggers_core.engine.records import STATUSES, Event, Header, Instance, SessionState, Status
from triggers_core.storages.base import Store
from triggers_core.storages.session import SessionStorage
from triggers_core.testing.model.session import WARNING, Dict, Session


def check_absent(store: Store, uid: str) -> None:
    """Nothing is left under the uid."""
    assert store.load(uid, Query()).header is None
    assert store.events(uid) == []
    assert store.instances(uid) == []


def check_session(store: Store, uid: str, session: Session, names: Collection[str]) -> None:
    """The records of a session, its indexes, and what its application reads of it.

    :param names: every trigger and task that there can be.
    """
    snapshot = store.load(uid, Query())
    assert snapshot.header is not None
    check_header(snapshot.header, session)
    events, instances = store.events(uid), store.instances(uid)
    assert [event_of(each) for each in events] == session.events
    assert store.events(uid, start=1, limit=2) == events[1:3]
    assert {each.name: instance_of(each) for each in instances} == {
        each["name"]: each for each in session.instances
    }
    assert instances == sorted(instances, key=lambda each: (each.task, each.number))
    check_indexes(store, uid, session, names)
    check_view(SessionStorage.on(store, uid), session)


def check_header(header: Header, session: Session) -> None:
    """The header of a session: its counts, its latest events, since when it waits."""
    counts: dict[str, Counter[str]] = {}
    totals: Counter[str] = Counter()
    for instance in session.instances:
        counts.setdefault(instance["task"], Counter())[instance["status"]] += 1
        totals[instance["status"]] += 1
    assert header.generation == session.generation
    assert header.state is (SessionState.OPEN if session.open else SessionState.CLOSED)
    assert header.config_version == session.version
    assert header.events == len(session.events)
    assert header.latest == session.latest()
    assert header.counts == {task: by_status(each) for task, each in counts.items()}
    assert header.totals == (by_status(totals) if totals else [])
    assert header.open_logs == Counter(each["log_level"] for each in with_open_logs(session))
    assert header.waiting_since == session.waiting_since
    assert header.updated_at == session.updated_at


def check_indexes(store: Store, uid: str, session: Session, names: Collection[str]) -> None:
    """What can be asked for by trigger, by status and by unresolved logs."""
    for name in names:
        waiting = store.load(uid, Query(triggers=(name,))).instances
        assert waiting.keys() == session.waiting_for(name), name
        unstarted = store.load(uid, Query(unstarted=(name,))).instances
        assert unstarted.keys() == {
            each["name"]
            for each in session.instances
            if each["task"] == name and each["status"] == "unstarted"
        }
    for statuses in ({Status.FAILED}, {Status.FINISHED, Status.UNSTARTED}):
        found = store.instances(uid, statuses=statuses)
        assert {each.name for each in found} == {
            each["name"] for each in session.instances if each["status"] in statuses
        }
    logs = store.instances(uid, unresolved_logs=True)
    assert {each.name for each in logs} == {each["name"] for each in with_open_logs(session)}


def check_view(view: SessionStorage, session: Session) -> None:
    """What an application reads: tasks, latest kwargs, unresolved tasks."""
    assert {name: task.as_dict() for name, task in view.tasks.items()} == {
        name: {key: value for key, value in task.items() if value or key == "after"}
        for name, task in session.tasks.items()
    }
    assert list(view.tasks) == list(session.tasks)
    assert view.latest_kwargs == {
        trigger: session.events[number]["kwargs"] for trigger, number in session.latest().items()
    }
    assert [task.name for task in view.get_unresolved_tasks()] == session.unresolved_tasks()


def check_fleet(store: Store, model: Mapping[str, Session], now: float) -> None:
    """The fleet index, and the list of what is due."""
    failed = {uid: count(session, "failed") for uid, session in model.items()}
    most_failed = sorted((uid for uid in model if failed[uid]), key=lambda u: (-failed[u], u))
    since = {uid: s.waiting_since for uid, s in model.items() if s.waiting_since is not None}
    longest = sorted(since, key=lambda uid: (since[uid], uid))
    assert [each.uid for each in store.sessions()] == sorted(model)
    assert [each.uid for each in store.sessions(failed=True)] == most_failed
    assert [each.uid for each in store.sessions(waiting=True)] == longest
    assert [each.uid for each in store.sessions(waiting=True, limit=1)] == longest[:1]
    either = store.sessions(failed=True, waiting=True)
    assert sorted(each.uid for each in either) == sorted({*most_failed, *longest})
    for summary in store.sessions():
        session = model[summary.uid]
        assert summary.generation == session.generation
        assert summary.failed == failed[summary.uid]
        assert summary.unstarted == count(session, "unstarted")
        assert summary.under_way == count(session, "scheduled", "running")
        assert summary.events == len(session.events)
        assert store.sessions(after=summary.uid) == [
            each for each in store.sessions() if each.uid > summary.uid
        ]
    times = all_due(model)
    found = store.due()
    assert sorted((d.uid, d.instance) for d in found) == sorted(
        key for key, at in times.items() if at <= now
    )
    moments = [times[each.uid, each.instance] for each in found]
    assert moments == sorted(moments)
    assert store.due(limit=1) == found[:1] or moments[0] == moments[1]
    assert store.next_due() == (min(times.values()) - now if times else None)


def all_due(model: Mapping[str, Session]) -> dict[tuple[str, str], float]:
    """(uid, instance) → when the sweep should look after it."""
    return {
        (uid, instance["name"]): instance["due"]
        for uid, session in model.items()
        for instance in session.instances
        if instance["due"] is not None
    }


def count(session: Session, *statuses: str) -> int:
    """How many instances of a session have one of the statuses."""
    return sum(instance["status"] in statuses for instance in session.instances)


def by_status(counts: Mapping[str, int]) -> list[int]:
    """Counts in the order of the statuses, as records keep them."""
    return [counts.get(status.value, 0) for status in STATUSES]


def with_open_logs(session: Session) -> list[Dict]:
    """The instances that logged a warning, or worse, which nobody has resolved."""
    return [
        instance
        for instance in session.instances
        if instance["log_level"] >= WARNING and not instance["logs_resolved"]
    ]


def event_of(record: Event) -> Dict:
    """An event of a storage in the model's form."""
    return {
        "number": record.number,
        "id": record.id,
        "trigger": record.trigger,
        "kwargs": payloads.decode(bytes(record.payload)),
        "cause": record.cause,
        "chain": record.chain,
        "at": record.at,
    }


def instance_of(record: Instance) -> Dict:
    """An instance of a storage in the model's form."""
    replaced = payloads.decode(bytes(record.replaced)) if has_replaced_kwargs(record) else None
    notes = {k: v for k, v in read_metadata(record).items() if k.startswith("note")}
    return {
        "name": record.name,
        "task": record.task,
        "status": record.status.value,
        "due": record.due_at,
        "lease": record.lease_until,
        "hold": record.not_before,
        "taken": first_of_each(record.taken),
        "noted": first_of_each(record.noted),
        "by": record.scheduled_by,
        "chain": record.chain,
        "key": record.key,
        "kwargs": replaced,
        "parent": record.parent,
        "depth": record.depth,
        "retries": record.retries,
        "attempt": record.attempt,
        "token": record.token,
        "configured": record.config_version,
        "redispatches": record.redispatches,
        "result": record.result,
        "request": record.request,
        "replayed_as": record.replayed_as,
        "notes": [{name: value} for name, value in notes.items()],
        "log_level": record.log_level,
        "logs_resolved": record.logs_resolved,
    }


def first_of_each(seen: Mapping[str, list[int]]) -> dict[str, int]:
    """The event of each trigger that an instance keeps."""
    assert all(len(numbers) == 1 for numbers in seen.values())  # today's rules keep the first
    return {trigger: numbers[0] for trigger, numbers in seen.items()}
