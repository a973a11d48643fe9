"""What is checked when a store is first used: the server, and the namespace."""

from __future__ import annotations

import logging
import re
from typing import Final

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_core.texts import short_repr
from triggers_redis.connection import Client, Refused
from triggers_redis.keys import Names
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import LIST_DUE, NAMESPACE

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
"""Version of the layout of a namespace's keys."""

DEFAULT_SHARDS: Final = 16

_NEEDED: Final = (6, 2, 0)  # ZADD, SET KEEPTTL, scripts replicated by what they did
_SAFE: Final = ((6, 2, 7), (7, 0, 0))  # CVE-2022-24735: Lua code could run for other users


LONGEST_IDLE: Final = 10 * 365 * 86_400.0
"""Seconds, some ten years: longer than anything waits here."""


def check_options(namespace: object, shards: object, idle_ttl: object) -> None:
    """Check what a store is opened with, before the server is asked for anything.

    :raises StorageError: names the option, and says what it may be.
    """
    if not isinstance(namespace, str) or not namespace.isprintable() or not namespace:
        raise StorageError(f"redis: namespace {short_repr(namespace)} must be printable text")
    if "{" in namespace or "}" in namespace:
        raise StorageError(
            f"redis: namespace {short_repr(namespace)} must be without braces (Redis Cluster reads"
            " those)"
        )
    if shards is not None and not (type(shards) is int and 1 <= shards <= 16_384):
        raise StorageError(
            "redis: shards must be 1 to 16,384 (Redis Cluster's slots), a whole number, got"
            f" {short_repr(shards)}; leave it out to use a namespace as it was made"
        )
    if idle_ttl is None:
        return
    if (
        isinstance(idle_ttl, bool)
        or not isinstance(idle_ttl, int | float)
        or not 0.001 <= idle_ttl <= LONGEST_IDLE
    ):
        raise StorageError(
            "redis: idle_ttl must be a number of seconds above 0, up to ten years, got"
            f" {short_repr(idle_ttl)}; leave it out to keep sessions until they are deleted"
        )


def check_server(link: Client, idle_ttl: float | None) -> bool:
    """Warn, in the log, about a server that can lose sessions or is unsafe.

    :returns: whether it is a node of a cluster.
    :raises StorageError: it is too old, or cannot be reached.
    """
    try:
        info = _info(link)
    except Refused:
        logger.info("redis: %s does not let this user read INFO: nothing was checked", link.url)
        return False
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
    return info.get("cluster_enabled") == "1"


def _info(link: Client) -> dict[str, str]:
    text = bytes(link.ask(b"INFO")).decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key: value for key, _, value in pairs}


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def settle_namespace(
    link: Client, namespace: str, shards: int | None, clustered: bool = False
) -> int:
    """Create a namespace, or check that it is one that this version knows and may work in.

    :param shards: as the caller wants it; None: as it is, or 16.
    :param clustered: whether the server is a node of a cluster.
    :returns: its number of shards.
    :raises StorageError: it has another number of shards, or is spread over several nodes of a
        cluster; or the server's user may not use a command.
    :raises UnknownSchema: a newer version made it.
    """
    wanted = b"%d" % (shards or DEFAULT_SHARDS)
    key = encode_arguments((f"{namespace}:meta".encode(),))
    (schema, found, *lacking), _ = link.run(NAMESPACE, 1, key, (b"%d" % SCHEMA, wanted))
    if lacking:
        commands = ", ".join(sorted(each.decode() for each in lacking))
        raise StorageError(
            f"redis: the user of {link.url} may not use {commands}, which the scripts of Triggers"
            " need: allow that with ACL SETUSER, or log in as another user"
        )
    try:
        schema, found = int(schema), int(found)
    except (TypeError, ValueError):
        raise UnknownSchema(
            f"redis: the key {namespace}:meta at {link.url} cannot be read: a newer version of"
            " triggers-redis wrote it, or something else did; use another namespace"
        ) from None
    if schema != SCHEMA:
        raise UnknownSchema(
            f"redis: the namespace {namespace!r} at {link.url} has schema {schema}, this"
            f" version of triggers-redis knows {SCHEMA}: upgrade triggers-redis in this process"
        )
    if shards is not None and found != shards:
        raise StorageError(
            f"redis: the namespace {namespace!r} at {link.url} was made with {found} shards,"
            f" not {shards}: sessions would not be found. Leave `shards` out, or use another"
            " namespace"
        )
    names = Names(namespace, found)
    if clustered:
        _check_slots(link, names)
    return found


def mark(link: Client, names: Names, shard: int) -> None:
    """Show the commits that begin a session that the namespace is settled, as they know it."""
    link.ask(b"SET", names.mark(shard), b"%d" % names.shards)


def _check_slots(link: Client, names: Names) -> None:
    """Ask a node of a cluster for something of every shard: sessions in others could not be used.

    :raises StorageError: it does not hold all of their slots.
    """
    nothing = (b"", b"0", b"overdue")
    shards = range(names.shards)
    link.run_each(
        LIST_DUE, [(1, encode_arguments((names.due(shard),)), nothing) for shard in shards]
    )
