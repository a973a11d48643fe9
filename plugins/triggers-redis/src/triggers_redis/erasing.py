"""How a session is erased, with all that the listings of its shard have of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from triggers_redis.connection import Client
from triggers_redis.keys import DUE, Keyspace, SessionKeys
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import DELETE

GONE: Final = b"-"
"""In place of a version line: only what is left of a session that is not there any more."""


def erase(
    client: Client,
    keyspace: Keyspace,
    keys: SessionKeys,
    version_line: bytes,
    instances: Sequence[str] = (),
) -> bool:
    """Erase a session if it is at that version, any if that is empty; whether there is none now.

    :param instances: names of those that are listed as due, when the session itself is `GONE`.
    """
    more = (
        keyspace.coming(keys.shard),
        keyspace.all(keys.shard, keys.bucket),
        keyspace.failed(keys.shard),
        keyspace.waiting(keys.shard, keys.bucket),
        keyspace.failures(keys.shard, keys.bucket),
        keyspace.groups(keys.shard, keys.bucket),
        keyspace.uses(keys.shard, keys.bucket),
        keyspace.amounts(keys.shard),
        keyspace.event_ids(keys.shard, keys.bucket),
    )
    arguments = (keys.uid_bytes, version_line, *(name.encode() for name in instances))
    erased, resent = client.run(
        DELETE, DUE + len(more), keys.encoded[DUE] + encode_arguments(more), arguments
    )
    return bool(erased) or resent  # it is gone, and nobody can say since when
