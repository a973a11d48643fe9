"""The index of which session has which configuration: counted and read in the order of uids.

It is in parts, like the list of all sessions, and costs what that does. Counting is looking up two
places in a sorted set, however many are between them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from triggers_redis.connection import Client
from triggers_redis.keys import BUCKETS, Keyspace, short_address
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import USES

_CHUNK: Final = 500  # uids that are read at once


def known_addresses(client: Client, keyspace: Keyspace, after: str) -> list[str]:
    """The addresses of all configurations that are stored; some may be in use no more."""
    found: set[str] = set()
    for shard in range(keyspace.shards):
        members = client.ask(b"ZRANGE", keyspace.configurations(shard), b"0", b"-1")
        found.update(each.decode("utf-8", "replace") for each in members)
    return sorted(each for each in found if each > after)


def amounts(client: Client, keyspace: Keyspace, addresses: Sequence[str]) -> list[int]:
    """How many sessions have each."""
    arguments = (b"count", *(short_address(each) for each in addresses))
    runs = [
        (BUCKETS, encode_arguments(_buckets(keyspace, shard)), arguments)
        for shard in range(keyspace.shards)
    ]
    found = [0] * len(addresses)
    for reply in client.run_each(USES, runs):
        found = [sum(each) for each in zip(found, map(int, reply), strict=True)]
    return found


def uids_with(
    client: Client, keyspace: Keyspace, address: str, after: str, most: int
) -> Iterator[str]:
    """The sessions that have one, by uid."""
    parts = [_buckets(keyspace, shard) for shard in range(keyspace.shards)]
    # Uids are spread evenly: somewhat more than each bucket's share is mostly enough.
    size = min(most, _CHUNK) // (BUCKETS * keyspace.shards) * 2 + 8
    ask = partial(_pages, client, short_address(address), b"%d" % size)

    def rest(bucket: bytes, page: list[str]) -> Iterator[str]:
        while page:
            yield from page
            if len(page) < size:
                return
            (page,) = ask(page[-1], [[bucket]])

    buckets = [bucket for part in parts for bucket in part]
    return heapq.merge(*map(rest, buckets, ask(after, parts)))


def _pages(
    client: Client, address: bytes, size: bytes, after: str, parts: list[list[bytes]]
) -> list[list[str]]:
    arguments = (b"uids", address, after.encode(), size)
    runs = [(len(part), encode_arguments(part), arguments) for part in parts]
    pages = (page for reply in client.run_each(USES, runs) for page in reply)
    return [page.decode().split("\n") if page else [] for page in pages]


def _buckets(keyspace: Keyspace, shard: int) -> list[bytes]:
    return [keyspace.uses(shard, bucket) for bucket in range(BUCKETS)]
