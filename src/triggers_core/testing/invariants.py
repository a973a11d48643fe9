"""What must hold of a session whatever happened to it: counters, indexes and references agree.

Every count in a header is compared with a recount, every index with a search through all
instances. Call `check_store` when nobody is writing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import MOST_DUE, Query
from triggers_core.engine.records import (
    STATUSES,
    UNRESOLVED,
    Event,
    Header,
    Instance,
    SessionState,
    Source,
    Status,
)
from triggers_core.engine.waits import wait_keys
from triggers_core.storages.base import Due, Store
from triggers_core.storages.groups import (
    MOST_COUNTED,
    failed_in,
    group_by_configuration,
    group_failed,
    group_waiting,
)
from triggers_core.storages.summaries import comes, in_coming_order, summarise
from triggers_core.testing.recount import check_words, idle

_PAGE = 100


def check_store(store: Store) -> None:
    """Check every session of a store, its due index and its fleet index.

    :raises AssertionError: says what disagrees with what, and in which session.
    """
    uids = [each.uid for each in store.sessions()]
    assert uids == sorted(uids), f"sessions() is not in the order of uids: {uids}"
    assert uids == _uids_by_page(store), "reading sessions() page by page gave other sessions"
    for uid in uids:
        check_session(store, uid)
    _check_due(store, uids)
    _check_fleet(store)


def check_session(store: Store, uid: str) -> None:
    """Check one session; see `check_store`."""
    snapshot = store.load(uid, Query())
    header, configuration = snapshot.header, snapshot.configuration
    assert header is not None, f"{uid}: sessions() lists it, load() has no header"
    instances, events = store.instances(uid), store.events(uid)
    _check_counts(uid, header, instances)
    _check_events(uid, store, header, events)
    _check_indexes(uid, store, configuration, header, instances)
    for instance in instances:
        _check_times(uid, instance)
        _check_taken(uid, instance, events)
    _check_outcomes(uid, instances, events)
    _check_replays(uid, instances)
    check_words(uid, header, configuration, instances, events)


def _check_counts(uid: str, header: Header, instances: list[Instance]) -> None:
    recount: dict[str, list[int]] = {}
    for instance in instances:
        counts = recount.setdefault(instance.task, [0] * len(STATUSES))
        counts[STATUSES.index(instance.status)] += 1
    assert header.counts == recount, f"{uid}: header.counts says {header.counts}, it is {recount}"
    totals = [sum(column) for column in zip(*recount.values(), strict=True)]
    assert header.totals == totals, f"{uid}: header.totals says {header.totals}, it is {totals}"
    logs = Counter(each.log_level for each in instances if each.has_open_logs)
    assert header.open_logs == dict(logs), f"{uid}: header.open_logs {header.open_logs} != {logs}"
    for task in recount:
        numbers = [each.number for each in instances if each.task == task]
        assert numbers == list(range(len(numbers))), f"{uid}: {task} has the numbers {numbers}"


def _check_events(uid: str, store: Store, header: Header, events: list[Event]) -> None:
    numbers = [event.number for event in events]
    assert numbers == list(range(header.events)), f"{uid}: {header.events} events, got {numbers}"
    ids = [event.id for event in events]
    assert len(set(ids)) == len(ids), f"{uid}: an event id was recorded twice: {sorted(ids)}"
    latest = {event.trigger: event.number for event in events}
    assert header.latest == latest, f"{uid}: header.latest says {header.latest}, it is {latest}"
    given = tuple(event_id for event_id in ids if not event_id.startswith("~"))
    known = store.load(uid, Query(event_ids=given)).known
    assert {key: event.number for key, event in known.items()} == {
        event.id: event.number for event in events if event.id in given
    }, f"{uid}: the index of event ids disagrees with the events"
    assert store.payloads(uid, numbers) == {each.number: bytes(each.payload) for each in events}
    assert store.load(uid, Query(all_events=True)).events == events


def _check_indexes(
    uid: str,
    store: Store,
    configuration: Configuration,
    header: Header,
    instances: list[Instance],
) -> None:
    unstarted = [each for each in instances if each.status is Status.UNSTARTED]
    wanted = {each.name: wait_keys(configuration.tasks[each.task], each) for each in unstarted}
    _check_moments(uid, store, unstarted)
    for trigger in {*header.latest, *configuration.listeners, *configuration.tasks}:
        found = set(store.load(uid, Query(triggers=(trigger,))).instances)
        expected = {name for name, triggers in wanted.items() if trigger in triggers}
        assert found == expected, f"{uid}: {trigger!r} is wanted by {expected}, loaded: {found}"
    for task in configuration.tasks:
        found = set(store.load(uid, Query(unstarted=(task,))).instances)
        expected = {each.name for each in unstarted if each.task == task}
        assert found == expected, f"{uid}: unstarted of {task}: {expected}, loaded: {found}"
    by_name = {each.name: each for each in instances}
    loaded = store.load(uid, Query(instances=tuple(by_name))).instances
    assert loaded == by_name, f"{uid}: load() and instances() disagree"
    for status in STATUSES:
        _same(uid, store.instances(uid, statuses=[status]), [status], instances)
    _same(uid, store.instances(uid, statuses=UNRESOLVED), UNRESOLVED, instances)
    for task in header.counts:
        listed = [each.name for each in store.instances(uid, task=task)]
        assert listed == [each.name for each in instances if each.task == task], (uid, task)
    logs = [each.name for each in store.instances(uid, unresolved_logs=True)]
    assert logs == [each.name for each in instances if each.has_open_logs], (uid, logs)


def _check_moments(uid: str, store: Store, unstarted: list[Instance]) -> None:
    by_moment: dict[float, set[str]] = {}
    for each in unstarted:
        if each.due_at is not None:
            by_moment.setdefault(each.due_at, set()).add(each.name)
    moments = sorted(by_moment)
    for moment in {0.0, *moments[:3], *moments[-3:]}:
        expected: list[set[str]] = []
        left = moments.copy()
        while left and left[0] <= moment and sum(map(len, expected)) < MOST_DUE:
            expected.append(by_moment[left.pop(0)])
        snapshot = store.load(uid, Query(moments=moment))
        where = f"{uid}: due up to {moment}"
        order = list(snapshot.instances)
        for some in expected:
            some_found, order = set(order[: len(some)]), order[len(some) :]
            assert some_found == some, f"{where}: missing {sorted(some - some_found)[:5]}"
        assert not order, f"{where}: too many, {order[:5]}"
        assert snapshot.next_moment == (left[0] if left else None), where


def _same(
    uid: str, listed: list[Instance], statuses: Iterable[Status], instances: list[Instance]
) -> None:
    chosen = tuple(statuses)
    expected = [each for each in instances if each.status in chosen]
    assert listed == expected, f"{uid}: instances(statuses={chosen}) is not what the status says"


def _check_times(uid: str, instance: Instance) -> None:
    where, status = f"{uid} {instance.name} ({instance.status})", instance.status
    held = instance.not_before is not None
    if status is Status.UNSTARTED:
        # A task that was replaced may have taken the condition back: then nobody looks at the end.
        waits = instance.met and instance.due_at is None
        assert not held or waits or instance.due_at == instance.not_before, (
            f"{where}: not due when its hold ends"
        )
    else:
        assert not held, f"{where}: held although it is not unstarted"
        under_way = status in (Status.SCHEDULED, Status.RUNNING)
        assert (instance.due_at is not None) == under_way, f"{where}: due_at {instance.due_at}"
    running = status is Status.RUNNING
    assert (instance.lease_until is not None) == running, f"{where}: {instance.lease_until=}"
    assert not running or instance.token, f"{where}: running without a token"
    waits = status in (Status.UNSTARTED, Status.SCHEDULED)
    assert not (waits and instance.token), f"{where}: it still has the token of another attempt"
    ended = instance.resolved or status is Status.FAILED
    assert (instance.ended_at is not None) == ended, f"{where}: ended_at {instance.ended_at}"


def _check_taken(uid: str, instance: Instance, events: list[Event]) -> None:
    known = {event.trigger for event in events}
    for seen in (instance.taken, instance.noted):
        for trigger, numbers in seen.items():
            triggers = {events[number].trigger for number in numbers}
            if trigger not in known:
                continue  # a key of its own (`as`)
            assert triggers == {trigger}, f"{uid} {instance.name}: {trigger!r} refers to {triggers}"


def _check_outcomes(uid: str, instances: list[Instance], events: list[Event]) -> None:
    """Each outcome and its cascade were committed once, and together."""
    by_name = {each.name: each for each in instances}
    for event in events:
        if event.source is Source.INSTANCE:
            assert event.cause in by_name, f"{uid}: event {event.number} comes from nowhere"
    cascades = Counter(
        (event.cause, event.trigger)
        for event in events
        if event.source is Source.INSTANCE and event.trigger == by_name[event.cause].task
    )
    for instance in instances:
        count = cascades[instance.name, instance.task]
        if instance.status is Status.FINISHED:
            assert count == 1, f"{uid}: {instance.name} finished, with {count} cascades"
        else:
            assert count == (instance.result >= 0), f"{uid}: {instance.name}: {count} cascades"
        if instance.result >= 0:
            event = events[instance.result]
            assert (event.trigger, event.cause) == (instance.task, instance.name), (uid, event)


def _check_replays(uid: str, instances: list[Instance]) -> None:
    by_name = {each.name: each for each in instances}
    for instance in instances:
        replayed = instance.status is Status.REPLAYED
        assert replayed == bool(instance.replayed_as), f"{uid}: {instance.name}: {instance}"
        if replayed:
            clone = by_name[instance.replayed_as]
            assert clone.parent == instance.name, f"{uid}: {clone.name} has another parent"
            assert clone.depth == instance.depth + 1, f"{uid}: {clone.name} has a wrong depth"
    parents = Counter(each.parent for each in instances if each.parent)
    twice = [name for name, count in parents.items() if count > 1]
    assert not twice, f"{uid}: replayed more than once: {twice}"


def _check_due(store: Store, uids: list[str]) -> None:
    times = {
        Due(uid, each.name): each.due_at
        for uid in uids
        for each in store.instances(uid)
        if each.due_at is not None
    }
    now = store.clock()
    overdue = {due for due, at in times.items() if at <= now}
    listed = store.due(len(times) + 1)
    assert set(listed) == overdue, f"due() lists {listed}, overdue are {overdue}"
    assert len(listed) == len(overdue), f"due() lists something twice: {listed}"
    order = [times[due] for due in listed]
    assert order == sorted(order), f"due() is not earliest first: {order}"
    begin, soonest, end = store.clock(), store.next_due(), store.clock()
    expected = min(times.values(), default=None)
    if expected is None:
        assert soonest is None, f"next_due() says {soonest}, nothing will be due"
    else:
        assert soonest is not None, "next_due() says never"
        earliest, latest = expected - end - 0.001, expected - begin + 0.001
        assert earliest < soonest < latest, f"next_due() {soonest} != {expected - begin}"


def _check_fleet(store: Store) -> None:
    summaries = {each.uid: each for each in store.sessions()}
    for uid, summary in summaries.items():
        snapshot = store.load(uid, Query())
        header = snapshot.header
        assert header is not None
        assert summary == summarise(uid, header), f"{uid}: sessions() and its header disagree"
        waits = _waits(header, snapshot.configuration, store.instances(uid))
        assert (header.waiting_since is not None) == waits, f"{uid}: waiting_since is wrong"
    failed = {uid for uid, each in summaries.items() if each.failed}
    waiting = {uid for uid, each in summaries.items() if each.waiting_since is not None}
    assert {each.uid for each in store.sessions(failed=True)} == failed
    assert {each.uid for each in store.sessions(waiting=True)} == waiting
    assert {each.uid for each in store.sessions(failed=True, waiting=True)} == failed | waiting
    _check_groups(store)


def _check_groups(store: Store) -> None:
    """Recount what sessions wait for, and what instances failed of."""
    found, failed, headers = [], [], dict[str, Header]()
    for session in store.sessions():
        header = store.load(session.uid, Query()).header
        if header is not None:
            headers[session.uid] = header
            found.append((header.missing, header.waiting_since))
        failed += failed_in(session.uid, store.instances(session.uid, statuses=[Status.FAILED]))
    waiting = group_waiting(found)
    assert store.waiting_groups(limit=None) == waiting, "waiting_groups() and the headers disagree"
    for group in waiting:
        assert len(store.waiting_for(group.missing, limit=None)) == group.sessions, group
    groups = group_failed(failed)
    assert store.failed_groups(limit=None) == groups, "failed_groups() and the instances disagree"
    listed = store.failed_instances(limit=None)
    assert listed == sorted(failed, key=lambda each: each.position), "failed_instances()"
    _check_uses(store, headers)
    _check_coming(store)


def _check_coming(store: Store) -> None:
    """What falls due by itself, within more seconds than anybody waits."""
    ahead = 1e9
    listed = store.coming(ahead, limit=None)
    stored = [
        (session.uid, each)
        for session in store.sessions()
        for each in store.instances(session.uid, statuses=[Status.UNSTARTED])
    ]
    now = store.now()  # some may have fallen due since they were listed
    expected = in_coming_order(each for each in stored if comes(each[1], now, ahead))
    assert [(uid, each.name) for uid, each in listed if comes(each, now, ahead)] == [
        (uid, each.name) for uid, each in expected
    ], "coming() and the instances disagree"


def _check_uses(store: Store, headers: dict[str, Header]) -> None:
    """Recount which configurations sessions have."""
    uses = store.configurations_in_use(limit=None)
    if uses is None:
        return
    expected = group_by_configuration(headers.items(), None, "", MOST_COUNTED)
    assert [(each.address, each.sessions, each.more) for each in uses] == [
        (each.address, each.sessions, each.more) for each in expected
    ], f"configurations_in_use() and the headers disagree: {uses}"
    for use in uses:
        assert headers[use.example].config == use.address, f"no session that has it: {use}"
        having = store.sessions_with(use.address, limit=None)
        assert having is not None, use
        assert len(having) >= use.sessions, f"sessions_with({use.address!r}): {having}"
        uids = [each.uid for each in having]
        assert uids == sorted(uids), f"sessions_with({use.address!r}) is not in the order of uids"


def _waits(header: Header, configuration: Configuration, instances: list[Instance]) -> bool:
    """Whether a session waits: it is open, nothing is under way, and something is unresolved."""
    unresolved = not header.config or any(
        not header.created(name) or header.unresolved(name) > idle(task, instances)
        for name, task in configuration.tasks.items()
    )
    under_way = header.total(Status.SCHEDULED, Status.RUNNING)
    return bool(unresolved and not under_way and header.state is SessionState.OPEN)


def _uids_by_page(store: Store) -> list[str]:
    uids: list[str] = []
    while page := store.sessions(limit=_PAGE, after=uids[-1] if uids else ""):
        uids += [each.uid for each in page]
    return uids
