"""What a storage keeps: the session's header, its events and its instances.

Records are JSON, short keys, defaults left out. Every record has an `extra` mapping that this
version never reads but always writes back: a newer version keeps its additions there, so that old
and new processes can share a session during a rolling upgrade.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

import msgspec

from triggers_core.exceptions import UnknownSchema

SCHEMA: Final = 1
"""Version of the stored form; a header with a higher one was written by a newer Triggers."""


class Status(StrEnum):
    """Where an instance stands: ``unstarted → scheduled → running → finished | failed | skipped``.

    Also ``failed → replayed | skipped`` and ``unstarted → abandoned``.
    """

    UNSTARTED = "unstarted"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    SKIPPED = "skipped"
    REPLAYED = "replayed"
    ABANDONED = "abandoned"


STATUSES: Final = tuple(Status)
RESOLVED: Final = frozenset({Status.FINISHED, Status.SKIPPED, Status.REPLAYED, Status.ABANDONED})
UNRESOLVED: Final = frozenset(STATUSES) - RESOLVED
_POSITION: Final = {status: position for position, status in enumerate(STATUSES)}


class Source(StrEnum):
    """Who fired an event."""

    APPLICATION = "application"
    INSTANCE = "instance"
    PLUGIN = "plugin"


class SessionState(StrEnum):
    """Whether a session accepts events."""

    OPEN = "open"
    CLOSED = "closed"


def to_micros(at: float) -> float:
    """A time rounded to whole microseconds; what `round(at, 6)` does in five times the time."""
    return int(at * 1_000_000 + 0.5) / 1_000_000


NOTHING: Final = msgspec.Raw(b"")
"""Stands for "no payload" in a record; compared by identity, so use this very object."""

Extra = dict[str, msgspec.Raw]


class Event(
    msgspec.Struct,
    kw_only=True,
    omit_defaults=True,
    rename={
        "number": "n",
        "trigger": "t",
        "payload": "k",
        "source": "src",
        "chain": "d",
        "carrier": "c",
        "extra": "x",
    },
):
    """One recorded fire.

    `number` counts from 0 in its session; `at` is the storage's clock, in seconds since 1970;
    `cause` names the instance or plugin that fired it; `chain` is the length of the chain of
    cascades behind it (0 for an application's event); `by` names the person who fired it by hand.
    `carrier` says to tracers who fired it (`triggers_core.engine.carriers`).
    """

    id: str
    trigger: str
    number: int = -1
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    at: float = 0.0
    source: Source = Source.APPLICATION
    cause: str = ""
    chain: int = 0
    by: str = ""
    carrier: dict[str, str] | None = None
    extra: Extra = {}


class Extent(
    msgspec.Struct,
    kw_only=True,
    omit_defaults=True,
    rename={"amount": "n", "first": "a", "last": "z", "trigger": "t", "where": "w", "unless": "u"},
):
    """The events that a shared leaf of several events held when its instance left `unstarted`.

    The first `amount` events from number `first` to `last` that are of the trigger and pass `where`
    (its written form, encoded): all that it takes to read them in one go, whatever becomes of the
    task. `unless`: whether the leaf only calls off, so that the body gets nothing of it.
    """

    amount: int
    first: int
    last: int
    trigger: str
    where: msgspec.Raw = NOTHING
    unless: bool = False


class Instance(
    msgspec.Struct,
    kw_only=True,
    omit_defaults=True,
    rename={
        "number": "n",
        "status": "s",
        "attempt": "a",
        "created_by": "by",
        "config_version": "cv",
        "replaced": "k",
        "error": "e",
        "acted_by": "ab",
        "carrier": "c",
        "metadata": "meta",
        "extra": "x",
    },
):
    """One run of a task. Times are the storage's clock, in seconds since 1970.

    `taken` and `noted` hold, by the key of a leaf, the numbers of the events that it took for its
    required set and noted for its `unless`; payloads are in the events. `due_at` is when the sweep
    should look next; of an unstarted instance it is the moment at which it falls due.
    """

    task: str
    number: int
    status: Status = Status.UNSTARTED
    taken: dict[str, list[int]] = {}
    noted: dict[str, list[int]] = {}
    extents: dict[str, Extent] = {}
    """Key → the events of a leaf that holds several; written when it leaves `unstarted`."""
    created_by: int = -1
    """Number of the event that created it; -1 when an earlier version did."""
    met: bool = False
    """Whether its condition has come to hold: it has no deadline any more."""
    began: float | None = None
    """Time of the event from which `within` and `atMost` count."""
    latest_at: float | None = None
    """Time of the latest event in its own required leaves, if its task is `waiting`."""
    until: float | None = None
    """What the event that `waiting.until` names says; None: nothing usable."""
    counts: dict[str, int] = {}
    """Key of a counted leaf → the count that an event named."""
    floor: int = 0
    """Events below this number do not count for its required leaves (`everyTime`)."""
    bases: dict[str, int] = {}
    """Address of a record → how many of its events lie below the floor."""
    watched: list[str] = []
    """Triggers of shared leaves under which it is indexed: it waits for nothing else."""
    late: bool = False
    """Whether it was abandoned because its deadline had passed."""
    moment: float | None = None
    """When it was scheduled or abandoned; None: at the time of `scheduled_by`."""
    left: int = -1
    """How many events were recorded when it left `unstarted`; -1: those up to `scheduled_by`."""
    told: bool = False
    """Whether its `otherwise` trigger, or one of an instance that it replays, has fired."""
    scheduled_by: int = -1
    """Number of the event that completed (or abandoned) it; -1 while there is none."""
    chain: int = 0
    """Length of the chain of cascades that led here (that of `scheduled_by`)."""
    replaced: msgspec.Raw = NOTHING
    """Kwargs that a replay put in place of the events' ones."""
    parent: str = ""
    depth: int = 0
    retries: int = 0
    attempt: int = 0
    token: str = ""
    lease_until: float | None = None
    not_before: float | None = None
    due_at: float | None = None
    redispatches: int = 0
    key: str = ""
    config_version: int = 0
    result: int = -1
    """Number of the event that carries its result (its cascade); -1 when there is none."""
    request: str = ""
    """Id of the request that replayed or skipped it, to recognise the same request again."""
    replayed_as: str = ""
    """Name of the clone that a replay made of it."""
    error: str = ""
    """The type of the error that it failed of last, such as ``SMTPError``."""
    acted_by: str = ""
    """Who replayed, skipped or failed it by hand, as far as is known."""
    carrier: dict[str, str] | None = None
    """Says to tracers which act made it, of the clone of a replay by hand."""
    metadata: msgspec.Raw = NOTHING
    log_level: int = 0
    logs_resolved: bool = False
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    extra: Extra = {}

    @property
    def name(self) -> str:
        """The instance's name, for example ``t_importSubject#0``."""
        return f"{self.task}#{self.number}"

    @property
    def holder(self) -> str:
        """Who holds its attempt, as far as is known: workers put that behind the token."""
        return self.token.partition("@")[2]

    @property
    def why(self) -> str | None:
        """Why it came to no success: ``late``, ``calledOff``, ``failed``, ``skipped``; or None."""
        status = self.status
        if status is Status.ABANDONED:
            return "late" if self.late else "calledOff"
        if status is Status.FAILED or status is Status.REPLAYED:
            return "failed"
        return "skipped" if status is Status.SKIPPED and self.result < 0 else None

    @property
    def resolved(self) -> bool:
        """Whether nothing remains to be done for it."""
        return self.status in RESOLVED

    @property
    def has_open_logs(self) -> bool:
        """Whether it logged a warning or worse that nobody has dealt with.

        A replay, a retry and a skip deal with it, and so does `ResolveLogs`.
        """
        return self.log_level >= logging.WARNING and not self.logs_resolved


class LeafRecord(msgspec.Struct, array_like=True):
    """What a session knows of the events that pass a leaf: how many, the first, the latest, when.

    `since` is the number of events that were recorded before it began: none of those is counted.
    The latest event may be one of them, where no test of its kwargs was needed to know it.
    """

    amount: int = 0
    first: int = -1
    latest: int = -1
    first_at: float = 0.0
    latest_at: float = 0.0
    since: int = 0
    until: dict[str, float | None] = {}
    """Path → the moment that the latest event names there, for leaves that a `waiting` reads."""


class Round(msgspec.Struct, array_like=True):
    """Where the instances of an `everyTime` task stand."""

    left: int = 0
    """How many events were recorded when the last one left `unstarted`: the next sees the rest."""
    bases: dict[str, int] = {}
    """Address of a record → how many of its events those were."""
    waiting: int = 0
    """How many are `unstarted`, replays apart…"""
    first_waits: bool = False
    """…and whether the first instance is one of them."""

    @property
    def idle(self) -> int:
        """How many of them merely wait for the next time, so that nobody has to wait for them."""
        return self.waiting - self.first_waits


class Header(
    msgspec.Struct,
    kw_only=True,
    omit_defaults=True,
    rename={
        "generation": "g",
        "version": "v",
        "state": "s",
        "config_version": "cv",
        "events": "n",
        "missing": "m",
        "extra": "x",
    },
):
    """What a session is, in the size of its configuration: no list in it grows with its history.

    `latest` maps each fired trigger to the number of its latest event; `counts` each task that has
    instances to their numbers by status, in the order of `STATUSES` (`totals` is their sum over all
    tasks); `open_logs` a log level to the number of instances with unresolved logs of that level.
    """

    generation: str
    schema: int = SCHEMA
    version: int = 0
    state: SessionState = SessionState.OPEN
    config: str = ""
    config_version: int = 0
    requires: tuple[str, ...] = ()
    events: int = 0
    latest: dict[str, int] = {}
    counts: dict[str, list[int]] = {}
    totals: list[int] = []
    open_logs: dict[int, int] = {}
    records: dict[str, LeafRecord] = {}
    """Address → record, for each leaf of the configuration that is shared or has a `where`."""
    since: dict[str, int] = {}
    """Trigger → how many events were recorded when it came into the configuration, if any were: a
    record of its events that is begun later begins there."""
    rounds: dict[str, Round] = {}
    """Task → round, for tasks with `everyTime`."""
    next_moment: float | None = None
    """No unstarted instance falls due before this moment; None: none does at all."""
    last_at: float = 0.0
    """Time of the last event, or a later moment that is decided, if `updated_at` is before it."""
    created_at: float = 0.0
    updated_at: float = 0.0
    waiting_since: float | None = None
    missing: tuple[str, ...] = ()
    """While it waits: the triggers that it waits for, sorted, as far as the header can tell. The
    fleet index groups sessions by them; see `triggers_core.engine.missing`."""
    extra: Extra = {}

    def count(self, task: str, *statuses: Status) -> int:
        """Instances of one task in any of the statuses."""
        counts, found = self.counts.get(task), 0
        if counts is not None:
            for status in statuses:
                found += counts[_POSITION[status]]
        return found

    def created(self, task: str) -> int:
        """Instances that the task ever had in this session."""
        counts = self.counts.get(task)
        return sum(counts) if counts else 0

    def unresolved(self, task: str) -> int:
        """Unresolved instances of one task."""
        counts = self.counts.get(task)
        if not counts:
            return 0
        unstarted, scheduled, running, _, failed, *_ = counts
        return unstarted + scheduled + running + failed

    def total(self, *statuses: Status) -> int:
        """Instances of all tasks in any of the statuses."""
        found = 0
        for status in statuses if self.totals else ():
            found += self.totals[_POSITION[status]]
        return found

    @property
    def floor(self) -> float:
        """No event may be stored with a time before this one."""
        return self.last_at or self.updated_at

    def touched_at(self, at: float, floor: float) -> None:
        """Note the time of a change.

        :param floor: time of the last event, or of a later moment that is decided.
        """
        self.updated_at = at
        # While something will fall due, to the microsecond: its moment may lie between the two.
        self.last_at = floor if floor > at or self.next_moment is not None else 0.0

    @property
    def idle(self) -> int:
        """Unstarted instances that only wait for the next time (`Round.idle`)."""
        return sum(each.idle for each in self.rounds.values()) if self.rounds else 0

    def add(self, task: str, status: Status, change: int) -> None:
        """Count `change` more instances of the task in the status."""
        counts = self.counts.get(task)
        if counts is None:
            counts = self.counts[task] = [0] * len(STATUSES)
            self.totals = self.totals or [0] * len(STATUSES)
        counts[_POSITION[status]] += change
        self.totals[_POSITION[status]] += change


_encoder = msgspec.json.Encoder()
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)
"""What msgspec raises about bytes that are no such record: damaged ones, or a newer version's."""
_headers = msgspec.json.Decoder(Header)
_events = msgspec.json.Decoder(Event)
_instances = msgspec.json.Decoder(Instance)

