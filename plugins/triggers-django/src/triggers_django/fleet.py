"""What is read and written across sessions: what is due, the fleet index, leases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, F, Min, Q, QuerySet

from triggers_core.engine.records import Instance, Status
from triggers_core.storages.base import Due
from triggers_core.storages.groups import (
    MOST_COUNTED,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
    failed_in_order,
    group_text,
    group_triggers,
    in_order,
    in_use,
    waiting_group,
)
from triggers_core.storages.summaries import (
    SessionSummary,
    fleet_order,
    readable_coming,
    readable_summaries,
)
from triggers_django import models, transactions
from triggers_django.failures import AlreadyThere
from triggers_django.reading import chunks, rows
from triggers_django.transactions import asking, is_owned
from triggers_django.writing import KEPT_FOR

_PAGE: Final = 1_000


def due(connection: BaseDatabaseWrapper, at: float, limit: int | None) -> list[Due]:
    """The instances whose time has come; without those of sessions that somebody is changing.

    To wait for such a session would keep a sweep from all others; it is there in the next round.
    """
    overdue = _due(connection).filter(due_at__lte=at).order_by("due_at", "key")
    found: list[Due] = []
    seen = 0
    while limit is None or len(found) < limit:
        page = _PAGE if limit is None else min(limit - len(found), _PAGE)
        candidates = rows(overdue[seen : seen + page])
        free = _not_locked(connection, {session for session, *_ in candidates})
        found += [_named(*row) for session, *row in candidates if session in free]
        seen += len(candidates)
        if len(candidates) < page:
            break
    return found


def coming(
    connection: BaseDatabaseWrapper, after: float, until: float, limit: int | None
) -> list[tuple[str, Instance]]:
    """What falls due by itself; see `Store.coming`."""
    found = models.Instance.objects.using(connection.alias)
    unstarted = found.filter(due_at__gt=after, due_at__lte=until, status=Status.UNSTARTED.value)
    ordered = unstarted.order_by("due_at", "session__uid", "task", "number")
    return readable_coming(rows(ordered.values_list("session__uid", "record"), limit))


def due_ahead(connection: BaseDatabaseWrapper, after: float, limit: int | None) -> list[Due]:
    """The instances whose time lies after one, farthest first."""
    ahead = _due(connection).filter(due_at__gt=after).order_by("-due_at", "-key")
    return [_named(*row) for _, *row in rows(ahead, limit)]


def next_due(connection: BaseDatabaseWrapper) -> float | None:
    """When the next instance is due."""
    with asking():
        found = models.Instance.objects.using(connection.alias).aggregate(at=Min("due_at"))
    at: float | None = found["at"]
    return at


def _due(connection: BaseDatabaseWrapper) -> QuerySet[Any, Any]:
    found = models.Instance.objects.using(connection.alias)
    return found.values_list("session_id", "session__uid", "task", "number")


def _named(uid: str, task: str, number: int) -> Due:
    return Due(uid, f"{task}#{number}")


def _not_locked(connection: BaseDatabaseWrapper, sessions: set[int]) -> set[int]:
    features = connection.features
    # In a transaction of the application the locks would stay until its end.
    if connection.in_atomic_block or not features.has_select_for_update_skip_locked:
        return sessions
    free: set[int] = set()
    weak = features.has_select_for_no_key_update
    for some in chunks(sessions):
        with transactions.atomic(connection):
            asked = models.Session.objects.using(connection.alias).filter(id__in=some)
            locked = asked.select_for_update(skip_locked=True, no_key=weak)
            free.update(rows(locked.values_list("id", flat=True)))
    return free


# -- the fleet index ------------------------------------------------------------------------------


def sessions(
    connection: BaseDatabaseWrapper, failed: bool, waiting: bool, limit: int | None, after: str
) -> list[SessionSummary]:
    """The fleet index; see `Store.sessions`."""
    stored = models.Session.objects.using(connection.alias).filter(uid__gt=after)
    since = F("waiting_since").asc(nulls_last=True)
    queries = []
    if failed:
        some = stored.filter(failed__gt=0)
        queries.append(
            some.order_by("-failed", since, "uid") if waiting else some.order_by("-failed", "uid")
        )
    if waiting:
        queries.append(stored.filter(waiting_since__isnull=False).order_by("waiting_since", "uid"))
    found: dict[str, SessionSummary] = {}
    for query in queries or [stored.order_by("uid")]:
        found |= _summaries(query.values_list("uid", "header"), limit)
    return fleet_order(list(found.values()), failed, waiting, limit)


def _summaries(query: QuerySet[Any, Any], limit: int | None) -> dict[str, SessionSummary]:
    found: dict[str, SessionSummary] = {}
    seen = 0
    while limit is None or len(found) < limit:  # some may be unreadable
        page = rows(query) if limit is None else rows(query[seen : seen + limit - len(found)])
        found |= readable_summaries((uid, bytes(record)) for uid, record in page)
        seen += len(page)
        if limit is None or not page:
            break
    return found


def waiting_groups(
    connection: BaseDatabaseWrapper, limit: int | None, most: int
) -> list[WaitingGroup]:
    """The waiting sessions by what they lack; see `Store.waiting_groups`.

    From one group to the next by the index, whatever lies between: that of those that lack nothing
    first, among which are all that do not wait.
    """
    waiting = models.Session.objects.using(connection.alias).filter(waiting_since__isnull=False)
    columns = waiting.order_by("missing", "waiting_since").values_list("missing", "waiting_since")
    found: list[WaitingGroup] = []
    first = rows(columns.filter(missing=""), 1) or rows(columns.filter(missing__gt=""), 1)
    while first and len(found) < MOST_COUNTED:
        [(missing, since)] = first
        with asking():
            amount = waiting.filter(missing=missing)[: most + 1].count()
        found.append(waiting_group(group_triggers(missing), amount, since, most))
        first = rows(columns.filter(missing__gt=missing), 1)
    return in_order(found)[:limit]


def waiting_for(
    connection: BaseDatabaseWrapper, missing: Sequence[str], limit: int | None, after: float
) -> list[SessionSummary]:
    """The sessions of a group; see `Store.waiting_for`."""
    stored = models.Session.objects.using(connection.alias)
    waiting = stored.filter(missing=group_text(missing), waiting_since__isnull=False)
    if math.isfinite(after):
        waiting = waiting.filter(waiting_since__gte=after)
    ordered = waiting.order_by("waiting_since", "uid").values_list("uid", "header")
    return list(_summaries(ordered, limit).values())


def failed_groups(connection: BaseDatabaseWrapper, limit: int | None) -> list[FailedGroup]:
    """The failed instances by task and error; see `Store.failed_groups`."""
    failed = models.Instance.objects.using(connection.alias).filter(failed_at__isnull=False)
    grouped = failed.order_by().values("task", "error")
    counted = grouped.annotate(instances=Count("key"), since=Min("failed_at"))
    columns = ("task", "error", "instances", "since")
    return failed_in_order(
        FailedGroup(task=task, error=error, instances=amount, since=since)
        for task, error, amount, since in rows(counted.values_list(*columns))
    )[:limit]


def failed_instances(
    connection: BaseDatabaseWrapper,
    task: str | None,
    error: str | None,
    limit: int | None,
    after: FailedInstance | None,
) -> list[FailedInstance]:
    """The failed instances, in the order of their failures; see `Store.failed_instances`."""
    failed = models.Instance.objects.using(connection.alias).filter(failed_at__isnull=False)
    if task is not None:
        failed = failed.filter(task=task)
    if error is not None:
        failed = failed.filter(error=error)
    columns = ("session__uid", "task", "number", "error", "failed_at")
    found: list[FailedInstance] = []
    if after is not None:  # the rest of those of the same moment
        found = _failed(failed.filter(failed_at=after.at).values_list(*columns), None)
        found = [each for each in found if each.position > after.position]
        failed = failed.filter(failed_at__gt=after.at)
    if limit is None or len(found) < limit:
        more = None if limit is None else limit - len(found)
        found += _failed(failed.values_list(*columns), more)
    return found[:limit]


def _failed(query: QuerySet[Any, Any], limit: int | None) -> list[FailedInstance]:
    """The first of a query, and all that failed at the same moment as the last of them."""
    ordered = query.order_by("failed_at", "key")
    found = rows(ordered, limit)
    if limit is not None and len(found) == limit and found:
        same = rows(ordered.filter(failed_at=found[-1][-1]))
        found = [each for each in found if each[-1] < found[-1][-1]] + same
    instances = [
        FailedInstance(uid=uid, instance=f"{task}#{number}", error=error, at=at)
        for uid, task, number, error, at in found
    ]
    return sorted(instances, key=lambda each: each.position)


def find_event(
    connection: BaseDatabaseWrapper, event_id: str, limit: int | None
) -> list[tuple[str, int]]:
    """Where an event of the application's id is; see `Store.find_event`."""
    ids = models.EventId.objects.using(connection.alias).filter(given=event_id)
    numbers = {int(key.partition(":")[0]): n for key, n in rows(ids.values_list("key", "number"))}
    found: list[tuple[str, int]] = []
    stored = models.Session.objects.using(connection.alias)
    for some in chunks(numbers):
        uids = rows(stored.filter(id__in=some).values_list("id", "uid"))
        found += [(uid, numbers[session]) for session, uid in uids]
    return sorted(found)[:limit]


