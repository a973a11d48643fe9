"""The names of keys: every session's are in one shard, so that a script touches one slot.

The shard's tag comes first, in braces: Redis Cluster hashes what is between the first pair, and a
uid may hold braces of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Final
from zlib import crc32

import msgspec

from triggers_core.engine.records import Event, Header
from triggers_redis.resp import encode_arguments

BUCKETS: Final = 64
"""Parts of the listings of a shard. Redis keeps a sorted set of up to 128 short members in a
listpack, a third of the memory; with 16 shards that lasts to about 130,000 sessions."""

SHORT: Final = 12
"""Characters of a configuration's address that the lists of who has it hold."""

SESSION, WAITS, INSTANCES, EVENTS, DUE = range(1, 6)
"""Numbers of the keys that the scripts about a session get, as many of the first as they need:
each costs the server as much as a command does."""


def group_name(missing: Iterable[str]) -> str:
    """A group of waiting sessions, by what they lack."""
    return "\x1f".join(missing)


def group_member(header: Header | None, uid: str) -> bytes:
    """A waiting session's member of the list by groups, in the order of time; else empty."""
    if header is None or header.waiting_since is None:
        return b""
    return f"{group_name(header.missing)}\t{since_text(header.waiting_since)}\t{uid}".encode()


def since_text(moment: float) -> str:
    """A moment as text that sorts by time, to the microsecond."""
    return f"{max(0, round(moment * 1_000_000)):017d}"


def event_member(event: Event, uid: str) -> bytes:
    """An event's member of the list by the ids that the application gave."""
    return f"{event.id}\t{uid}\t{event.number}".encode()


def short_address(address: str) -> bytes:
    """What the lists of which sessions have which configuration hold of an address: enough."""
    return address[:SHORT].encode()


def use_member(address: str, uid: str) -> bytes:
    """A session's member of that list."""
    return short_address(address) + f"\t{uid}".encode()


def failure_member(instance: str, error: str, uid: str) -> bytes:
    """A failed instance's member of the list of those."""
    return f"{instance}\t{error}\t{uid}".encode()


class SessionKeys(msgspec.Struct, frozen=True):
    """The keys of one session."""

    uid: str
    uid_bytes: bytes
    shard: int
    bucket: int
    names: tuple[bytes, ...]
    """session, waits, instances, events, due index of the shard"""
    encoded: tuple[bytes, ...]
    """None of them, the first, the first two, … in RESP."""


class Keyspace:
    """The names of the keys of one namespace.

    :param shards: how many parts its sessions are spread over; fixed for the namespace's life.
    """

    def __init__(self, namespace: str, shards: int) -> None:
        self.namespace, self.shards = namespace, shards
        self._width = max(2, len(str(shards - 1)))
        self.session = lru_cache(4_096)(self._session)

    def _tag(self, shard: int) -> str:
        return f"{self.namespace}:{{{shard:0{self._width}}}}"

    def _session(self, uid: str) -> SessionKeys:
        encoded = uid.encode()
        hashed = crc32(encoded)
        shard, bucket = hashed % self.shards, hashed // self.shards % BUCKETS
        tag = self._tag(shard)
        names = (*(f"{tag}:{part}:{uid}".encode() for part in "swie"), self.due(shard))
        in_resp = accumulate((encode_arguments((name,)) for name in names), initial=b"")
        return SessionKeys(uid, encoded, shard, bucket, names, tuple(in_resp))

    def due(self, shard: int) -> bytes:
        """The due index of a shard."""
        return f"{self._tag(shard)}:due".encode()

    def all(self, shard: int, bucket: int) -> bytes:
        """Part of the list of a shard's sessions."""
        return f"{self._tag(shard)}:all:{bucket:02}".encode()

    def waiting(self, shard: int, bucket: int) -> bytes:
        """Part of the list of a shard's waiting sessions."""
        return f"{self._tag(shard)}:waiting:{bucket:02}".encode()

    def failures(self, shard: int, bucket: int) -> bytes:
        """Part of the list of a shard's failed instances."""
        return f"{self._tag(shard)}:failures:{bucket:02}".encode()

    def groups(self, shard: int, bucket: int) -> bytes:
        """Part of the list of a shard's waiting sessions, by what they lack."""
        return f"{self._tag(shard)}:groups:{bucket:02}".encode()

    def event_ids(self, shard: int, bucket: int) -> bytes:
        """Part of the list of a shard's events that have an id of the application's."""
        return f"{self._tag(shard)}:ids:{bucket:02}".encode()

    def coming(self, shard: int) -> bytes:
        """A shard's unstarted instances that fall due by themselves."""
        return f"{self._tag(shard)}:coming".encode()

    def amounts(self, shard: int) -> bytes:
        """How many of a shard's sessions have each configuration."""
        return f"{self._tag(shard)}:amounts".encode()

    def uses(self, shard: int, bucket: int) -> bytes:
        """Part of the list of which of a shard's sessions has which configuration."""
        return f"{self._tag(shard)}:uses:{bucket:02}".encode()

    def failed(self, shard: int) -> bytes:
        """A shard's sessions with failed instances."""
        return f"{self._tag(shard)}:failed".encode()

    def configuration(self, shard: int, address: str) -> bytes:
        """A configuration, by its hash."""
        return f"{self._tag(shard)}:c:{address}".encode()

    def configurations(self, shard: int) -> bytes:
        """The index of a shard's configurations: when a session got each last."""
        return f"{self._tag(shard)}:configurations".encode()

    def marker(self, shard: int) -> bytes:
        """What shows that the namespace has not been erased since it was settled."""
        return f"{self._tag(shard)}:shards".encode()

    def lease(self, name: str) -> bytes:
        """A lease over the whole store."""
        return f"{self.namespace}:lease:{name}".encode()
