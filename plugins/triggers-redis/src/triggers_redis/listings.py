"""Listings in the order of their members, which begin with what they are listed by.

By configuration, by what sessions wait for, by an event's id: members ``prefix⇥rest`` of sorted
sets without scores. They are in parts, like the list of all sessions, and cost what that does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from triggers_redis.connection import Client
from triggers_redis.keys import BUCKETS, Keyspace
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import LISTING

_CHUNK: Final = 500  # members that are read at once

Part = Callable[[int, int], bytes]
"""The key of a part of an index: by shard and bucket."""


def listed(
    client: Client, keyspace: Keyspace, part: Part, prefix: bytes, after: str, most: int
) -> Iterator[str]:
    """What comes behind a prefix, in order, from the first one after `after` on."""
    parts = [_buckets(part, shard) for shard in range(keyspace.shards)]
    # Uids are spread evenly: somewhat more than each bucket's share is mostly enough.
    size = min(most, _CHUNK) // (BUCKETS * keyspace.shards) * 2 + 8
    ask = partial(_pages, client, prefix, b"%d" % size)

    def rest(bucket: bytes, page: list[str]) -> Iterator[str]:
        while page:
            yield from page
            if len(page) < size:
                return
            (page,) = ask(page[-1], [[bucket]])

    buckets = [bucket for each in parts for bucket in each]
    return heapq.merge(*map(rest, buckets, ask(after, parts)))


def _pages(
    client: Client, prefix: bytes, size: bytes, after: str, parts: list[list[bytes]]
) -> list[list[str]]:
    arguments = (b"page", prefix, after.encode(), size)
    runs = [(len(part), encode_arguments(part), arguments) for part in parts]
    pages = (page for reply in client.run_each(LISTING, runs) for page in reply)
    return [page.decode().split("\n") if page else [] for page in pages]


def first_of_each(
    client: Client, part: Part, wanted: Sequence[tuple[int, Sequence[bytes]]]
) -> list[list[str]]:
    """For shards and prefixes of each: what comes behind one of its members; empty: it has none."""
    runs = [
        (BUCKETS, encode_arguments(_buckets(part, shard)), (b"first", *prefixes))
        for shard, prefixes in wanted
    ]
    replies = client.run_each(LISTING, runs)
    return [[each.decode() for each in reply] for reply in replies]


def _buckets(part: Part, shard: int) -> list[bytes]:
    return [part(shard, bucket) for bucket in range(BUCKETS)]