Record = Header | Event | Instance


def encode_record(record: Record) -> bytes:
    """Encode a record as JSON; the inverse of the `decode_*` functions."""
    return _encoder.encode(record)


def decode_header(data: bytes) -> Header:
    """Decode a header.

    :raises UnknownSchema: a newer, incompatible version wrote it, or it is damaged.
    """
    try:
        header = _headers.decode(data)
    except _UNREADABLE as error:
        raise _unreadable("the session's header", error) from error
    if header.schema > SCHEMA:
        raise UnknownSchema(
            f"the session was written in schema {header.schema}, this version of Triggers reads up"
            f" to {SCHEMA}: upgrade triggers-core in this process"
        )
    return header


def decode_event(data: bytes) -> Event:
    """Decode an event.

    :raises UnknownSchema: a newer, incompatible version wrote it, or it is damaged.
    """
    try:
        return _events.decode(data)
    except _UNREADABLE as error:
        raise _unreadable("the record of an event", error) from error


def decode_instance(data: bytes) -> Instance:
    """Decode an instance.

    :raises UnknownSchema: a newer, incompatible version wrote it, or it is damaged.
    """
    try:
        return _instances.decode(data)
    except _UNREADABLE as error:
        raise _unreadable("the record of an instance", error) from error


def _unreadable(what: str, error: Exception) -> UnknownSchema:
    return UnknownSchema(
        f"{what} cannot be read ({error}): a newer version of triggers-core wrote it, then upgrade"
        " this process; or it is damaged"
    )
