"""What a storage keeps: the session's header, its events and its instances.

Records are JSON, short keys, defaults left out. Every record has an `extra` mapping that this
version never reads but always writes back: a newer version keeps its additions there, so that old
and new processes can share a session during a rolling upgrade.
"""

from __future__ import annotations

import logging
import re
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


_GENERATED: Final = re.compile(r"~([0-9]{1,9})(\..+)?", re.DOTALL)

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
        "extra": "x",
    },
):
    """One recorded fire.

    `number` counts from 0 in its session; `at` is the storage's clock, in seconds since 1970;
    `cause` names the instance or plugin that fired it; `chain` is the length of the chain of
    cascades behind it (0 for an application's event).
    """

    id: str
    trigger: str
    number: int = -1
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    at: float = 0.0
    source: Source = Source.APPLICATION
    cause: str = ""
    chain: int = 0
    extra: Extra = {}


class Instance(
    msgspec.Struct,
    kw_only=True,
    omit_defaults=True,
    rename={
        "number": "n",
        "status": "s",
        "attempt": "a",
        "config_version": "cv",
        "replaced": "k",
        "metadata": "meta",
        "extra": "x",
    },
):
    """One run of a task. Times are the storage's clock, in seconds since 1970.

    `taken` and `noted` hold the numbers of the events that it took for its required set and noted
    for its `unless`; payloads are in the events. `due_at` is when the sweep should look next.
    """

    task: str
    number: int
    status: Status = Status.UNSTARTED
    taken: dict[str, list[int]] = {}
    noted: dict[str, list[int]] = {}
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
    def resolved(self) -> bool:
        """Whether nothing remains to be done for it."""
        return self.status in RESOLVED

    @property
    def has_open_logs(self) -> bool:
        """Whether it logged a warning or worse that nobody has dealt with.

        A replay, a retry and a skip deal with it, and so does `ResolveLogs`.
        """
        return self.log_level >= logging.WARNING and not self.logs_resolved


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
    created_at: float = 0.0
    updated_at: float = 0.0
    waiting_since: float | None = None
    extra: Extra = {}

    def count(self, task: str, status: Status) -> int:
        """Instances of one task in one status."""
        counts = self.counts.get(task)
        return counts[_POSITION[status]] if counts else 0

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

    def add(self, task: str, status: Status, change: int) -> None:
        """Count `change` more instances of the task in the status."""
        counts = self.counts.get(task)
        if counts is None:
            counts = self.counts[task] = [0] * len(STATUSES)
            self.totals = self.totals or [0] * len(STATUSES)
        counts[_POSITION[status]] += change
        self.totals[_POSITION[status]] += change


def generated_id(number: int, unique: str = "") -> str:
    """The id of an event that got none from the application: ``~17.Xk3f…``, ``~17`` for a cascade.

    It holds the event's number, so that storages find the event without an index on ids.

    :param unique: tells events of the same number apart that are of different sessions, or of
        different lives of one uid.
    """
    return f"~{number}.{unique}" if unique else f"~{number}"


def number_in_id(event_id: str) -> int | None:
    """The event's number in a generated id; None for an application's id, which has no ``~``."""
    found = _GENERATED.fullmatch(event_id) if event_id[:1] == "~" else None
    return int(found[1]) if found else None


def is_generated_id(event_id: str) -> bool:
    """Whether it is what a fire without an id got, complete with what makes it unique."""
    found = _GENERATED.fullmatch(event_id)
    return bool(found and found[2])


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
