"""What is read and written of one session, in steps; whoever has a connection carries them out.

Sans-I/O: a generator yields a batch of statements and gets the rows of each, so that a psycopg
connection, an ORM's and an asynchronous one need a small loop each, not a copy of this::

    steps = commit_steps(tables, uid, command, rules)
    batch = next(steps)
    while True:
        batch = steps.send([rows_of(statement) for statement in batch])

A batch is what can be sent in one round trip; no statement in it needs the rows of another.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.due_times import due_soon
from triggers_core.engine.names import number_in_id, split_instance_name
from triggers_core.engine.protocol import MOST_DUE, Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    decode_event,
    decode_header,
    decode_instance,
    encode_record,
)
from triggers_core.engine.waits import AFTER_MOMENTS, BEFORE_MOMENTS, event_spans, moment_key
from triggers_core.exceptions import Contended, UnknownSchema
from triggers_core.storages.arguments import MOST
from triggers_core.storages.base import Clock
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.driving import add_due
from triggers_postgres.due_notices import Told
from triggers_postgres.sql import (
    EVENT,
    HEADER,
    INSTANCE,
    KNOWN,
    MOMENT,
    NOW,
    NUMBERED,
    Rows,
    Sql,
    Statement,
)
from triggers_postgres.writing import write_statement

_T = TypeVar("_T")

Batch = Sequence[Statement]
Steps = Generator[Batch, list[Rows], _T]
"""Yields batches, is sent the rows of each statement in them, and returns a ``T``."""

_AGAIN: Final = 20  # times that a session is looked at which changes or comes and goes meanwhile


_NO_QUERY: Final = Query()


class Last(tuple[Statement, ...]):
    """A batch that writes, after which the steps are over unless it wrote nothing.

    Who has a transaction for these steps alone may send the COMMIT along with it. If another batch
    follows all the same, the steps have begun anew, and so may the transaction.
    """

    __slots__ = ()


class Tables:
    """The tables in one schema, and what this process knows of them.

    :param schema: the schema's name.
    :param clock: time instead of the database's, for tests; seconds since 1970.
    """

    def __init__(self, schema: str = "triggers", clock: Clock | None = None) -> None:
        self.sql: Sql = Sql(schema)
        self.schema: str = schema
        self.clock: Clock | None = clock
        self.configurations: ConfigurationCache = ConfigurationCache()
        self.told: Told = Told()

    @property
    def now(self) -> float | None:
        """The time that statements go by; None: the database's."""
        return None if self.clock is None else self.clock()


class Found:
    """What a change has found of its session."""

    __slots__ = ("config", "header", "now", "read_at", "session")

    def __init__(self) -> None:
        self.session: int | None = None
        self.header = b""
        self.config = ""
        self.now = 0.0
        self.read_at = 0.0


def commit_steps(
    tables: Tables,
    uid: str,
    command: Command[_T],
    rules: Rules,
    collect: bool = True,
    sent: list[Plan[_T]] | None = None,
    tell: bool = True,
) -> Steps[Plan[_T]]:
    """Decide a change under the session's lock, and write it.

    In a transaction of its own, or in the application's; at `READ COMMITTED`, each statement sees
    what was committed before it began.

    :param collect: whether a configuration that no session has any more is erased along with it.
        Not in a transaction that may stay open for long: others wait for that.
    :param sent: a list, which holds a plan from when it is sent until its answer is here. Whoever
        gets no answer, so that it may be stored or not, begins anew with this list: what is there
        of the plan is recognised.
    :param tell: whether other processes may be notified of what falls due soon. Not in a
        transaction that is to be prepared: PostgreSQL would refuse that.
    :raises UnknownSchema: the session cannot be read.
    :raises Contended: the session comes and goes all the time.
    """
    sent = [] if sent is None else sent
    if sent and (yield from _is_written(tables, uid, sent[0])):
        return sent[0]
    for _ in range(_AGAIN):
        found = Found()
        plan = yield from _decide(tables, uid, command, rules, found)
        if plan.empty:
            return plan
        passed = time.monotonic() - found.read_at if tables.clock is None else 0.0
        now = found.now + passed
        plan.stamp(now)
        batch = [write_statement(tables.sql, uid, plan, found.session, found.config)]
        if collect and plan.header is not None and found.config not in ("", plan.header.config):
            batch += _collect(tables, found.config)
        due = due_soon(plan, rules.timing, now) if tell else None
        if due is not None and not tables.told.knows(due, now):
            batch.append((tables.sql.tell_due, ()))
        else:
            due = None
        sent[:] = [plan]
        written = yield Last(batch)
        sent.clear()
        if written[0]:
            if due is not None and collect:  # elsewhere nobody knows yet whether it is committed
                tables.told.note(due)
            return plan
        # Somebody else has created the session since: now it is there to be locked.
    raise Contended(f"{uid}: the session was created and deleted {_AGAIN} times meanwhile")


