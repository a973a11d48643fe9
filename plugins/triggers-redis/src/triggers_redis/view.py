"""What a client has seen of a session, and what it would have to ask for to see more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self

import msgspec

from triggers_core.engine.configuration import EMPTY, Configuration
from triggers_core.engine.names import split_instance_name
from triggers_core.engine.protocol import MOST_DUE, Change, Query, Snapshot
from triggers_core.engine.records import Header, Instance, Status
from triggers_core.engine.waits import event_spans, moment_key, moment_of, wait_keys
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import MOST
from triggers_core.storages.driving import add_due
from triggers_redis.codec import (
    PACKED,
    Facts,
    as_moment_key,
    claimed_state,
    instance_line,
    parse_version_line,
    read_event,
    read_header,
    read_instance,
    read_time,
    spans_texts,
)
from triggers_redis.keys import DUE, INSTANCES, SESSION

_CACHED_TRIGGERS: Final = 20
_CACHED_INSTANCES: Final = 200
"""What is kept of a spread session after a change: up to so many triggers and instances."""

FindConfiguration = Callable[[str], Configuration]
"""Gets a configuration by its hash."""


class Ask(msgspec.Struct, frozen=True):
    """What the scripts are to report beside version line and header; see `lua/session.lua`."""

    triggers: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    every_instance: bool = False
    every_event: bool = False
    payloads: bool = False
    numbers: tuple[str, ...] = ()
    """Events: numbers (``7``) and spans (``7-12``); or ``start:stop``, alone."""
    moments: str = ""
    """The moment key up to which unstarted instances are to be reported that fall due."""

    @classmethod
    def of(cls, query: Query) -> Self:
        """What a query asks for."""
        return cls(
            triggers=query.triggers,
            instances=query.instances,
            tasks=query.unstarted,
            event_ids=query.event_ids,
            every_event=query.all_events,
            payloads=query.payloads,
            numbers=tuple(str(n) for n in query.numbers if 0 <= n < MOST),
            moments="" if query.moments is None else moment_key(query.moments),
        )

    def __or__(self, other: Self) -> Self:
        """Both."""
        return type(self)(
            tuple(dict.fromkeys((*self.triggers, *other.triggers))),
            tuple(dict.fromkeys((*self.instances, *other.instances))),
            tuple(dict.fromkeys((*self.tasks, *other.tasks))),
            tuple(dict.fromkeys((*self.event_ids, *other.event_ids))),
            self.every_instance or other.every_instance,
            self.every_event or other.every_event,
            self.payloads or other.payloads,
            tuple(dict.fromkeys((*self.numbers, *other.numbers))),
            max(self.moments, other.moments),
        )

    @property
    def keys(self) -> int:
        """How many of a session's keys the answer takes."""
        if self.tasks or self.instances or self.event_ids or self.numbers:
            return DUE
        if self.every_instance or self.every_event:
            return DUE
        return INSTANCES if self.triggers or self.moments else SESSION

    def argument(self, uid: str) -> bytes:
        """ARGV 2 of the scripts."""
        triggers = "\n".join(self.triggers)
        flags = "i" * self.every_instance + "e" * self.every_event + "p" * self.payloads
        more = (self.instances, self.tasks, self.event_ids, flags, self.numbers, self.moments)
        if not any(more):
            return triggers.encode()
        lists = (self.instances, self.tasks, self.event_ids)
        due = f"{self.moments[1:]} {MOST_DUE}" if self.moments else ""
        parts = (uid, triggers, *map("\n".join, lists), flags, ",".join(self.numbers), due)
        return "\5".join(parts).encode()


NOTHING: Final = Ask()


