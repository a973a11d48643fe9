"""A plan as one statement: it writes all of it, or nothing if somebody else made the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triggers_core.engine.protocol import Plan
from triggers_core.engine.records import Event, Header, Instance, Status, encode_record
from triggers_core.storages.groups import failed_at, group_text
from triggers_postgres.sql import Sql, Statement


def write_statement(
    sql: Sql, uid: str, plan: Plan[Any], session: int | None, config: str
) -> Statement:
    """All that a plan writes, in one statement: one round trip, whoever sends it.

    It answers with a row; with none, and has written nothing of the session, if that was to be new
    and somebody else was faster.

    :param session: the session's row, which is locked; None if there is none.
    :param config: the address of the configuration that it has so far.
    """
    if (
        session is not None
        and plan.configuration is None
        and (plan.header is None or (plan.header.config == config and not plan.fleet_changed))
        and len(plan.events) <= 1
        and len(plan.changes) <= 1
    ):
        return sql.write_change, (session, *_small(plan))
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *more: Any) -> None:
        parts.append(part)
        values.extend(more)

    configuration, header = plan.configuration, plan.header
    if configuration is not None:
        add(sql.add_configuration, configuration.hash, configuration.encoded)
    if header is None:
        add(sql.same_session, session)
    elif session is None:
        add(sql.add_session, uid, *_header(header), *_fleet(header))
    elif plan.fleet_changed or header.config != config:
        add(sql.set_session, *_header(header), *_fleet(header), session)
    else:
        add(sql.set_header, *_header(header), session)
    _add_events(sql, plan, add)
    _add_instances(sql, plan, add)
    return f"WITH {', '.join(parts)} SELECT id FROM s", tuple(values)


def _fleet(header: Header) -> tuple[Any, ...]:
    return header.total(Status.FAILED), header.waiting_since, header.config or None


def _header(header: Header) -> tuple[Any, ...]:
    return encode_record(header), group_text(header.missing)


def _small(plan: Plan[Any]) -> Iterator[Any]:
    """What `Sql.write_change` takes: the same as the parts below, for what most changes are."""
    yield from (None, None) if plan.header is None else _header(plan.header)
    if plan.events:
        event = plan.events[0]
        yield from (event.number, encode_record(event), event.id if _is_given(event) else None)
    else:
        yield from (None,) * 3
    if plan.changes:
        change = plan.changes[0]
        yield from (*_columns(change.instance), encode_record(change.instance))
        yield sorted(change.waits_before - change.waits_after) or None
        yield sorted(change.waits_after - change.waits_before) or None
    else:
        yield from (None,) * 8


def _is_given(event: Event) -> bool:
    """Whether its id was given by whoever fired it; generated ones hold the number."""
    return event.id[:1] != "~"


def _columns(instance: Instance) -> tuple[Any, ...]:
    return (
        instance.task,
        instance.number,
        instance.status.value,
        instance.has_open_logs,
        instance.due_at,
    )


def _instance(instance: Instance) -> tuple[Any, ...]:
    # Whether it is failed changes along with the session's count, and so never in a small change.
    failed = instance.status is Status.FAILED
    failure = (failed_at(instance), instance.error) if failed else (None, None)
    return (*_columns(instance), *failure, encode_record(instance))


def _add_events(sql: Sql, plan: Plan[Any], add: Any) -> None:
    events = plan.events
    if len(events) == 1:
        add(sql.add_event, events[0].number, encode_record(events[0]))
    elif events:
        add(sql.add_events, [each.number for each in events], [encode_record(e) for e in events])
    given = [each for each in events if _is_given(each)]
    if given:
        add(sql.add_event_ids, [each.id for each in given], [each.number for each in given])


def _add_instances(sql: Sql, plan: Plan[Any], add: Any) -> None:
    rows = [_instance(change.instance) for change in plan.changes]
    if len(rows) == 1:
        add(sql.set_instance, *rows[0])
    elif rows:
        add(sql.set_instances, *(list(column) for column in zip(*rows, strict=True)))
    dropped, added = [], []
    for change in plan.changes:
        key = (change.instance.task, change.instance.number)
        dropped += [(wait, *key) for wait in change.waits_before - change.waits_after]
        added += [(wait, *key) for wait in change.waits_after - change.waits_before]
    if dropped:
        add(sql.drop_waits, *(list(column) for column in zip(*sorted(dropped), strict=True)))
    if added:
        add(sql.add_waits, *(list(column) for column in zip(*sorted(added), strict=True)))