def _is_written(tables: Tables, uid: str, plan: Plan[Any]) -> Steps[bool]:
    """Whether a plan whose answer was lost is stored, whatever came after it.

    Its records tell: events have ids and times, attempts tokens, replays and skips their requests.
    """
    query, record = Query(), b""
    if plan.events:
        query, record = Query(numbers=(plan.events[0].number,)), encode_record(plan.events[0])
    elif plan.changes:
        instance = plan.changes[0].instance
        query, record = Query(instances=(instance.name,)), encode_record(instance)
    elif plan.header is not None:
        record = encode_record(plan.header)
    reading = _reading(tables.sql, tables.sql.session, uid, query, header=True)
    _, rows = yield [(tables.sql.lock, (uid,)), reading]
    return any(row[0] != NOW and bytes(row[3] or b"") == record for row in rows)


def _decide(
    tables: Tables, uid: str, command: Command[_T], rules: Rules, found: Found
) -> Steps[Plan[_T]]:
    """As `triggers_core.storages.driving.drive`, step by step."""
    deciding = command.decide(uid, rules)
    try:
        query = next(deciding)
        snapshot = yield from _locked(tables, uid, query, found)
        while True:
            query = deciding.send(snapshot)
            if found.session is None:
                snapshot = Snapshot(now=found.now)
            else:
                snapshot = yield from _more(tables, query, found)
    except StopIteration as done:
        plan: Plan[_T] = done.value
        return plan
    except UnknownSchema as error:
        raise error.of(uid) from error.__cause__
    finally:
        deciding.close()


def _locked(tables: Tables, uid: str, query: Query, found: Found) -> Steps[Snapshot]:
    """Lock the session, and read what is current from then on."""
    names = [split_instance_name(name) for name in query.instances]
    given = [each for each in query.event_ids if number_in_id(each) is None]
    asked = (list(query.triggers), [t for t, _ in names], [n for _, n in names], given)
    values = (uid, *(each or None for each in asked))
    batch: list[Statement] = [(tables.sql.lock_and_read, values)]
    rest = msgspec.structs.replace(
        query,
        triggers=(),
        instances=(),
        payloads=False,
        event_ids=tuple(each for each in query.event_ids if each not in given),
    )
    if rest != _NO_QUERY:
        batch.append(_reading(tables.sql, tables.sql.session, uid, rest))
    answers = yield batch
    rows = answers[0] + (answers[1] if len(answers) > 1 else [])
    _note_time(tables, rows, found)
    headers = [row for row in rows if row[0] == HEADER]
    if not headers:
        return Snapshot(now=found.now)
    found.session, found.header = int(headers[0][2]), bytes(headers[0][3])
    header = decode_header(found.header)
    found.config = header.config
    return (yield from _snapshot(tables, query, found, header, rows))


def _more(tables: Tables, query: Query, found: Found) -> Steps[Snapshot]:
    (rows,) = yield [_reading(tables.sql, tables.sql.session_by_id, found.session, query)]
    _note_time(tables, rows, found)
    return (yield from _snapshot(tables, query, found, decode_header(found.header), rows))


def load_steps(tables: Tables, uid: str, query: Query) -> Steps[Snapshot]:
    """Read a part of a session without locking it; each statement sees one state of it.

    :raises UnknownSchema: the session cannot be read.
    """
    before = b""
    for _ in range(_AGAIN):
        found = Found()
        (rows,) = yield [_reading(tables.sql, tables.sql.session, uid, query, header=True)]
        _note_time(tables, rows, found)
        headers = [row for row in rows if row[0] == HEADER]
        if not headers:
            return Snapshot(now=found.now)
        found.session, found.header = int(headers[0][2]), bytes(headers[0][3])
        try:
            header = decode_header(found.header)
            return (yield from _snapshot(tables, query, found, header, rows))
        except _Missing as error:
            if found.header == before:
                raise error.of(uid) from None
            before = found.header  # most likely it has changed in between
        except UnknownSchema as error:
            raise error.of(uid) from error.__cause__
    raise Contended(f"{uid}: the session changes faster than it can be read")


class _Missing(UnknownSchema):
    """Something that the session's records refer to is not there."""


def _reading(
    sql: Sql, session: str, value: object, query: Query, header: bool = False
) -> Statement:
    """One statement for all that a query asks: it sees one state of the session."""
    parts, values = [sql.now], [value]
    if header:
        parts.append(sql.header)
    if query.moments is not None:
        latest = moment_key(query.moments)
        session += sql.with_moments
        parts.append(sql.moments)
        values += (BEFORE_MOMENTS, latest, MOST_DUE, BEFORE_MOMENTS, AFTER_MOMENTS)
    if query.triggers:
        parts.append(sql.waiting)
        values.append(list(query.triggers))
    if query.unstarted:
        parts.append(sql.unstarted)
        values.append(list(query.unstarted))
    if query.instances:
        names = [split_instance_name(name) for name in query.instances]
        parts.append(sql.named)
        values += ([task for task, _ in names], [number for _, number in names])
    generated = [number_in_id(each) for each in query.event_ids]
    if None in generated:
        parts.append(sql.known)
        values.append([each for each in query.event_ids if number_in_id(each) is None])
    numbers = {each for each in generated if each is not None and each < MOST}
    numbers.update(each for each in query.numbers if 0 <= each < MOST)
    if numbers:
        parts.append(sql.numbered)
        values.append(sorted(numbers))
    if query.all_events:
        parts.append(sql.all_events)
    return f"{session} {' UNION ALL '.join(parts)}", tuple(values)


