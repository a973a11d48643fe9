"""What one commit writes, in few statements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from triggers_core.engine.protocol import Change, Plan
from triggers_core.engine.records import Status, encode_record
from triggers_core.storages.groups import failed_at, group_text
from triggers_django import models
from triggers_django.failures import AlreadyThere
from triggers_django.models import ROW_BITS
from triggers_django.reading import Reader, chunks, event_id_key, row_key, rows
from triggers_django.transactions import asking, atomic, is_owned

USED_FOR: Final = 3_600.0
"""Seconds for which a configuration counts as used anew, without being written to."""
KEPT_FOR: Final = 86_400.0
"""Seconds after its last use in which a configuration that no session has stays: longer than any
transaction that may have adopted it, and is still open."""

_FIELDS: Final = ("status", "open_logs", "due_at", "failed_at", "error", "record")


class Records:
    """A plan as it will be stored: encoded, so that only the database can refuse it."""

    def __init__(self, plan: Plan[Any]) -> None:
        self.plan = plan
        self.header = b"" if plan.header is None else encode_record(plan.header)
        self.events = [encode_record(event) for event in plan.events]
        self.changes = [(change, encode_record(change.instance)) for change in plan.changes]


def save(connection: BaseDatabaseWrapper, found: Reader, records: Records, now: float) -> None:
    """Write all of it.

    :raises AlreadyThere: somebody else has made the session meanwhile; nothing was written.
    """
    with asking():
        session = _save_header(connection, found, records, now)
        _save_events(connection.alias, session, records)
        _save_instances(connection.alias, session, found, records)


def _save_header(
    connection: BaseDatabaseWrapper, found: Reader, records: Records, now: float
) -> int:
    plan, header, session = records.plan, records.plan.header, found.session
    alias = connection.alias
    if header is None:
        assert session is not None
        return session
    values: dict[str, Any] = {"header": records.header}
    if session is None or header.missing != (plan.group_before or ()):  # its index is left alone
        values["missing"] = group_text(header.missing)
    created = sum(change.before is None for change, _ in records.changes)
    if created:
        values["instances"] = found.instances + created
    if plan.fleet_changed or session is None:
        values["failed"] = header.total(Status.FAILED)
        values["waiting_since"] = header.waiting_since
    if header.config != found.config:
        values["config"] = header.config
    if session is None:
        row = models.Session(uid=found.uid, **values)
        _insert_session(connection, row)
        session = found.session = row.id
    else:
        models.Session.objects.using(alias).filter(id=session).update(**values)
    if header.config != found.config or plan.configuration is not None:
        _save_configuration(alias, plan, header.config, now)
    return session


def _insert_session(connection: BaseDatabaseWrapper, row: models.Session) -> None:
    try:
        # A transaction of the application must survive the refusal; our own begins anew.
        with atomic(connection, savepoint=not is_owned()):
            row.save(using=connection.alias, force_insert=True)
    except IntegrityError as error:
        raise AlreadyThere from error


def _save_configuration(alias: str, plan: Plan[Any], address: str, now: float) -> None:
    if plan.configuration is None:
        return
    of_hash = models.Configuration.objects.using(alias).filter(hash=address)
    used = rows(of_hash.values_list("used_at", flat=True))
    if not used:
        body = plan.configuration.encoded
        row = models.Configuration(hash=plan.configuration.hash, body=body, used_at=now)
        models.Configuration.objects.using(alias).bulk_create([row], ignore_conflicts=True)
    elif not now - USED_FOR < used[0] <= now + USED_FOR:
        of_hash.update(used_at=now)


def _save_events(alias: str, session: int, records: Records) -> None:
    events = records.plan.events
    if not events:
        return
    made = [
        models.Event(key=row_key(session, event.number), record=record)
        for event, record in zip(events, records.events, strict=True)
    ]
    models.Event.objects.using(alias).bulk_create(made)
    ids = [
        models.EventId(key=event_id_key(session, event.id), number=event.number, given=event.id)
        for event in events
        if event.id[:1] != "~"  # those that Triggers generates hold the event's number
    ]
    if ids:
        models.EventId.objects.using(alias).bulk_create(ids)


def _save_instances(alias: str, session: int, found: Reader, records: Records) -> None:
    inserted: list[models.Instance] = []
    updated: list[models.Instance] = []
    place = found.instances
    for change, record in records.changes:
        instance = change.instance
        if change.before is None:
            key, place = row_key(session, place), place + 1
            found.keys[instance.name] = key
        else:
            key = found.keys[instance.name]
        row = models.Instance(
            key=key,
            session_id=session,
            task=instance.task,
            number=instance.number,
            status=instance.status.value,
            open_logs=instance.has_open_logs,
            due_at=instance.due_at,
            failed_at=failed_at(instance) if instance.status is Status.FAILED else None,
            error=instance.error,
            record=record,
        )
        (inserted if change.before is None else updated).append(row)
    stored = models.Instance.objects.using(alias)
    if inserted:
        stored.bulk_create(inserted)
    if len(updated) == 1:
        [row] = updated
        stored.filter(key=row.key).update(**{name: getattr(row, name) for name in _FIELDS})
    elif updated:
        stored.bulk_update(updated, _FIELDS, batch_size=100)
    _save_waits(alias, session, found, records.plan.changes)


def _save_waits(alias: str, session: int, found: Reader, changes: Iterable[Change]) -> None:
    added: list[models.Wait] = []
    dropped: dict[frozenset[str], list[int]] = {}
    for change in changes:
        key = found.keys[change.instance.name]
        gone = change.waits_before - change.waits_after
        if gone:
            dropped.setdefault(gone, []).append(key)
        for trigger in change.waits_after - change.waits_before:
            added.append(models.Wait(session_id=session, trigger=trigger, instance_id=key))
    waits = models.Wait.objects.using(alias)
    for triggers, keys in dropped.items():
        for some in chunks(keys):
            for names in chunks(triggers, 250):
                waits.filter(session_id=session, trigger__in=names, instance_id__in=some).delete()
    if added:
        waits.bulk_create(added)


def erase(alias: str, session: int) -> None:
    """Erase a session with all that it has, by columns alone: whether or not it can be read."""
    keys = session << ROW_BITS, (session + 1) << ROW_BITS
    ids = f"{session}:", f"{session};"  # the character after the colon
    with asking():
        models.Wait.objects.using(alias).filter(session_id=session).delete()
        of_session = models.Instance.objects.using(alias).filter(session_id=session)
        of_session._raw_delete(alias)
        models.EventId.objects.using(alias).filter(key__gte=ids[0], key__lt=ids[1]).delete()
        models.Event.objects.using(alias).filter(key__gte=keys[0], key__lt=keys[1]).delete()
        models.Session.objects.using(alias).filter(id=session)._raw_delete(alias)
