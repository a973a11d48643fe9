"""What is checked when a store is opened and first used: its options, and the server."""

from __future__ import annotations

import logging
import re
from typing import Final

from triggers_core.exceptions import StorageError
from triggers_core.texts import short_repr
from triggers_redis.connection import Client, Refused

logger = logging.getLogger(__name__)

_MINIMUM_VERSION: Final = (6, 2, 0)  # ZADD, SET KEEPTTL, scripts replicated by what they did
_PATCHED: Final = ((6, 2, 7), (7, 0, 0))
"""CVE-2022-24735: Lua code could run for other users."""


MAX_IDLE_TTL: Final = 10 * 365 * 86_400.0
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
        or not 0.001 <= idle_ttl <= MAX_IDLE_TTL
    ):
        raise StorageError(
            "redis: idle_ttl must be a number of seconds above 0, up to ten years, got"
            f" {short_repr(idle_ttl)}; leave it out to keep sessions until they are deleted"
        )


def check_server(client: Client, idle_ttl: float | None) -> bool:
    """Warn, in the log, about a server that can lose sessions or is unsafe.

    :returns: whether it is a node of a cluster.
    :raises StorageError: it is too old, or cannot be reached.
    """
    try:
        info = _info(client)
    except Refused:
        logger.info("redis: %s does not let this user read INFO: nothing was checked", client.url)
        return False
    version = _version(info.get("redis_version", ""))
    # Valkey says 7.2.4, the last Redis that it equals, and its own version beside it.
    if version and version < _MINIMUM_VERSION:
        raise StorageError(
            f"redis: {client.url} is Redis {info['redis_version']}; Triggers needs 6.2 or newer"
        )
    if version and (
        version < _PATCHED[0] or (_PATCHED[1][:1] == version[:1] and version < _PATCHED[1])
    ):
        logger.warning(
            "redis: %s is Redis %s, in which Lua scripts of one user can run as another"
            " (CVE-2022-24735): update it to 6.2.7, 7.0 or newer",
            client.url,
            info["redis_version"],
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys") or (policy.startswith("volatile") and idle_ttl is not None):
        logger.warning(
            "redis: %s has maxmemory-policy %s: when its memory is full it will erase sessions,"
            " silently, and their events are lost. Set maxmemory-policy noeviction, and give caches"
            " a server of their own",
            client.url,
            policy,
        )
    return info.get("cluster_enabled") == "1"


def _info(client: Client) -> dict[str, str]:
    text = bytes(client.ask(b"INFO")).decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key: value for key, _, value in pairs}


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()
