"""`RedisStore`: one namespace of a server, put together from its parts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, TypeVar

from triggers_core.engine.attempts import Claim, Heartbeat
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import UnknownSchema
from triggers_core.storages.arguments import check_age, check_limit, check_window
from triggers_core.storages.base import Clock, Due, Store
from triggers_core.storages.groups import (
    MOST_COUNTED,
    MOST_GROUPS,
    ConfigurationInUse,
    FailedGroup,
    FailedInstance,
    WaitingGroup,
)
from triggers_core.storages.summaries import SessionSummary, comes, in_coming_order
from triggers_redis.clock import ServerClock
from triggers_redis.codec import read_event
from triggers_redis.committing import Committer
from triggers_redis.connection import Client
from triggers_redis.fleet import FleetIndex
from triggers_redis.keys import Keyspace
from triggers_redis.namespace import Namespace
from triggers_redis.reader import ConfigurationGone, SessionReader
from triggers_redis.server import check_options
from triggers_redis.view import Ask

T = TypeVar("T")

DEFAULT_URL = "redis://localhost:6379/0"


class RedisStore(Store):
    """Every session of one namespace of a Redis or Valkey server.

    Safe between threads, processes and machines. Use `RedisStorage.open_store`, which opens each
    namespace once in a process.

    :param url: as redis-py takes it: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
    :param namespace: what its keys begin with; applications that share a server take one each.
    :param shards: parts that the sessions are spread over, for Redis Cluster; fixed when the
        namespace is first used (16 unless given). None: as it was fixed.
    :param idle_ttl: seconds after which a session expires that nothing has changed and that has
        nothing under way; longer than the longest cooldown. None: sessions stay until they are
        deleted or pruned.
    :param clock: time instead of the server's, for tests.
    :param options: of redis-py's connections: ``ssl_ca_certs``, ``socket_timeout``, …
    :raises StorageError: the options make no sense. The server is asked on first use: it may be out
        of reach or too old, or the namespace have another number of shards.
    :raises UnknownSchema: a newer version of this plugin has written the namespace.

    Example::

        store = RedisStore("rediss://:secret@redis.internal:6379/0", namespace="shop")
    """

    key: ClassVar[str] = "redis"

    def __init__(
        self,
        url: str = DEFAULT_URL,
        namespace: str = "triggers",
        shards: int | None = None,
        idle_ttl: float | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        check_options(namespace, shards, idle_ttl)
        self.client = Client(url, options)
        self.server_clock = ServerClock(self.client, clock)
        super().__init__(clock or self.server_clock)
        self.namespace, self.idle_ttl = namespace, idle_ttl
        self.virtual = clock
        settled = Namespace(self.client, namespace, shards, idle_ttl)
        self._namespace = settled
        self.reader = SessionReader(self.client, settled, self.server_clock)
        self.committer = Committer(self.reader)
        self.fleet = FleetIndex(self.client, settled, self.server_clock)

    def __repr__(self) -> str:
        return f"<RedisStore {self.namespace!r} at {self.client.url}>"

    @property
    def place(self) -> str:
        return f"the Redis server {self.client.url}, namespace {self.namespace!r}"

    @property
    def keyspace(self) -> Keyspace:
        """Names of keys. The first use connects, and checks server and namespace."""
        return self._namespace.keyspace

    def close(self) -> None:
        self.client.close()

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        if isinstance(command, Claim):
            return self.committer.claim(uid, command, rules)
        if isinstance(command, Heartbeat):
            return self.committer.heartbeat(uid, command, rules)
        return self.committer.commit(uid, command, rules)

    def load(self, uid: str, query: Query) -> Snapshot:
        keys = self.keyspace.session(uid)
        try:
            view = self.reader.view(keys, Ask.of(query), query)
            while lacking := view.lacks(query):
                more = self.reader.view(keys, lacking)
                if more.version_line == view.version_line:
                    view.absorb(more)
                else:
                    view = self.reader.view(keys, Ask.of(query))
            find = partial(self.reader.configuration, keys.shard)
            try:
                return view.snapshot(query, find, view.now, exactly=True)
            except ConfigurationGone:
                if self.reader.view(keys, Ask()).version_line == view.version_line:
                    raise
        except UnknownSchema as error:
            raise error.of(uid) from None
        return self.load(uid, query)  # the session has got another one, and nobody had the old one

    def instances(
        self,
        uid: str,
        *,
        statuses: Collection[Status] | None = None,
        task: str | None = None,
        unresolved_logs: bool = False,
    ) -> list[Instance]:
        view = self.reader.view(self.keyspace.session(uid), Ask(every_instance=True))
        found = view.listed(None if statuses is None else frozenset(statuses), task)
        return [each for each in found if not unresolved_logs or each.has_open_logs]

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)
        if limit == 0:
            return []
        stop = -1 if limit is None else start + limit - 1
        ask = Ask(numbers=(f"{start}:{stop}",))
        events = self.reader.view(self.keyspace.session(uid), ask).events
        end = len(events) + start if limit is None else start + limit
        return [
            read_event(number, events[number]) for number in sorted(events) if start <= number < end
        ]

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        wanted = {number for number in numbers if number >= 0}
        ask = Ask(numbers=tuple(map(str, sorted(wanted))))
        events = self.reader.view(self.keyspace.session(uid), ask).events
        return {
            number: read_event(number, record)
            for number, record in events.items()
            if number in wanted
        }

    # -- all sessions -----------------------------------------------------------------------------

    def due(self, limit: int = 100, within: float = 0.0) -> list[Due]:
        return self.fleet.due(limit, within)

    def coming(self, within: float, limit: int | None = 100) -> list[tuple[str, Instance]]:
        limit, keyspace = check_limit(limit), self.keyspace
        names = dict[str, list[str]]()
        for each in self.fleet.coming(within, limit):
            names.setdefault(each.uid, []).append(each.instance)
        found = list[tuple[str, Instance]]()
        asked = [(keyspace.session(uid), Ask(instances=tuple(of))) for uid, of in names.items()]
        for (uid, wanted), view in zip(names.items(), self.reader.views(asked), strict=True):
            for name in wanted:
                with suppress(UnknownSchema):
                    if view is not None and name in view.instances:
                        instance = view.read_instance(name)
                        if comes(instance, view.now, within):
                            found.append((uid, instance))
        return in_coming_order(found)[:limit]

    def due_ahead(self, seconds: float, limit: int = 100) -> list[Due]:
        return self.fleet.due_ahead(seconds, limit)

    def next_due(self) -> float | None:
        return self.fleet.next_due()

    def sessions(
        self,
        *,
        failed: bool = False,
        waiting: bool = False,
        limit: int | None = None,
        after: str = "",
    ) -> list[SessionSummary]:
        return self.fleet.sessions(failed, waiting, limit, after)

    def waiting_groups(
        self, limit: int | None = MOST_GROUPS, most: int = MOST_COUNTED
    ) -> list[WaitingGroup]:
        return self.fleet.waiting_groups(limit, most)

    def waiting_for(
        self, missing: Sequence[str], limit: int | None = 100, after: float = -math.inf
    ) -> list[SessionSummary]:
        return self.fleet.waiting_for(missing, limit, after)

    def failed_groups(self, limit: int | None = MOST_GROUPS) -> list[FailedGroup]:
        return self.fleet.failed_groups(limit)

    def failed_instances(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        limit: int | None = 100,
        after: FailedInstance | None = None,
    ) -> list[FailedInstance]:
        return self.fleet.failed_instances(task, error, limit, after)

    def find_event(self, event_id: str, limit: int | None = 100) -> list[tuple[str, int]]:
        return self.fleet.find_event(event_id, limit)

    def configurations_in_use(
        self, limit: int | None = 100, after: str = "", most: int = MOST_COUNTED
    ) -> list[ConfigurationInUse]:
        return self.fleet.configurations_in_use(limit, after, most)

    def sessions_with(
        self, address: str, limit: int | None = 100, after: str = ""
    ) -> list[SessionSummary]:
        return self.fleet.sessions_with(address, limit, after)

    def delete(self, uid: str) -> bool:
        return self.fleet.delete(uid)

    def prune(self, older_than: float, resolved_only: bool = True) -> int:
        older_than = check_age(older_than, resolved_only)
        return self.fleet.prune(self.clock() - older_than, resolved_only)

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self.fleet.acquire_lease(name, owner, seconds)

    def release_lease(self, name: str, owner: str) -> None:
        self.fleet.release_lease(name, owner)