def configurations_in_use(
    connection: BaseDatabaseWrapper, limit: int | None, after: str, most: int
) -> list[ConfigurationInUse]:
    """The configurations that sessions have; see `Store.configurations_in_use`."""
    stored = models.Session.objects.using(connection.alias)
    known = models.Configuration.objects.using(connection.alias)
    found: list[ConfigurationInUse] = []
    while limit is None or len(found) < limit:
        page = rows(known.filter(hash__gt=after).order_by("hash").values_list("hash"), _PAGE)
        for (address,) in page:
            having = stored.filter(config=address)
            with asking():
                amount = having[: most + 1].count()
            # Unused ones stay for a while.
            for (uid,) in rows(having.order_by("uid").values_list("uid"), 1) if amount else ():
                found.append(in_use(address, amount, most, uid))
            if limit is not None and len(found) == limit:
                break
        if len(page) < _PAGE:
            break
        after = page[-1][0]
    return found[:limit]


def sessions_with(
    connection: BaseDatabaseWrapper, address: str, limit: int | None, after: str
) -> list[SessionSummary]:
    """The sessions that have one configuration; see `Store.sessions_with`."""
    stored = models.Session.objects.using(connection.alias)
    having = stored.filter(config=address, uid__gt=after).order_by("uid")
    return list(_summaries(having.values_list("uid", "header"), limit).values())


