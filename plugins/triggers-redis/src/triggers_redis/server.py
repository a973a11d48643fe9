"""What is checked when a store is first used: the server, and the namespace."""

from __future__ import annotations

import logging
import re
from typing import Final

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_redis.keys import Names
from triggers_redis.link import Link, Refused
from triggers_redis.resp import packed
from triggers_redis.scripts import LIST_DUE, NAMESPACE

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
"""Version of the layout of a namespace's keys."""

DEFAULT_SHARDS: Final = 16

_NEEDED: Final = (6, 2, 0)  # ZADD, SET KEEPTTL, scripts replicated by what they did
_SAFE: Final = ((6, 2, 7), (7, 0, 0))  # CVE-2022-24735: Lua code could run for other users


def check_server(link: Link, idle_ttl: float | None) -> None:
    """Warn, in the log, about a server that can lose sessions or is unsafe.

    :raises StorageError: it is too old, or cannot be reached.
    """
    try:
        info = _info(link, b"server") | _info(link, b"memory")
    except Refused:
        logger.info("redis: %s does not let this user read INFO: nothing was checked", link.url)
        return
    version = _version(info.get("redis_version", ""))
    # Valkey says 7.2.4, the last Redis that it equals, and its own version beside it.
    if version and version < _NEEDED:
        raise StorageError(
            f"redis: {link.url} is Redis {info['redis_version']}; Triggers needs 6.2 or newer"
        )
    if version and (version < _SAFE[0] or (_SAFE[1][:1] == version[:1] and version < _SAFE[1])):
        logger.warning(
            "redis: %s is Redis %s, in which Lua scripts of one user can run as another"
            " (CVE-2022-24735): update it to 6.2.7, 7.0 or newer",
            link.url,
            info["redis_version"],
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys") or (policy.startswith("volatile") and idle_ttl is not None):
        logger.warning(
            "redis: %s has maxmemory-policy %s: when its memory is full it will erase sessions,"
            " silently, and their events are lost. Set maxmemory-policy noeviction, and give caches"
            " a server of their own",
            link.url,
            policy,
        )


def _info(link: Link, section: bytes) -> dict[str, str]:
    text = bytes(link.ask(b"INFO", section)).decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key: value for key, _, value in pairs}


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def settle_namespace(link: Link, namespace: str, shards: int | None) -> int:
    """Create a namespace, or check that it is one that this version knows.

    :param shards: as the caller wants it; None: as it is, or 16.
    :returns: its number of shards.
    :raises StorageError: it cannot be a namespace, has another number of shards, or is spread over
        several nodes of a cluster.
    :raises UnknownSchema: a newer version made it.
    """
    if not namespace or not namespace.isprintable() or "{" in namespace or "}" in namespace:
        raise StorageError(
            f"redis: namespace {namespace!r} must be printable text without braces (Redis Cluster"
            " reads those)"
        )
    if shards is not None and not 1 <= shards <= 16_384:
        raise StorageError(
            f"redis: shards must be 1 to 16,384 (Redis Cluster's slots), got {shards}"
        )
    wanted = b"%d" % (shards or DEFAULT_SHARDS)
    key = packed((f"{namespace}:meta".encode(),))
    (schema, found), _ = link.run(NAMESPACE, 1, key, (b"%d" % SCHEMA, wanted))
    if int(schema) != SCHEMA:
        raise UnknownSchema(
            f"redis: the namespace {namespace!r} at {link.url} has schema {int(schema)}, this"
            f" version of triggers-redis knows {SCHEMA}: upgrade triggers-redis in this process"
        )
    if shards is not None and int(found) != shards:
        raise StorageError(
            f"redis: the namespace {namespace!r} at {link.url} was made with {int(found)} shards,"
            f" not {shards}: sessions would not be found. Leave `shards` out, or use another"
            " namespace"
        )
    _check_slots(link, Names(namespace, int(found)))
    return int(found)


def _check_slots(link: Link, names: Names) -> None:
    """Ask a node of a cluster for something of every shard: sessions in others could not be used.

    :raises StorageError: it does not hold all of their slots.
    """
    try:
        clustered = _info(link, b"cluster").get("cluster_enabled") == "1"
    except Refused:
        return  # this user may not read INFO; what is used first says it
    if clustered:
        nothing = (b"", b"0", b"overdue")
        shards = range(names.shards)
        link.run_each(LIST_DUE, [(1, packed((names.due(shard),)), nothing) for shard in shards])
