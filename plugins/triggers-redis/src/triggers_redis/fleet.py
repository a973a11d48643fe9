"""What a store says about all of its sessions: due, failed, waiting, all of them, page by page.

Every listing is an index in parts, by shard and by bucket; parts are read together and merged here.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from triggers_core.engine.records import Header
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.base import (
    Clock,
    Due,
    SessionSummary,
    Store,
    check_age,
    check_limit,
    fleet_order,
    prunable,
    summarise,
)
from triggers_redis.keys import BUCKETS, DUE, Names, SessionKeys
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import DELETE, ERASE_CONFIGURATIONS, HEADS, LEASE, LIST_DUE, PAGES
from triggers_redis.text import read_facts, read_header

if TYPE_CHECKING:
    from triggers_redis.connection import Client

_CHUNK: Final = 500  # sessions in one request
_ALL: Final = 1 << 31
_TOLD: Final = 1_000  # sessions of which it is remembered that the log has named them

logger = logging.getLogger(__name__)


class Fleet(Store):
    """The listings of a `RedisStore`."""

    link: Client
    _expired = 0

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._told: set[str] = set()

    @property
    def names(self) -> Names:
        """Names of keys."""
        raise NotImplementedError

    def now_argument(self) -> bytes:
        """The time as scripts get it."""
        raise NotImplementedError

    # -- due --------------------------------------------------------------------------------------

    def due(self, limit: int = 100) -> list[Due]:
        most = check_limit(limit)
        _, found = self._due(_ALL if most is None else most, b"overdue")
        return [Due(uid, instance) for _, uid, instance in found[:most]]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        limit = check_limit(limit) or 0
        _, found = self._due(limit, repr(float(seconds)).encode())
        return [Due(uid, instance) for _, uid, instance in found[::-1][:limit]]

    def next_due(self) -> float | None:
        now, found = self._due(1, b"all")
        return found[0][0] - now if found else None

    def _due(self, limit: int, which: bytes) -> tuple[float, list[tuple[float, str, str]]]:
        names, arguments = self.names, (self.now_argument(), b"%d" % max(limit, 0), which)
        runs = [
            (1, encode_arguments((names.due(shard),)), arguments) for shard in range(names.shards)
        ]
        found: list[tuple[float, str, str]] = []
        now = 0.0
        for shard, (now_text, *entries) in enumerate(self.link.run_each(LIST_DUE, runs)):
            now = float(now_text)
            if entries[:1] == [b"\1"]:
                self._tell(names.due(shard).decode(), entries[1].decode("utf-8", "replace"))
                continue
            for member, score in zip(entries[::2], entries[1::2], strict=True):
                instance, _, uid = member.decode("utf-8", "replace").partition("\t")
                if uid:  # else something that Triggers has not put there
                    found.append((float(score), uid, instance))
        return now, sorted(found)

    # -- sessions ---------------------------------------------------------------------------------

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        limit = check_limit(limit)
        limit = check_limit(limit)
        most = _ALL if limit is None else limit
        if most <= 0:
            return []
        if not (failed or waiting):
            found = self._summaries(uid for uid in self._uids(after, most))
            return list(islice(found, most))
        while True:
            uids = dict.fromkeys(self._indexed(failed, waiting, _ALL if after else most))
            chosen = [uid for uid in uids if uid > after]
            before = self._expired
            summaries = list(self._summaries(chosen))
            if self._expired == before:
                return fleet_order(summaries, failed, waiting, limit)

    def _indexed(self, failed: bool, waiting: bool, most: int) -> Iterator[str]:
        """The uids of the first failed and waiting sessions; of equals, all."""
        names, shards = self.names, range(self.names.shards)
        if failed:
            parts = [[names.failed(shard)] for shard in shards]
            # Among those with equally many failures, the order is by what only headers say.
            yield from _first(self._scored(parts, _ALL), most)
        if waiting:
            parts = [[names.waiting(s, b) for b in range(BUCKETS)] for s in shards]
            yield from _first(self._scored(parts, most), most)

    def _scored(self, parts: list[list[bytes]], most: int) -> list[tuple[float, str]]:
        lines = [line for page in self._pages(parts, b"score", most) for line in page]
        entries = (line.partition("\t") for line in lines)
        return sorted((float(score), uid) for uid, _, score in entries)

    def _pages(
        self, parts: list[list[bytes]], order: bytes, most: int, after: str = ""
    ) -> list[list[str]]:
        """The first entries of every bucket of every part, in one round trip."""
        arguments = (order, b"%d" % most, after.encode())
        runs = [(len(part), encode_arguments(part), arguments) for part in parts]
        replies = self.link.run_each(PAGES, runs)
        pages = (page for reply in replies for page in reply)
        return [page.decode().split("\n") if page else [] for page in pages]

    def _uids(self, after: str, most: int) -> Iterator[str]:
        """All uids in order, from the first one after `after` on."""
        names, shards = self.names, range(self.names.shards)
        parts = [[names.all(shard, bucket) for bucket in range(BUCKETS)] for shard in shards]
        buckets = [bucket for part in parts for bucket in part]
        # Uids are spread evenly: somewhat more than each bucket's share is mostly enough.
        size = min(most, _CHUNK) // len(buckets) * 2 + 8

        def rest(bucket: bytes, page: list[str]) -> Iterator[str]:
            while page:
                yield from page
                if len(page) < size:
                    return
                (page,) = self._pages([[bucket]], b"uid", size, page[-1])

        pages = self._pages(parts, b"uid", size, after)
        return heapq.merge(*map(rest, buckets, pages))

    def _heads(self, uids: Iterable[str]) -> Iterator[tuple[SessionKeys, bytes, bytes]]:
        """Each session's keys, first line and header as it is stored; nothing of one that is gone.

        One that is no text has an error, after a byte 1, for its first line.
        """
        rest = iter(uids)
        while chunk := [self.names.session(uid) for uid in islice(rest, _CHUNK)]:
            by_shard: dict[int, list[SessionKeys]] = {}
            for keys in chunk:
                by_shard.setdefault(keys.shard, []).append(keys)
            runs = [
                (len(group), encode_arguments([keys.names[0] for keys in group]), ())
                for group in by_shard.values()
            ]
            found: dict[str, bytes] = {}
            for group, heads in zip(
                by_shard.values(), self.link.run_each(HEADS, runs), strict=True
            ):
                found |= {keys.uid: head for keys, head in zip(group, heads, strict=True)}
            for keys in chunk:
                first, _, header = found[keys.uid].partition(b"\n")
                yield keys, first + b"\n" if found[keys.uid] else b"", header

    def _readable(self, keys: SessionKeys, first: bytes, header: bytes) -> Header | None:
        """A session's header; None, and a word in the log, if it cannot be read.

        One that is damaged, or of a newer version, does not hide the others.
        """
        try:
            if first[:1] == b"\1":
                raise UnknownSchema(first[1:].decode("utf-8", "replace").strip(), keys.uid)
            return read_header(read_facts(first[:-1]), header)
        except UnknownSchema as error:
            self._tell(keys.uid, str(error.of(keys.uid)))
            return None

    def _tell(self, what: str, problem: str) -> None:
        """Log what cannot be read, once."""
        if what not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add(what)
            logger.warning(
                "redis: left out: %s", problem if what in problem else f"{what}: {problem}"
            )

    def _summaries(self, uids: Iterable[str]) -> Iterator[SessionSummary]:
        for keys, first, header in self._heads(uids):
            if not first:
                self._expired += 1
                self._delete(keys, b"")  # it expired: take it out of the listings
                continue
            whole = self._readable(keys, first, header)
            if whole is not None:
                yield summarise(keys.uid, whole)

    # -- the end of sessions ----------------------------------------------------------------------

    def delete(self, uid: str) -> bool:
        keys = self.names.session(uid)
        return bool(self.link.ask(b"EXISTS", keys.names[0])) and self._delete(keys, b"")

    def _delete(self, keys: SessionKeys, first: bytes) -> bool:
        names = self.names
        more = (
            names.all(keys.shard, keys.bucket),
            names.waiting(keys.shard, keys.bucket),
            names.failed(keys.shard),
        )
        arguments = (keys.uid_bytes, first)
        erased, resent = self.link.run(
            DELETE, 8, keys.resp[DUE] + encode_arguments(more), arguments
        )
        return bool(erased) or resent  # it is gone, and nobody can say since when

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        older_than = check_age(older_than, resolved_only)
        seconds, micros = self.link.ask(b"TIME")
        since = b"%b.%06d" % (seconds, int(micros))
        before, erased = self.clock() - older_than, 0
        used: dict[int, set[str]] = {shard: set() for shard in range(self.names.shards)}
        for keys, first, header in self._heads(self._uids("", _ALL)):
            if not first:
                self._delete(keys, b"")  # it expired
                continue
            whole = self._readable(keys, first, header)
            if whole is None:
                used.pop(keys.shard, None)  # nobody knows what it uses
            elif prunable(whole, before, resolved_only) and self._delete(keys, first):
                erased += 1
            elif keys.shard in used:
                used[keys.shard].add(whole.config)
        self._erase_configurations(used, since)
        return erased

    def _erase_configurations(self, used: dict[int, set[str]], since: bytes) -> None:
        """Erase those that no session has.

        A session that gets one notes the time in the index, in the same commit. So whoever got one
        before `since` was among the sessions that were looked at after it, and what was got later
        stays.

        :param used: shard → the configurations of its sessions.
        :param since: the server's time, in seconds.
        """
        for shard, hashes in used.items():
            index = self.names.configurations(shard)
            found = self.link.ask(b"ZRANGEBYSCORE", index, b"-inf", b"(" + since)
            unused = [each for each in found if each.decode("utf-8", "replace") not in hashes]
            for at in range(0, len(unused), _CHUNK):
                chunk = unused[at : at + _CHUNK]
                names = [self.names.configuration(shard, each.decode()) for each in chunk]
                keys = encode_arguments((index, *names))
                self.link.run(ERASE_CONFIGURATIONS, 1 + len(names), keys, (since, *chunk))

    # -- leases over the store --------------------------------------------------------------------

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return bool(self._lease(name, owner, repr(seconds).encode()))

    def release_lease(self, name: str, owner: str) -> None:
        self._lease(name, owner, b"")

    def _lease(self, name: str, owner: str, seconds: bytes) -> Any:
        key = encode_arguments((self.names.lease(name),))
        arguments = (self.now_argument(), owner.encode(), seconds)
        taken, _ = self.link.run(LEASE, 1, key, arguments)
        return taken


def _first(scored: list[tuple[float, str]], most: int) -> Iterator[str]:
    """The uids of the first entries, and of those that are equal to the last of them."""
    for position, (score, uid) in enumerate(scored):
        if position >= most and score != scored[most - 1][0]:
            return
        yield uid
