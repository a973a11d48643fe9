"""What is read of one session: rows to records, and the answers to a change's queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.db.models import Q, QuerySet

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.names import number_in_id, split_instance_name
from triggers_core.engine.protocol import Query, Snapshot
from triggers_core.engine.records import (
    Event,
    Header,
    Instance,
    Status,
    decode_event,
    decode_header,
    decode_instance,
)
from triggers_core.engine.waits import AFTER_MOMENTS, BEFORE_MOMENTS, event_spans
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import MOST
from triggers_core.storages.configuration_cache import ConfigurationCache
from triggers_core.storages.driving import add_due, may_wait
from triggers_django import models
from triggers_django.models import ROW_BITS
from triggers_django.transactions import asking

_CHUNK: Final = 500  # values in one IN (...); SQLite's oldest limit is 999 parameters
_FIRST_MOMENTS: Final = 20
_MOMENTS: Final = 1_000


def rows(queryset: QuerySet[Any, Any], limit: int | None = None) -> list[Any]:
    """What the database answers, all of it."""
    with asking():
        return list(queryset if limit is None else queryset[:limit])


def row_key(session: int, number: int) -> int:
    """The key of a session's event, or of its instance by place."""
    return (session << ROW_BITS) + number


def event_id_key(session: int, event_id: str) -> str:
    """The key of an id that the application gave an event."""
    return f"{session}:{event_id}"