class View:
    """A session as it was at one version: all of it when it is packed, else the parts asked for.

    :ivar answered: the query that it was read for.
    :ivar version_line: as it is stored, which a commit compares; empty without a session.
    :ivar moments: moment key and name of what falls due up to `asked.moments`, earliest first, as
        far as was reported; `following`: the moment key after those, empty when there is none.
    :ivar now: the storage's clock when this was read, in seconds since 1970; `read_at` is the same
        moment by this process's monotonic clock.
    """

    __slots__ = (
        "answered",
        "asked",
        "due",
        "events",
        "facts",
        "following",
        "header",
        "instances",
        "moments",
        "now",
        "now_text",
        "read_at",
        "version_line",
    )

    def __init__(
        self, report: bytes, asked: Ask, read_at: float, answered: Query | None = None
    ) -> None:
        """Read what a script answered."""
        self.asked, self.read_at, self.answered = asked, read_at, answered
        self.instances: dict[str, bytes] = {}
        self.events: dict[int, bytes] = {}
        self.due: dict[str, float] = {}
        self.moments: list[tuple[str, str]] = []
        self.following = ""
        self.now_text, *lines = report.split(b"\n")
        self.now = read_time(self.now_text)
        self.version_line = self.header = b""
        self.facts: Facts | None = None
        if len(lines) > 1:  # the last one is empty: each line has an end
            self.version_line, self.header = lines[0] + b"\n", lines[1]
            self.facts = parse_version_line(lines[0])
            try:
                for line in lines[2:]:
                    self._add(line)
            except ValueError as error:
                raise UnknownSchema(f"a line of the session cannot be read ({error})") from None

    def _add(self, line: bytes) -> None:
        kind = line[:1]
        if kind == b"\t":
            name, _, stored = line[1:].partition(b"\t")
            self.instances[name.decode()] = stored
        elif kind == b"{":
            self.events[len(self.events)] = line
        elif kind == b"\2":
            number, _, record = line[1:].partition(b"\t")
            self.events[int(number)] = record
        elif kind == b"\1":
            name, _, score = line[1:].partition(b"\t")
            self.due[name.decode()] = float(score)
        elif kind == b"\3":
            digits, _, name = line[1:].partition(b"\t")
            self.moments.append((as_moment_key(digits), name.decode()))
        elif kind == b"\4":
            self.following = as_moment_key(line[1:])

    def absorb(self, other: View) -> None:
        """Add what another view of the same version has seen."""
        if other.asked.moments > self.asked.moments:
            self.moments, self.following = other.moments, other.following
        self.asked |= other.asked
        self.instances.update(other.instances)
        self.events.update(other.events)
        self.due.update(other.due)
        self.now, self.read_at = other.now, other.read_at

    # -- what is there ------------------------------------------------------------------------

    @property
    def packed(self) -> bool:
        """Whether everything about the session is in this view, but for the due index."""
        return self.facts is None or self.facts.layout == PACKED

    @property
    def ticket_owner(self) -> bytes:
        """Who has reserved the next commit; empty when nobody has."""
        return self.facts.ticket.partition(b" ")[2] if self.facts else b""

    def events_offset(self) -> int:
        """Bytes in front of the events of a packed session."""
        size = len(self.version_line) + len(self.header) + 1
        return size + sum(
            len(instance_line(name, stored)) for name, stored in self.instances.items()
        )

    def read_header(self) -> Header | None:
        """The header, a new object each time; None without a session."""
        return None if self.facts is None else read_header(self.facts, self.header)

    def read_instance(self, name: str) -> Instance:
        """An instance, a new object each time."""
        assert self.facts is not None
        stored, due = self.instances[name], self.due.get(name)
        return read_instance(name, stored, self.facts.generation, due)

    def claimed(self, name: str, token: str, lease_until: float) -> None:
        """Do what the claim script did, of which this view is what was before."""
        assert self.facts is not None
        facts = self.facts
        task, _ = split_instance_name(name)
        _, *middle, _, claims = self.version_line[1:-1].split(b"\t")
        middle.insert(0, b"%b%d" % (facts.layout, facts.version + 1))
        claims += b"\2%b %b" % (self.now_text, task.encode())
        self.version_line = b"\t".join((*middle, b"", claims)) + b"\n"
        self.facts = parse_version_line(self.version_line[:-1])
        state, _, record = self.instances[name].partition(b"\t")
        state = claimed_state(state, self.now_text, facts.config_version, token)
        self.instances[name] = b"%b\t%b" % (state, record)
        self.due[name] = lease_until

    def change(
        self,
        version_line: bytes,
        header: bytes,
        instances: Mapping[str, bytes],
        events: Mapping[int, bytes],
        changes: Iterable[Change],
    ) -> bool:
        """Do what a commit did, as far as fires need it; False when that is not worth it.

        :param header, instances, events: as the commit has encoded them.
        """
        packed, triggers = self.packed, self.asked.triggers
        if packed != (version_line[:1] == PACKED) or len(triggers) > _CACHED_TRIGGERS:
            return False
        self.version_line, self.header = version_line, header
        self.facts = parse_version_line(version_line[:-1])
        self.asked, self.answered, self.due = NOTHING, None, {}  # the due index may have moved on
        self.moments, self.following = [], ""
        if packed:
            self.instances.update(instances)
            self.events.update(events)
            return True
        # Of a spread session only what the same triggers want, which stays complete.
        self.asked = Ask(triggers=triggers)
        self.events.clear()
        for change in changes:
            name = change.instance.name
            if change.waits_after.isdisjoint(triggers):
                self.instances.pop(name, None)
            else:
                self.instances[name] = instances[name]
        return len(self.instances) <= _CACHED_INSTANCES

    # -- answering queries ---------------------------------------------------------------------

    def lacks(self, query: Query) -> Ask | None:
        """What has to be asked for to answer a query; None when this view can answer it."""
        if self.facts is None:
            return None
        if query is self.answered and not query.payloads:
            return None
        asked = self.asked
        instances = _without(query.instances, asked.instances)
        if self.packed:
            return Ask(instances=instances) if instances else None
        latest = "" if query.moments is None else moment_key(query.moments)
        lacking = Ask(
            _without(query.triggers, asked.triggers),
            instances,
            _without(query.unstarted, asked.tasks),
            _without(query.event_ids, asked.event_ids),
            every_event=query.all_events and not asked.every_event,
            numbers=self._unseen([(n, n) for n in query.numbers]) if query.numbers else (),
            moments="" if self._tells_due(latest) else latest,
        )
        if lacking != NOTHING:
            return lacking
        if query.payloads:
            unseen = self._unseen(self._taken(query))
            if unseen:
                return Ask(numbers=unseen)
        return None

    def _tells_due(self, latest: str) -> bool:
        """Whether all that falls due up to a moment key is here, or enough of it."""
        asked = self.asked.moments
        if latest <= asked:
            return True
        return asked != "" and (not self.following or self.following > latest)

    def _taken(self, query: Query) -> list[tuple[int, int]]:
        """The spans of the events that the query's instances have taken."""
        instances = [self.read_instance(n) for n in query.instances if n in self.instances]
        return [span for instance in instances for span in event_spans(instance)]

    def _unseen(self, spans: Iterable[tuple[int, int]]) -> tuple[str, ...]:
        """Which events are to be asked for: recorded, and neither here nor asked for before."""
        numbers = {n for first, last in spans for n in range(first, last + 1)} - self.events.keys()
        header = self.read_header() if numbers else None
        if header is None:
            return ()
        runs: list[tuple[int, int]] = []
        for number in sorted(n for n in numbers if 0 <= n < header.events):
            first = runs.pop()[0] if runs and runs[-1][1] == number - 1 else number
            runs.append((first, number))
        return _without(spans_texts(runs), self.asked.numbers)

    def snapshot(
        self, query: Query, find: FindConfiguration, now: float, exactly: bool = False
    ) -> Snapshot:
        """The answer to a query that this view does not lack anything for.

        :param exactly: leave out what a decision would pass over anyway.
        """
        header = self.read_header()
        if header is None:
            return Snapshot(now=now)
        configuration = find(header.config) if header.config else EMPTY
        snapshot = Snapshot(now=now, header=header, configuration=configuration)
        if query.moments is not None:
            self._add_due(query.moments, snapshot)
        if query.triggers:
            self._add_listening(query, snapshot, exactly)
        for task in query.unstarted:
            for name, stored in self.instances.items():
                if stored[:1] == b"u" and name.rpartition("#")[0] == task:
                    snapshot.instances[name] = self.read_instance(name)
        for name in query.instances:
            if name in self.instances:
                snapshot.instances[name] = self.read_instance(name)
        if query.event_ids:
            events = (read_event(number, record) for number, record in self.events.items())
            snapshot.known = {event.id: event for event in events if event.id in query.event_ids}
        if query.all_events:
            try:
                snapshot.events = [read_event(n, self.events[n]) for n in range(header.events)]
            except KeyError as missing:
                raise UnknownSchema(f"event {missing} of the session is not there") from None
        for number in query.numbers:
            if number in self.events:
                snapshot.numbered[number] = read_event(number, self.events[number])
        if query.payloads:
            for first, last in self._taken(query):
                for number in range(first, last + 1):
                    if number not in self.events:
                        raise UnknownSchema(f"event {number} of the session is not there")
                    snapshot.numbered[number] = read_event(number, self.events[number])
        return snapshot

    def _add_due(self, moments: float, snapshot: Snapshot) -> None:
        """Add the instances that fall due up to a moment; see `Query.moments`."""
        if self.packed:
            add_due(snapshot, self._index(), moments)
            return
        index = ((key, self.read_instance(name)) for key, name in self.moments)
        add_due(snapshot, index, moments)
        if snapshot.next_moment is None and self.following:
            snapshot.next_moment = moment_of(self.following)

    def _index(self) -> list[tuple[str, Instance]]:
        """What the index would hold of moments if this packed session were spread."""
        unstarted = [self.read_instance(n) for n, s in self.instances.items() if s[:1] == b"u"]
        index = [(moment_key(i.due_at), i) for i in unstarted if i.due_at is not None]
        return sorted(index, key=lambda entry: (entry[0], entry[1].task, entry[1].number))

    def _add_listening(self, query: Query, snapshot: Snapshot, exactly: bool) -> None:
        """Add the unstarted instances of the tasks that listen to the query's triggers."""
        listeners = snapshot.configuration.listeners
        tasks = {
            task.name: task for trigger in query.triggers for task in listeners.get(trigger, ())
        }
        for name, stored in self.instances.items():
            if stored[:1] == b"u":
                task = tasks.get(name.rpartition("#")[0])
                if task is not None:
                    instance = self.read_instance(name)
                    if not exactly or not wait_keys(task, instance).isdisjoint(query.triggers):
                        snapshot.instances[name] = instance

    def listed(self, statuses: frozenset[Status] | None, task: str | None) -> list[Instance]:
        """The instances in this view, by task and number."""
        found = [
            self.read_instance(name)
            for name in self.instances
            if task is None or name.rpartition("#")[0] == task
        ]
        chosen = [each for each in found if statuses is None or each.status in statuses]
        return sorted(chosen, key=lambda each: (each.task, each.number))


def _without(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are not known; mostly none are asked for."""
    return names and tuple(name for name in names if name not in known)
