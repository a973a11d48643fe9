"""Secondary indexes over all sessions: due, failed, waiting, all of them, page by page.

Every index is in parts, by shard and by bucket; parts are read together and merged here.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import inf
from typing import Any, Final

from triggers_core.engine.records import Header
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import check_limit
from triggers_core.storages.base import Due
from triggers_core.storages.groups import (
    MOST_COUNTED,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
    failed_in_order,
    in_order,
    in_use,
    waiting_group,
)
from triggers_core.storages.summaries import SessionSummary, fleet_order, prunable, summarise
from triggers_redis.clock import ServerClock
from triggers_redis.codec import parse_version_line, read_header
from triggers_redis.connection import Client
from triggers_redis.erasing import GONE, erase
from triggers_redis.keys import (
    BUCKETS,
    SHORT,
    Keyspace,
    SessionKeys,
    group_name,
    short_address,
    since_text,
)
from triggers_redis.listings import Part, first_of_each, listed
from triggers_redis.namespace import Namespace
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import (
    AMOUNTS,
    ERASE_CONFIGURATIONS,
    GROUPS,
    HEADERS,
    LEASE,
    LIST_DUE,
    MEMBERS,
    PAGES,
    Script,
)

_ANY: Final = b"\1"
_CHUNK: Final = 500  # sessions in one request
_UNLIMITED: Final = 1 << 31
_MAX_REPORTED: Final = 1_000  # sessions of which it is remembered that the log has named them

logger = logging.getLogger(__name__)


class FleetIndex:
    """The indexes over all sessions of a namespace, and the leases over the whole store."""

    def __init__(self, client: Client, namespace: Namespace, clock: ServerClock) -> None:
        self._client, self._namespace, self._clock = client, namespace, clock
        self._expired = 0  # sessions that were taken out of the indexes
        self._reported: set[str] = set()

    @property
    def _keyspace(self) -> Keyspace:
        return self._namespace.keyspace

    # -- due --------------------------------------------------------------------------------------

    def due(self, limit: int, within: float = 0.0) -> list[Due]:
        """What is due, or will be within so many seconds, earliest first."""
        most = check_limit(limit)
        which = (b"overdue", repr(float(within)).encode()) if within else (b"overdue",)
        _, found = self._due(_UNLIMITED if most is None else most, *which)
        return [Due(uid, instance) for _, uid, instance in found[:most]]

    def coming(self, within: float, limit: int | None) -> list[Due]:
        """What comes by itself within so many seconds, earliest first."""
        most = _UNLIMITED if limit is None else limit
        which = (b"coming", repr(float(within)).encode())
        _, found = self._due(most, *which, part=self._keyspace.coming)
        return [Due(uid, instance) for _, uid, instance in found[:most]]

    def due_ahead(self, seconds: float, limit: int) -> list[Due]:
        """What is due in more than so many seconds."""
        limit = check_limit(limit) or 0
        _, found = self._due(limit, repr(float(seconds)).encode())
        return [Due(uid, instance) for _, uid, instance in found[::-1][:limit]]

    def next_due(self) -> float | None:
        """Seconds until something is due; None: nothing will be."""
        now, found = self._due(1, b"all")
        return found[0][0] - now if found else None

    def _due(
        self, limit: int, *which: bytes, part: Callable[[int], bytes] | None = None
    ) -> tuple[float, list[tuple[float, str, str]]]:
        keyspace = self._keyspace
        part = part or keyspace.due
        arguments = (self._clock.argument(), b"%d" % max(limit, 0), *which)
        runs = [
            (1, encode_arguments((part(shard),)), arguments) for shard in range(keyspace.shards)
        ]
        found: list[tuple[float, str, str]] = []
        now = 0.0
        for shard, (now_text, *entries) in enumerate(self._client.run_each(LIST_DUE, runs)):
            now = float(now_text)
            if entries[:1] == [b"\1"]:
                self._warn_once(part(shard).decode(), entries[1].decode("utf-8", "replace"))
                continue
            for member, score in zip(entries[::2], entries[1::2], strict=True):
                instance, _, uid = member.decode("utf-8", "replace").partition("\t")
                if uid:  # else something that Triggers has not put there
                    found.append((float(score), uid, instance))
        return now, sorted(found)

    # -- sessions ---------------------------------------------------------------------------------

    def sessions(
        self, failed: bool, waiting: bool, limit: int | None, after: str
    ) -> list[SessionSummary]:
        """Sessions, as `Store.sessions`."""
        limit = check_limit(limit)
        most = _UNLIMITED if limit is None else limit
        if most <= 0:
            return []
        if not (failed or waiting):
            found = self._summaries(uid for uid in self._uids(after, most))
            return list(islice(found, most))
        chosen = list[str]()
        while True:
            uids = dict.fromkeys(self._indexed(failed, waiting, _UNLIMITED if after else most))
            chosen, last = [uid for uid in uids if uid > after], chosen
            before = self._expired
            summaries = list(self._summaries(chosen))
            if self._expired == before or chosen == last:  # what Triggers did not list stays
                return fleet_order(summaries, failed, waiting, limit)

    def _indexed(self, failed: bool, waiting: bool, most: int) -> Iterator[str]:
        """The uids of the first failed and waiting sessions; of equals, all."""
        keyspace, shards = self._keyspace, range(self._keyspace.shards)
        if failed:
            parts = [[keyspace.failed(shard)] for shard in shards]
            # Among those with equally many failures, the order is by what only headers say.
            yield from _lowest(self._scored(parts, _UNLIMITED), most)
        if waiting:
            parts = [[keyspace.waiting(s, b) for b in range(BUCKETS)] for s in shards]
            yield from _lowest(self._scored(parts, most), most)

    def _scored(self, parts: list[list[bytes]], most: int) -> list[tuple[float, str]]:
        lines = [line for page in self._pages(parts, b"score", most) for line in page]
        entries = (line.rpartition("\t") for line in lines)
        return sorted((float(score), uid) for uid, _, score in entries)

    def _pages(
        self, parts: list[list[bytes]], order: bytes, most: int, after: str = ""
    ) -> list[list[str]]:
        """The first entries of every bucket of every part, in one round trip."""
        arguments = (order, b"%d" % most, after.encode())
        runs = [(len(part), encode_arguments(part), arguments) for part in parts]
        replies = self._client.run_each(PAGES, runs)
        pages = (page for reply in replies for page in reply)
        return [page.decode().split("\n") if page else [] for page in pages]

    def _uids(self, after: str, most: int) -> Iterator[str]:
        """All uids in order, from the first one after `after` on."""
        keyspace, shards = self._keyspace, range(self._keyspace.shards)
        parts = [[keyspace.all(shard, bucket) for bucket in range(BUCKETS)] for shard in shards]
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

    def _headers(self, uids: Iterable[str]) -> Iterator[tuple[SessionKeys, bytes, bytes]]:
        """Each session's keys, version line and header as stored; nothing of one that is gone.

        One that is no text has an error, after a byte 1, for its version line.
        """
        rest = iter(uids)
        while chunk := [self._keyspace.session(uid) for uid in islice(rest, _CHUNK)]:
            by_shard: dict[int, list[SessionKeys]] = {}
            for keys in chunk:
                by_shard.setdefault(keys.shard, []).append(keys)
            runs = [
                (len(group), encode_arguments([keys.names[0] for keys in group]), ())
                for group in by_shard.values()
            ]
            found: dict[str, bytes] = {}
            for group, headers in zip(
                by_shard.values(), self._client.run_each(HEADERS, runs), strict=True
            ):
                found |= {keys.uid: lines for keys, lines in zip(group, headers, strict=True)}
            for keys in chunk:
                version_line, _, header = found[keys.uid].partition(b"\n")
                yield keys, version_line + b"\n" if found[keys.uid] else b"", header

    def _readable(self, keys: SessionKeys, version_line: bytes, header: bytes) -> Header | None:
        """A session's header; None, and a word in the log, if it cannot be read.

        One that is damaged, or of a newer version, does not hide the others.
        """
        try:
            if version_line[:1] == b"\1":
                raise UnknownSchema(version_line[1:].decode("utf-8", "replace").strip(), keys.uid)
            return read_header(parse_version_line(version_line[:-1]), header)
        except UnknownSchema as error:
            self._warn_once(keys.uid, str(error.of(keys.uid)))
            return None

    def _warn_once(self, what: str, problem: str) -> None:
        """Log what cannot be read, once."""
        if what not in self._reported:
            if len(self._reported) >= _MAX_REPORTED:
                self._reported.clear()
            self._reported.add(what)
            logger.warning(
                "redis: left out: %s", problem if what in problem else f"{what}: {problem}"
            )

    def _summaries(self, uids: Iterable[str]) -> Iterator[SessionSummary]:
        for keys, version_line, header in self._headers(uids):
            if not version_line:
                self._expired += 1
                self._erase(keys, GONE)  # it expired: take it out of the listings
                continue
            whole = self._readable(keys, version_line, header)
            if whole is not None:
                yield summarise(keys.uid, whole)

    # -- groups -----------------------------------------------------------------------------------

    def waiting_groups(self, limit: int | None, most: int) -> list[WaitingGroup]:
        """As `Store.waiting_groups`; sessions that expired count until somebody lists them."""
        wanted, looked_at = check_limit(limit), b"%d" % MOST_COUNTED
        groups = [
            waiting_group(_triggers(group), amount, moment / 1_000_000, most)
            for group, (amount, moment) in self._groups(
                self._keyspace.groups, b"waiting", looked_at
            ).items()
        ]
        return in_order(groups)[:wanted]

    def failed_groups(self, limit: int | None) -> list[FailedGroup]:
        """As `Store.failed_groups`; as for `waiting_groups`."""
        most, groups = check_limit(limit), []
        for group, (amount, since) in self._groups(self._keyspace.failures, b"failures").items():
            task, _, error = group.partition("\t")
            groups.append(FailedGroup(task=task, error=error, instances=amount, since=since))
        return failed_in_order(groups)[:most]

    def _groups(self, part: Part, *which: bytes) -> dict[str, tuple[int, float]]:
        """Group → how many members it has, and the lowest score or moment."""
        found: dict[str, tuple[int, float]] = {}
        for reply in self._each_part(GROUPS, part, which):
            for group, amount, score in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
                name = group.decode("utf-8", "replace")
                so_far, lowest = found.get(name, (0, inf))
                found[name] = so_far + int(amount), min(lowest, float(score))
        return found

    def waiting_for(
        self, missing: Sequence[str], limit: int | None, after: float
    ) -> list[SessionSummary]:
        """As `Store.waiting_for`."""
        wanted = tuple(missing)
        since = since_text(after) if after > 0.0 else ""
        lines = self._listed(self._keyspace.groups, group_name(wanted).encode(), since, limit)
        found = (
            each
            for each in self._summaries(line.partition("\t")[2] for line in lines)
            if each.missing == wanted and each.waiting_since is not None
        )
        return list(islice(found, check_limit(limit)))

    def find_event(self, event_id: str, limit: int | None) -> list[tuple[str, int]]:
        """As `Store.find_event`."""
        numbers = dict[str, int]()

        def uids() -> Iterator[str]:
            for line in self._listed(self._keyspace.event_ids, event_id.encode(), "", limit):
                uid, _, number = line.partition("\t")
                numbers[uid] = int(number)
                yield uid

        found = islice(self._summaries(uids()), limit)
        return [(each.uid, numbers[each.uid]) for each in found]

    def _listed(self, part: Part, prefix: bytes, after: str, limit: int | None) -> Iterator[str]:
        most = check_limit(limit)
        most = _UNLIMITED if most is None else most
        return listed(self._client, self._keyspace, part, prefix, after, most) if most else iter(())

    def failed_instances(
        self, task: str | None, error: str | None, limit: int | None, after: FailedInstance | None
    ) -> list[FailedInstance]:
        """As `Store.failed_instances`."""
        most = check_limit(limit)
        which = (_ANY if each is None else each.encode() for each in (task, error))
        lowest = -inf if after is None else after.at
        arguments = (_score(lowest), _most(most), *which)
        found = []
        for member, score in self._members(self._keyspace.failures, arguments):
            instance, error_type, uid = member.split("\t")
            failed = FailedInstance(uid=uid, instance=instance, error=error_type, at=score)
            if after is None or failed.position > after.position:
                found.append(failed)
        return sorted(found, key=lambda each: each.position)[:most]

    def configurations_in_use(
        self, limit: int | None, after: str, most: int
    ) -> list[ConfigurationInUse]:
        """As `Store.configurations_in_use`; sessions that expired count until they are listed."""
        keyspace, wanted = self._keyspace, check_limit(limit)
        runs = [
            (2, encode_arguments((keyspace.configurations(shard), keyspace.amounts(shard))), ())
            for shard in range(keyspace.shards)
        ]
        addresses, amounts, homes = set[str](), dict[bytes, int](), dict[bytes, int]()
        for shard, (known, counted) in enumerate(self._client.run_each(AMOUNTS, runs)):
            addresses.update(each.decode("utf-8", "replace") for each in known)
            for short, amount in zip(counted[::2], counted[1::2], strict=True):
                if int(amount) > 0:
                    amounts[short] = amounts.get(short, 0) + int(amount)
                    homes.setdefault(short, shard)
        used = [a for a in sorted(addresses) if a > after and short_address(a) in amounts][:wanted]
        examples = self._examples(used, homes)
        return [
            in_use(each, amounts[short_address(each)], most, examples[short_address(each)])
            for each in used
        ]

    def _examples(self, used: list[str], homes: dict[bytes, int]) -> dict[bytes, str]:
        """Configuration → a session that has it, in a shard where there is one."""
        asked = dict[int, list[bytes]]()
        for short in map(short_address, used):
            asked.setdefault(homes[short], []).append(short)
        found = first_of_each(self._client, self._keyspace.uses, list(asked.items()))
        return {
            short: uid
            for shorts, uids in zip(asked.values(), found, strict=True)
            for short, uid in zip(shorts, uids, strict=True)
        }

    def sessions_with(self, address: str, limit: int | None, after: str) -> list[SessionSummary]:
        """As `Store.sessions_with`."""
        uids = self._listed(self._keyspace.uses, short_address(address), after, limit)
        return list(islice(self._summaries(uids), check_limit(limit)))

    def _members(self, part: Part, arguments: Sequence[bytes]) -> Iterator[tuple[str, float]]:
        for reply in self._each_part(MEMBERS, part, arguments):
            for members in reply:
                for member, score in zip(members[::2], members[1::2], strict=True):
                    yield member.decode("utf-8", "replace"), float(score)

    def _each_part(self, script: Script, part: Part, arguments: Sequence[bytes]) -> list[Any]:
        """Run a script over all buckets of each shard."""
        runs = [
            (BUCKETS, encode_arguments([part(shard, each) for each in range(BUCKETS)]), arguments)
            for shard in range(self._keyspace.shards)
        ]
        return list(self._client.run_each(script, runs))

    # -- the end of sessions ----------------------------------------------------------------------

    def delete(self, uid: str) -> bool:
        """Erase a session; False when there was none."""
        keys = self._keyspace.session(uid)
        return bool(self._client.ask(b"EXISTS", keys.names[0])) and self._erase(keys, b"")

    def _erase(self, keys: SessionKeys, version_line: bytes) -> bool:
        return erase(self._client, self._keyspace, keys, version_line)

    def prune(self, before: float, resolved_only: bool) -> int:
        """Erase the sessions that have not changed since; returns how many."""
        seconds, micros = self._client.ask(b"TIME")
        since = b"%b.%06d" % (seconds, int(micros))
        erased = 0
        used: dict[int, set[str]] = {shard: set() for shard in range(self._keyspace.shards)}
        for keys, version_line, header in self._headers(self._uids("", _UNLIMITED)):
            if not version_line:
                self._erase(keys, GONE)  # it expired
                continue
            whole = self._readable(keys, version_line, header)
            if whole is None:
                used.pop(keys.shard, None)  # nobody knows what it uses
            elif prunable(whole, before, resolved_only) and self._erase(keys, version_line):
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
            index = self._keyspace.configurations(shard)
            found = self._client.ask(b"ZRANGEBYSCORE", index, b"-inf", b"(" + since)
            unused = [each for each in found if each.decode("utf-8", "replace") not in hashes]
            for at in range(0, len(unused), _CHUNK):
                chunk = unused[at : at + _CHUNK]
                names = [self._keyspace.configuration(shard, each.decode()) for each in chunk]
                keys = encode_arguments((index, self._keyspace.amounts(shard), *names))
                arguments = (since, b"%d" % SHORT, *chunk)
                self._client.run(ERASE_CONFIGURATIONS, 2 + len(names), keys, arguments)

    # -- leases over the store --------------------------------------------------------------------

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease over the store; False when another owner has it."""
        return bool(self._lease(name, owner, repr(seconds).encode()))

    def release_lease(self, name: str, owner: str) -> None:
        """Give a lease back."""
        self._lease(name, owner, b"")

    def _lease(self, name: str, owner: str, seconds: bytes) -> Any:
        key = encode_arguments((self._keyspace.lease(name),))
        arguments = (self._clock.argument(), owner.encode(), seconds)
        taken, _ = self._client.run(LEASE, 1, key, arguments)
        return taken


def _lowest(scored: list[tuple[float, str]], most: int) -> Iterator[str]:
    """The uids of the first entries, and of those that are equal to the last of them."""
    for position, (score, uid) in enumerate(scored):
        if position >= most and score != scored[most - 1][0]:
            return
        yield uid


def _triggers(group: str) -> tuple[str, ...]:
    return tuple(group.split("\x1f")) if group else ()


def _score(lowest: float) -> bytes:
    return b"-inf" if lowest == -inf else repr(float(lowest)).encode()


def _most(limit: int | None) -> bytes:
    return b"%d" % (_UNLIMITED if limit is None else limit)