def headers(connection: BaseDatabaseWrapper, after: str) -> list[tuple[str, bytes]]:
    """Some uids after one, in order, each with its header as stored."""
    stored = models.Session.objects.using(connection.alias).filter(uid__gt=after).order_by("uid")
    found = rows(stored.values_list("uid", "header"), _PAGE)
    return [(uid, bytes(header)) for uid, header in found]


def drop_configurations(connection: BaseDatabaseWrapper, now: float) -> None:
    """Erase the configurations that no session has, and none has adopted lately."""
    transactions.take_turn(connection)
    used = models.Session.objects.using(connection.alias).values("config")
    old = models.Configuration.objects.using(connection.alias).exclude(hash__in=used)
    old = old.filter(Q(used_at__lt=now - KEPT_FOR) | Q(used_at__gt=now + KEPT_FOR))
    with asking():
        old.delete()


# -- leases ---------------------------------------------------------------------------------------


def acquire_lease(
    connection: BaseDatabaseWrapper,
    name: str,
    owner: str,
    seconds: float,
    now: Callable[[], float],
) -> bool:
    """Take or renew a lease; whether nobody else has it.

    :raises AlreadyThere: somebody else has taken it right now.
    """
    transactions.take_turn(connection)
    stored = models.Lease.objects.using(connection.alias)
    found = rows(
        stored.filter(name=name).select_for_update().values_list("owner", "until", "seconds")
    )
    at = now()
    values = {"owner": owner, "until": at + seconds, "seconds": seconds}
    if found:
        [(holder, until, asked_for)] = found
        # One that ends later than its holder (or whoever asks now) asks for was written by a clock
        # that was ahead.
        if holder != owner and at < until <= at + max(asked_for, seconds):
            return False
        with asking():
            stored.filter(name=name).update(**values)
        return True
    try:
        with asking(), transactions.atomic(connection, savepoint=not is_owned()):
            models.Lease(name=name, **values).save(using=connection.alias, force_insert=True)
    except IntegrityError as error:
        raise AlreadyThere from error
    return True


def release_lease(connection: BaseDatabaseWrapper, name: str, owner: str) -> None:
    """Give a lease back."""
    transactions.take_turn(connection)
    with asking():
        models.Lease.objects.using(connection.alias).filter(name=name, owner=owner).delete()
