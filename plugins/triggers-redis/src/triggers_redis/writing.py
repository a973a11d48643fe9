"""The encoder of commits: from a plan to what the commit script writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from triggers_core.engine.configuration import EMPTY
from triggers_core.engine.protocol import Change, Plan
from triggers_core.engine.records import Header, Status
from triggers_core.engine.waits import is_moment, wait_keys
from triggers_core.storages.groups import failed_at
from triggers_redis.codec import (
    PACKED,
    SPREAD,
    encode_event,
    encode_header,
    encode_instance,
    instance_line,
    new_version_line,
    read_event,
)
from triggers_redis.keys import (
    DUE,
    EVENTS,
    INSTANCES,
    SESSION,
    WAITS,
    Keyspace,
    SessionKeys,
    event_member,
    failure_member,
    group_member,
    short_address,
    use_member,
)
from triggers_redis.resp import encode_arguments
from triggers_redis.view import FindConfiguration, View

PACKED_SIZE: Final = 4_096
"""Bytes up to which a session stays in one value. Each commit moves all of it, which at this size
costs less than the commands and the half kilobyte of memory that further keys take."""

_CHUNK: Final = 250  # arguments in one operation; one byte says how many there are

# The letters that the commit script knows.
_RPUSH, _HSET, _ZADD, _ZREM, _PEXPIRE, _PERSIST, _CONFIGURED, _MARKED, _NEW = b"rhzxepcmn"
_UNDER_WAY: Final = frozenset({Status.SCHEDULED, Status.RUNNING})


class Write:
    """What one commit sends, and what its session is afterwards.

    :ivar layout: packed or spread, as the session will be.
    :ivar version_line: without the letter of the layout.
    :ivar header: its header, encoded.
    :ivar instances: those that this commit writes, encoded, by name.
    :ivar events: those that it adds, encoded, by number.
    :ivar value: what the session's key will hold, in front of the events.
    :ivar events_offset: where the events that stay begin in what it holds now; empty: none stay.
    :ivar events_text: what comes behind those.
    """

    __slots__ = (
        "_configuration",
        "_keyspace",
        "_more",
        "_session",
        "_used",
        "events",
        "events_offset",
        "events_text",
        "header",
        "instances",
        "layout",
        "operations",
        "value",
        "version_line",
    )

    def __init__(
        self, keyspace: Keyspace, session: SessionKeys, view: View, plan: Plan[Any]
    ) -> None:
        header = plan.header
        assert header is not None
        self._keyspace, self._session = keyspace, session
        self._used, self._more = SESSION, dict[bytes, int]()
        self._configuration: bytes | None = None
        self.layout = PACKED
        self.version_line = new_version_line(header)
        self.header = encode_header(header)
        self.instances: dict[str, bytes] = {}
        self.events = {event.number: encode_event(event) for event in plan.events}
        self.operations: list[bytes] = []
        self.value = self.events_text = self.events_offset = b""
        if plan.configuration is not None:  # the first further key, as the script expects
            self.key(keyspace.configuration(session.shard, plan.configuration.hash))
            self._configuration = plan.configuration.encoded
            index = self.key(keyspace.configurations(session.shard))
            self.do(_CONFIGURED, index, plan.configuration.hash.encode())
        given = [each for each in plan.events if is_given(each.id)]
        if given:
            members = [event_member(each, session.uid) for each in given]
            key = self.key(keyspace.event_ids(session.shard, session.bucket))
            self.do(_ZADD, key, *[each for member in members for each in (b"0", member)])
        if plan.created:
            self.do(_MARKED, self.key(keyspace.marker(session.shard)), b"%d" % keyspace.shards)
        for change in plan.changes:
            name = change.instance.name
            self.instances[name] = encode_instance(name, change.instance, header.generation)
            if not change.keep_times:
                self.due(name, change)
            if change.instance.status is not change.before:
                self.failure(name, change)
        if plan.fleet_changed or plan.created or (plan.group_before or ()) != header.missing:
            self.fleet(plan, view.read_header())

    # -- as it is sent ------------------------------------------------------------------------

    def keys(self, asked: int) -> tuple[int, bytes]:
        """How many keys the commit script gets, and those.

        :param asked: how many of the session's it takes to report a conflict.
        """
        more = self._more
        if not more:
            used = max(self._used, asked)
            return used, self._session.encoded[used]
        return DUE + len(more), self._session.encoded[DUE] + encode_arguments(more)

    def arguments(self, ticket: bytes, bring_configuration: bool) -> list[bytes]:
        """ARGV from 4 on.

        :param ticket: who wants to reserve the session on a conflict; empty: nobody.
        :param bring_configuration: send its body; else only see that the server has it.
        """
        if self.layout == SPREAD and not ticket and self._configuration is None:
            return [self.value, b"", *self.operations]
        configuration = b""
        if self._configuration is not None:
            configuration = self._configuration if bring_configuration else b"?"
        extension = (b"x", self.events_offset, self.events_text, ticket, configuration)
        return [self.value, *extension, *self.operations]

    # -- operations ---------------------------------------------------------------------------

    def key(self, name: bytes) -> int:
        """The number of a further key; one byte says it, so each is there once."""
        return self._more.setdefault(name, DUE + 1 + len(self._more))

    def do(self, command: int, key: int, *arguments: bytes) -> None:
        """Add an operation; several if it has too many arguments for one command."""
        if self._used < key <= DUE:
            self._used = key
        while len(arguments) > _CHUNK:
            self.operations += (bytes((command, key, _CHUNK)), *arguments[:_CHUNK])
            arguments = arguments[_CHUNK:]
        self.operations += (bytes((command, key, len(arguments))), *arguments)

    def due(self, name: str, change: Change) -> None:
        """Keep the due index, and the list of what comes by itself, in step with an instance."""
        instance, before = change.instance, change.before
        member = f"{name}\t{self._session.uid}".encode()
        came = any(map(is_moment, change.waits_before))
        if instance.due_at is not None:
            self.do(_ZADD, DUE, repr(instance.due_at).encode(), member)
        elif before in _UNDER_WAY or (
            before is Status.UNSTARTED and (instance.status is not before or came)
        ):
            self.do(_ZREM, DUE, member)
        if instance.status is Status.UNSTARTED and instance.due_at is not None:
            coming = self.key(self._keyspace.coming(self._session.shard))
            self.do(_ZADD, coming, repr(instance.due_at).encode(), member)
        elif came:
            self.do(_ZREM, self.key(self._keyspace.coming(self._session.shard)), member)

    def failure(self, name: str, change: Change) -> None:
        """Keep the list of failed instances in step with an instance."""
        instance, uid = change.instance, self._session.uid
        failed = instance.status is Status.FAILED
        if failed or change.before is Status.FAILED:
            key = self.key(self._keyspace.failures(self._session.shard, self._session.bucket))
            member = failure_member(name, instance.error, uid)
            if failed:
                self.do(_ZADD, key, repr(failed_at(instance)).encode(), member)
            else:
                self.do(_ZREM, key, member)

    def fleet(self, plan: Plan[Any], before: Header | None) -> None:
        """Keep the listings of sessions in step.

        :param before: the header as it is stored; None: there is no session yet.
        """
        keyspace, header = self._keyspace, plan.header
        assert header is not None
        uid, shard, bucket = self._session.uid_bytes, self._session.shard, self._session.bucket
        if plan.created:
            self.do(_NEW, self.key(keyspace.all(shard, bucket)), b"0", uid)
        since, since_before = header.waiting_since, before and before.waiting_since
        if since is not None and since != since_before:
            waiting = self.key(keyspace.waiting(shard, bucket))
            self.do(_ZADD, waiting, repr(since).encode(), uid)
        elif since is None and since_before is not None:
            self.do(_ZREM, self.key(keyspace.waiting(shard, bucket)), uid)
        member, old = (group_member(each, self._session.uid) for each in (header, before))
        if member != old:
            groups = self.key(keyspace.groups(shard, bucket))
            if member:
                self.do(_ZADD, groups, b"0", member)
            if old:
                self.do(_ZREM, groups, old)
        failed = header.total(Status.FAILED)
        if failed:  # negative, so that the lowest score has the most failures
            self.do(_ZADD, self.key(keyspace.failed(shard)), b"%d" % -failed, uid)
        elif not plan.created:
            self.do(_ZREM, self.key(keyspace.failed(shard)), uid)

    def uses(self, view: View, plan: Plan[Any]) -> None:
        """Keep the lists of which sessions have which configuration in step."""
        header, before = plan.header, view.read_header()
        assert header is not None
        address = "" if before is None else before.config
        if header.config != address:
            key = self.key(self._keyspace.uses(self._session.shard, self._session.bucket))
            amounts = self.key(self._keyspace.amounts(self._session.shard))
            self.do(_ZADD, key, b"0", use_member(header.config, self._session.uid))
            self.do(_ZADD, amounts, b"INCR", b"1", short_address(header.config))
            if address:
                self.do(_ZREM, key, use_member(address, self._session.uid))
                self.do(_ZADD, amounts, b"INCR", b"-1", short_address(address))

    def expire(self, plan: Plan[Any], seconds: float) -> None:
        """Let a session expire when nothing happens to it; not while something is under way."""
        assert plan.header is not None
        idle = not plan.header.total(*_UNDER_WAY)
        keys = (SESSION, EVENTS, INSTANCES, WAITS) if self.layout == SPREAD else (SESSION,)
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
        self.value = b"%b%b%b\n%b" % (PACKED, self.version_line, self.header, b"".join(lines))
        self.events_text = b"".join([record + b"\n" for record in self.events.values()])
        size = len(self.value) + len(self.events_text)
        if view.events:
            self.events_offset = b"%d" % view.events_offset()
            size += sum(map(len, view.events.values())) + len(view.events)
        self.layout = PACKED if size <= PACKED_SIZE else SPREAD
        return self.layout == PACKED

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
                waits += _waits(name, wait_keys(configuration.tasks.get(instance.task), instance))
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
        self.layout = SPREAD
        self.value = b"%b%b%b\n" % (SPREAD, self.version_line, self.header)
        self.events_text = self.events_offset = b""
        fields: list[bytes] = []
        for name, stored in instances.items():
            fields += (name.encode(), stored)
        for number, event_id in zip(events, ids, strict=True):
            if is_given(event_id):  # else it tells the event's number
                fields += (b"\1" + event_id.encode(), b"%d" % number)
        if events:
            self.do(_RPUSH, EVENTS, *events.values())
        if fields:
            self.do(_HSET, INSTANCES, *fields)
        if waits:
            self.do(_ZADD, WAITS, *[each for wait in waits for each in (b"0", wait)])


def prepare(
    keyspace: Keyspace,
    session: SessionKeys,
    view: View,
    plan: Plan[Any],
    find: FindConfiguration,
    idle_ttl: float | None = None,
) -> Write:
    """Encode a plan whose times are stamped. Raises before anything is sent, if at all.

    :param view: what the plan was decided on.
    """
    write = Write(keyspace, session, view, plan)
    if plan.configuration is not None:
        write.uses(view, plan)
    if not view.packed:
        write.spread(plan)
    elif not write.pack(view):
        write.unpack(view, plan, find)
    if idle_ttl is not None:
        write.expire(plan, idle_ttl)
    return write


def is_given(event_id: str) -> bool:
    """Whether the application gave an event its id."""
    return event_id[:1] != "~"


def _waits(name: str, triggers: Iterable[str]) -> list[bytes]:
    return [f"{trigger}\t{name}".encode() for trigger in triggers]