class Reader:
    """Reads one session, within a change or for whoever looks."""

    def __init__(
        self,
        alias: str,
        uid: str,
        configurations: ConfigurationCache,
        *,
        lock: bool = False,
        current: bool = False,
    ) -> None:
        """Read nothing yet.

        :param lock: whether the session's row is locked, so that nobody else changes it meanwhile.
        :param current: whether every other row has to be locked too: to see what others have
            committed since the transaction began, where its isolation would hide that.
        """
        self.alias, self.uid = alias, uid
        self.session: int | None = None
        """The id of its row; None when there is none (yet)."""
        self.header = b""
        """As it is stored."""
        self.config = ""
        self.instances = 0
        """How many instances it has had."""
        self.keys: dict[str, int] = {}
        """Name of an instance that was read → its key."""
        self._configurations = configurations
        self._lock, self._current = lock, current

    def _of(self, model: type[Any]) -> QuerySet[Any, Any]:
        found: QuerySet[Any, Any] = model.objects.using(self.alias)
        return found.select_for_update() if self._current else found

    def find(self) -> bool:
        """Read the session's row; whether there is one."""
        of_uid = models.Session.objects.using(self.alias).filter(uid=self.uid)
        if self._lock:
            of_uid = of_uid.select_for_update()
        found = rows(of_uid.values_list("id", "header", "config", "instances"))
        if not found:
            self.session = None
            return False
        self.session, header, self.config, self.instances = found[0]
        self.header = bytes(header)
        return True

    def load(self, query: Query, now: float) -> Snapshot:
        """Answer a query about the session, which `find` has found."""
        session = self.session
        assert session is not None
        header = decode_header(self.header)
        configuration = self.configuration(header)
        snapshot = Snapshot(now=now, header=header, configuration=configuration)
        if query.moments is not None:
            add_due(snapshot, self._moments(session), query.moments)
        triggers = [each for each in query.triggers if may_wait(header, configuration, each)]
        records = self._waiting(session, triggers) if triggers else []
        if query.instances:
            records += self._named(session, query.instances)
        for tasks in chunks(query.unstarted):
            unstarted = self._instances(session).filter(task__in=tasks)
            records += rows(unstarted.filter(status=Status.UNSTARTED.value))
        for record in records:
            instance = self._instance(*record)
            snapshot.instances[instance.name] = instance
        if query.event_ids:
            snapshot.known = self._known(session, query.event_ids)
        if query.all_events:
            snapshot.events = self.events(0, None)
        if query.numbers:
            snapshot.numbered = self.numbered(query.numbers)
        if query.payloads:
            asked = [snapshot.instances[n] for n in query.instances if n in snapshot.instances]
            spans = [span for instance in asked for span in event_spans(instance)]
            snapshot.numbered |= self._within(spans)
        return snapshot

    # -- instances --------------------------------------------------------------------------------

    def _instances(self, session: int) -> QuerySet[Any, Any]:
        of_session = self._of(models.Instance).filter(session_id=session)
        return of_session.values_list("key", "record")

    def _instance(self, key: int, record: bytes) -> Instance:
        instance = decode_instance(bytes(record))
        self.keys[instance.name] = key
        return instance

    def _waiting(self, session: int, triggers: list[str]) -> list[Any]:
        found = self._of(models.Wait).filter(session_id=session, trigger__in=triggers)
        return rows(found.values_list("instance_id", "instance__record"))

    def _named(self, session: int, names: Iterable[str]) -> list[Any]:
        by_task: dict[str, list[int]] = {}
        for name in names:
            task, number = split_instance_name(name)
            by_task.setdefault(task, []).append(number)
        pairs = [(task, some) for task, numbers in by_task.items() for some in chunks(numbers)]
        found = []
        for some in chunks(pairs, 50):
            wanted = Q()
            for task, numbers in some:
                wanted |= Q(task=task, number__in=numbers)
            found += rows(self._instances(session).filter(wanted))
        return found

    def _moments(self, session: int) -> Iterator[tuple[str, Instance | None]]:
        """What falls due, earliest first, page by page: whoever reads it stops somewhere."""
        ordered = (
            self._of(models.Wait)
            .filter(session_id=session, trigger__gt=BEFORE_MOMENTS, trigger__lt=AFTER_MOMENTS)
            .order_by("trigger", "instance_id")
            .values_list("trigger", "instance_id", "instance__record")
        )
        page, rest = _FIRST_MOMENTS, ordered
        while True:
            found = rows(rest, page)
            for trigger, key, record in found:
                yield trigger, None if record is None else self._instance(key, record)
            if len(found) < page:
                return
            trigger, key, _ = found[-1]
            same = Q(trigger=trigger, instance_id__gt=key)
            page, rest = _MOMENTS, ordered.filter(Q(trigger__gt=trigger) | same)

    # -- events -----------------------------------------------------------------------------------

    def events(self, start: int, limit: int | None) -> list[Event]:
        """The events from a number on, in order."""
        session = self.session
        assert session is not None
        keys = row_key(session, min(start, MOST)), row_key(session + 1, 0)
        ordered = self._of(models.Event).filter(key__gte=keys[0], key__lt=keys[1]).order_by("key")
        found = rows(ordered.values_list("record", flat=True), limit)
        return [decode_event(bytes(record)) for record in found]

    def numbered(self, numbers: Iterable[int]) -> dict[int, Event]:
        """The events of some numbers."""
        session = self.session
        assert session is not None
        keys = sorted({row_key(session, each) for each in numbers if 0 <= each <= MOST})
        found: dict[int, Event] = {}
        for some in chunks(keys):
            records = self._of(models.Event).filter(key__in=some).values_list("record", flat=True)
            found |= _by_number(rows(records))
        return found

    def _within(self, spans: list[tuple[int, int]]) -> dict[int, Event]:
        session = self.session
        assert session is not None
        found = self.numbered(first for first, last in spans if first == last)
        for first, last in spans:
            if first < last:
                keys = row_key(session, first), row_key(session, last)
                records = self._of(models.Event).filter(key__range=keys)
                found |= _by_number(rows(records.values_list("record", flat=True)))
        return found

    def _known(self, session: int, event_ids: Iterable[str]) -> dict[str, Event]:
        numbers: list[int] = []
        given: list[str] = []
        for event_id in event_ids:
            number = number_in_id(event_id)
            if number is None:
                given.append(event_id_key(session, event_id))
            else:
                numbers.append(number)
        for keys in chunks(given):
            of_ids = self._of(models.EventId).filter(key__in=keys)
            numbers += rows(of_ids.values_list("number", flat=True))
        wanted = set(event_ids)
        events = self.numbered(numbers).values() if numbers else ()
        return {event.id: event for event in events if event.id in wanted}

    # -- configuration ----------------------------------------------------------------------------

    def configuration(self, header: Header) -> Configuration:
        """The session's configuration, decoded once in a process."""
        address = header.config
        if not address:
            return EMPTY
        configuration = self._configurations.get(address)
        if configuration is None:
            of_hash = models.Configuration.objects.using(self.alias).filter(hash=address)
            bodies = rows(of_hash.values_list("body", flat=True))
            if not bodies:
                raise UnknownSchema(f"its configuration {address} is missing")
            configuration = Configuration.decoded(bytes(bodies[0]))
            self._configurations.put(address, configuration)
        return configuration


def _by_number(records: Iterable[bytes]) -> dict[int, Event]:
    events = (decode_event(bytes(record)) for record in records)
    return {event.number: event for event in events}


def chunks(values: Iterable[Any], size: int = _CHUNK) -> Iterator[list[Any]]:
    """The values, some at a time."""
    all_of_them = list(values)
    for begin in range(0, len(all_of_them), size):
        yield all_of_them[begin : begin + size]
