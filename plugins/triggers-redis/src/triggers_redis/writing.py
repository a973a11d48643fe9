"""From a plan to what the commit script writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from triggers_core.engine.configuration import EMPTY
from triggers_core.engine.machine import missing_triggers
from triggers_core.engine.protocol import Change, Plan
from triggers_core.engine.records import Status
from triggers_redis.keys import DUE, EVENTS, INSTANCES, SESSION, WAITS, Names, SessionKeys
from triggers_redis.resp import packed
from triggers_redis.text import (
    PACKED,
    SPREAD,
    encode_event,
    encode_header,
    encode_instance,
    first_line,
    instance_line,
    read_event,
)
from triggers_redis.view import FindConfiguration, View

PACKED_SIZE: Final = 4_096
"""Bytes up to which a session stays in one value. Each commit moves all of it, which at this size
costs less than the commands and the half kilobyte of memory that further keys take."""

_CHUNK: Final = 250  # arguments in one operation; one byte says how many there are

# The letters that the commit script knows.
_RPUSH, _HSET, _ZADD, _ZREM, _PEXPIRE, _PERSIST, _CONFIGURED, _MARKED = b"rhzxepcm"
_UNDER_WAY: Final = frozenset({Status.SCHEDULED, Status.RUNNING})


class Write:
    """What one commit sends, and what its session is afterwards.

    :ivar form: packed or spread, as the session will be.
    :ivar first: its first line.
    :ivar header: its header, encoded.
    :ivar instances: those that this commit writes, encoded, by name.
    :ivar events: those that it adds, encoded, by number.
    """

    __slots__ = (
        "_configuration",
        "_more",
        "_names",
        "_session",
        "_used",
        "events",
        "first",
        "form",
        "head",
        "header",
        "instances",
        "kept",
        "operations",
        "tail",
    )

    def __init__(self, names: Names, session: SessionKeys, plan: Plan[Any]) -> None:
        header = plan.header
        assert header is not None
        self._names, self._session = names, session
        self._used, self._more = SESSION, list[bytes]()
        self._configuration: bytes | None = None
        self.form = PACKED
        self.first = first_line(header)
        self.header = encode_header(header)
        self.instances: dict[str, bytes] = {}
        self.events = {event.number: encode_event(event) for event in plan.events}
        self.operations: list[bytes] = []
        self.head = self.tail = self.kept = b""
        if plan.configuration is not None:  # the first further key, as the script expects
            self.key(names.configuration(session.shard, plan.configuration.hash))
            self._configuration = plan.configuration.encoded
            index = self.key(names.configurations(session.shard))
            self.do(_CONFIGURED, index, plan.configuration.hash.encode())
        if plan.created:
            self.do(_MARKED, self.key(names.mark(session.shard)), b"%d" % names.shards)
        for change in plan.changes:
            name = change.instance.name
            self.instances[name] = encode_instance(name, change.instance, header.generation)
            if not change.keep_times:
                self.due(name, change)
        if plan.fleet_changed or plan.created:
            self.fleet(plan)

    # -- as it is sent ------------------------------------------------------------------------

    @property
    def needs_configuration(self) -> bool:
        """Whether a configuration has to be stored before this."""
        return self._configuration is not None

    def keys(self, asked: int) -> tuple[int, bytes]:
        """How many keys the commit script gets, and those.

        :param asked: how many of the session's it takes to report a conflict.
        """
        used = DUE if self._more else max(self._used, asked)
        more = self._more
        return used + len(more), self._session.resp[used] + packed(more)

    def arguments(self, ticket: bytes, bring_configuration: bool) -> list[bytes]:
        """ARGV from 4 on.

        :param ticket: who wants to reserve the session on a conflict; empty: nobody.
        :param bring_configuration: send its body; else only see that the server has it.
        """
        if self.form == SPREAD and not ticket and self._configuration is None:
            return [self.head, b"", *self.operations]
        configuration = b""
        if self._configuration is not None:
            configuration = self._configuration if bring_configuration else b"?"
        return [self.head, b"x", self.kept, self.tail, ticket, configuration, *self.operations]

    # -- operations ---------------------------------------------------------------------------

    def key(self, name: bytes) -> int:
        """The number of a further key."""
        self._more.append(name)
        return DUE + len(self._more)

    def do(self, command: int, key: int, *arguments: bytes) -> None:
        """Add an operation; several if it has too many arguments for one command."""
        if self._used < key <= DUE:
            self._used = key
        while len(arguments) > _CHUNK:
            self.operations += (bytes((command, key, _CHUNK)), *arguments[:_CHUNK])
            arguments = arguments[_CHUNK:]
        self.operations += (bytes((command, key, len(arguments))), *arguments)

    def due(self, name: str, change: Change) -> None:
        """Keep the due index in step with an instance."""
        instance, before = change.instance, change.before
        if instance.due_at is not None:
            member = f"{name}\t{self._session.uid}".encode()
            self.do(_ZADD, DUE, repr(instance.due_at).encode(), member)
        elif before in _UNDER_WAY or (
            before is Status.UNSTARTED and instance.status is not Status.UNSTARTED
        ):
            self.do(_ZREM, DUE, f"{name}\t{self._session.uid}".encode())

    def fleet(self, plan: Plan[Any]) -> None:
        """Keep the listings of sessions in step."""
        names, header = self._names, plan.header
        assert header is not None
        uid, shard, bucket = self._session.uid_bytes, self._session.shard, self._session.bucket
        if plan.created:
            self.do(_ZADD, self.key(names.all(shard, bucket)), b"0", uid)
        if header.waiting_since is not None:
            since = repr(header.waiting_since).encode()
            self.do(_ZADD, self.key(names.waiting(shard, bucket)), since, uid)
        elif not plan.created:
            self.do(_ZREM, self.key(names.waiting(shard, bucket)), uid)
        failed = header.total(Status.FAILED)
        if failed:  # negative, so that the lowest score has the most failures
            self.do(_ZADD, self.key(names.failed(shard)), b"%d" % -failed, uid)
        elif not plan.created:
            self.do(_ZREM, self.key(names.failed(shard)), uid)

    def expire(self, plan: Plan[Any], seconds: float) -> None:
        """Let a session expire when nothing happens to it; not while something is under way."""
        assert plan.header is not None
        idle = not plan.header.total(*_UNDER_WAY)
        keys = (SESSION, EVENTS, INSTANCES, WAITS) if self.form == SPREAD else (SESSION,)
        for key in keys:
            if idle:
                self.do(_PEXPIRE, key, b"%d" % (seconds * 1_000))
            else:
                self.do(_PERSIST, key)

    # -- forms --------------------------------------------------------------------------------

    def pack(self, view: View) -> bool:
        """Put all of the session into one value, if it is small enough."""
        instances = view.instances | self.instances if view.instances else self.instances
        lines = [instance_line(name, stored) for name, stored in instances.items()]
        self.head = b"%b%b%b\n%b" % (PACKED, self.first, self.header, b"".join(lines))
        self.tail = b"".join([record + b"\n" for record in self.events.values()])
        size = len(self.head) + len(self.tail)
        if view.events:
            self.kept = b"%d" % view.head_size()
            size += sum(map(len, view.events.values())) + len(view.events)
        self.form = PACKED if size <= PACKED_SIZE else SPREAD
        return self.form == PACKED

    def spread(self, plan: Plan[Any]) -> None:
        """Put instances and events into keys of their own."""
        waits: list[bytes] = []
        unwaits: list[bytes] = []
        for name, change in zip(self.instances, plan.changes, strict=True):
            if change.waits_after != change.waits_before:
                waits += _waits(name, change.waits_after - change.waits_before)
                unwaits += _waits(name, change.waits_before - change.waits_after)
        ids = [event.id for event in plan.events]
        self._spread(self.instances, self.events, ids, waits)
        if unwaits:
            self.do(_ZREM, WAITS, *unwaits)

    def unpack(self, view: View, plan: Plan[Any], find: FindConfiguration) -> None:
        """Put a session that has grown too large into keys of its own, all of it at once."""
        header = plan.header
        assert header is not None
        waits = [
            w for change in plan.changes for w in _waits(change.instance.name, change.waits_after)
        ]
        configuration = plan.configuration or (find(header.config) if header.config else EMPTY)
        for name, stored in view.instances.items():
            if name not in self.instances and stored[:1] == b"u":
                instance = view.read_instance(name)
                task = configuration.tasks.get(instance.task)
                if task is not None:
                    waits += _waits(name, missing_triggers(task, instance))
        events = view.events | self.events
        ids = [read_event(number, record).id for number, record in events.items()]
        self._spread(view.instances | self.instances, events, ids, waits)

    def _spread(
        self,
        instances: dict[str, bytes],
        events: dict[int, bytes],
        ids: Iterable[str],
        waits: Sequence[bytes],
    ) -> None:
        self.form = SPREAD
        self.head, self.tail, self.kept = b"%b%b%b\n" % (SPREAD, self.first, self.header), b"", b""
        fields: list[bytes] = []
        for name, stored in instances.items():
            fields += (name.encode(), stored)
        for number, event_id in zip(events, ids, strict=True):
            if event_id[:1] != "~":  # a generated one tells the event's number
                fields += (b"\1" + event_id.encode(), b"%d" % number)
        if events:
            self.do(_RPUSH, EVENTS, *events.values())
        if fields:
            self.do(_HSET, INSTANCES, *fields)
        if waits:
            self.do(_ZADD, WAITS, *[each for wait in waits for each in (b"0", wait)])


def prepare(
    names: Names,
    session: SessionKeys,
    view: View,
    plan: Plan[Any],
    find: FindConfiguration,
    idle_ttl: float | None = None,
) -> Write:
    """Encode a plan whose times are stamped. Raises before anything is sent, if at all.

    :param view: what the plan was decided on.
    """
    write = Write(names, session, plan)
    if not view.packed:
        write.spread(plan)
    elif not write.pack(view):
        write.unpack(view, plan, find)
    if idle_ttl is not None:
        write.expire(plan, idle_ttl)
    return write


def _waits(name: str, triggers: Iterable[str]) -> list[bytes]:
    return [f"{trigger}\t{name}".encode() for trigger in triggers]