def _note_time(tables: Tables, rows: Rows, found: Found) -> None:
    found.read_at = time.monotonic()
    found.now = (
        next(row[2] for row in rows if row[0] == NOW) if tables.clock is None else tables.clock()
    )


def _snapshot(
    tables: Tables, query: Query, found: Found, header: Header, rows: Rows
) -> Steps[Snapshot]:
    configuration = yield from _configuration(tables, header.config)
    snapshot = Snapshot(now=found.now, header=header, configuration=configuration)
    moments: list[tuple[str, bytes]] = []
    events: list[Event] = []
    for part, name, _, record in rows:
        if record is None:
            continue  # it was asked for by name, and there is none
        if part == INSTANCE:
            instance = decode_instance(bytes(record))
            snapshot.instances[instance.name] = instance
        elif part == MOMENT:
            moments.append((name, bytes(record)))
        elif part in (KNOWN, NUMBERED, EVENT):
            event = decode_event(bytes(record))
            if part == EVENT:
                events.append(event)
            elif event.id in query.event_ids:
                snapshot.known[event.id] = event
            if part == NUMBERED:
                snapshot.numbered[event.number] = event
    snapshot.events = sorted(events, key=_number)
    if query.moments is not None:
        index = [(key, decode_instance(record) if record else None) for key, record in moments]
        add_due(snapshot, sorted(index, key=_moment_order), query.moments)
    if query.payloads:
        yield from _add_payloads(tables, query, found, snapshot)
    return snapshot


def _number(event: Event) -> int:
    return event.number


def _moment_order(entry: tuple[str, Instance | None]) -> tuple[str, str, int]:
    key, instance = entry
    return (key, "", 0) if instance is None else (key, instance.task, instance.number)


def _configuration(tables: Tables, address: str) -> Steps[Configuration]:
    if not address:
        return EMPTY
    configuration = tables.configurations.get(address)
    if configuration is None:
        (rows,) = yield [(tables.sql.configuration, (address,))]
        if not rows:
            raise _Missing(f"its configuration {address} is missing")
        configuration = Configuration.decoded(bytes(rows[0][0]))
        tables.configurations.put(address, configuration)
    return configuration


def _add_payloads(tables: Tables, query: Query, found: Found, snapshot: Snapshot) -> Steps[None]:
    """Read the events that instances have taken; which ones those are, their records say."""
    asked = [snapshot.instances[name] for name in query.instances if name in snapshot.instances]
    spans = [span for instance in asked for span in event_spans(instance)]
    if not spans:
        return
    sql = tables.sql
    text = f"{sql.session_by_id} {sql.header} UNION ALL {sql.between}"
    values = (found.session, [first for first, _ in spans], [last for _, last in spans])
    (rows,) = yield [(text, values)]
    if not any(row[0] == HEADER for row in rows):
        raise _Missing("it was deleted while it was read")
    for part, _, _, record in rows:
        if part == NUMBERED:
            event = decode_event(bytes(record))
            snapshot.numbered[event.number] = event


# -- erasing ---------------------------------------------------------------------------------------


def delete_steps(
    tables: Tables, uid: str, collect: bool = True, sent: list[int] | None = None
) -> Steps[bool]:
    """Erase a session; whether there was one. Any session can be erased, readable or not.

    :param collect: as in `commit_steps`.
    :param sent: a list, which holds the row that is about to be erased; as in `commit_steps`.
    """
    (locked,) = yield [(tables.sql.lock, (uid,))]
    if not locked or (sent and locked[0][0] not in sent):
        return bool(sent)  # erased before, when no answer came
    return (yield from erase_steps(tables, locked[0][0], collect, sent))


def erase_steps(
    tables: Tables, session: int, collect: bool = True, sent: list[int] | None = None
) -> Steps[bool]:
    """Erase the session of a row that is locked."""
    if sent is not None:
        sent[:] = [session]
    (erased,) = yield [(tables.sql.erase, (session,) * 5)]
    config = erased[0][0] if erased else None
    if collect and config is not None:
        yield Last(_collect(tables, config))
    return bool(erased)


def _collect(tables: Tables, config: str) -> list[Statement]:
    """Erase a configuration if no session has it any more.

    In two statements, so that the second sees every session that got it before the lock was there;
    whoever has just given it to another session holds a lock on it, and it stays.
    """
    return [(tables.sql.lock_unused, (config,)), (tables.sql.drop_unused, (config,))]
