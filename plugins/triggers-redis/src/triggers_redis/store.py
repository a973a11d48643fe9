"""`RedisStore`: commits and reads of sessions. The listings of all sessions are in `fleet`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from triggers_core.engine.attempts import Claim, Heartbeat
from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Command, Plan, Query, Rules, Snapshot
from triggers_core.engine.records import Event, Instance, Status
from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_core.storages.base import Clock, check_window
from triggers_redis import committing
from triggers_redis.fleet import Fleet
from triggers_redis.keys import Names, SessionKeys
from triggers_redis.link import Link
from triggers_redis.scripts import LOAD
from triggers_redis.server import check_options, check_server, mark, settle_namespace
from triggers_redis.text import read_event
from triggers_redis.view import Ask, View

T = TypeVar("T")

DEFAULT_URL = "redis://localhost:6379/0"

CONFIGURATIONS: Final = 256
"""Configurations that a process remembers; each takes some kilobytes."""


class ConfigurationGone(StorageError):
    """A session refers to a configuration that the server does not have."""


class RedisStore(Fleet):
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
        super().__init__(clock or self._server_time)
        check_options(namespace, shards, idle_ttl)
        self.link = Link(url, options)
        self.namespace, self.idle_ttl = namespace, idle_ttl
        self.virtual = clock
        self._wanted_shards = shards
        self._names: Names | None = None
        self._configurations: OrderedDict[str, Configuration] = OrderedDict()
        self.committer = committing.Committer(self)

    def __repr__(self) -> str:
        return f"<RedisStore {self.namespace!r} at {self.link.url}>"

    # -- the server -------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        return f"the Redis server {self.link.url}, namespace {self.namespace!r}"

    @property
    def names(self) -> Names:
        """Names of keys. The first use connects, and checks server and namespace."""
        if self._names is None:
            clustered = check_server(self.link, self.idle_ttl)
            shards = settle_namespace(self.link, self.namespace, self._wanted_shards, clustered)
            self._names = Names(self.namespace, shards)
        return self._names

    def settle_again(self, shard: int) -> None:
        """Write down anew what the namespace is: FLUSHALL, or somebody, has erased that.

        :raises StorageError: another process has settled it otherwise meanwhile.
        """
        wanted = self._wanted_shards or self.names.shards
        try:
            settle_namespace(self.link, self.namespace, wanted)
        except StorageError:
            self._names = None  # the next use looks what it is now
            raise
        mark(self.link, self.names, shard)

    def time_argument(self, stamp: float | None = None) -> bytes:
        """ARGV 1 of the scripts about sessions.

        :param stamp: what a commit has stamped, to be compared with the server's time.
        """
        if self.virtual is not None:
            return b"=" + repr(self.virtual()).encode()
        return b"" if stamp is None else repr(stamp).encode()

    def now_argument(self) -> bytes:
        """ARGV 1 of the other scripts: an injected time, or nothing."""
        return b"" if self.virtual is None else repr(self.virtual()).encode()

    def time_of(self, view: View) -> float:
        """The storage's clock now, going by when a view was read."""
        if self.virtual is not None:
            return self.virtual()
        return round(view.now + time.monotonic() - view.read_at, 6)  # microseconds, as TIME has

    def _server_time(self) -> float:
        seconds, micros = self.link.ask(b"TIME")
        return int(seconds) + int(micros) / 1e6

    def close(self) -> None:
        self.link.close()

    # -- one session ------------------------------------------------------------------------------

    def commit(self, uid: str, command: Command[T], rules: Rules) -> Plan[T]:
        if isinstance(command, Claim):
            return self.committer.claim(uid, command, rules)
        if isinstance(command, Heartbeat):
            return self.committer.heartbeat(uid, command, rules)
        return self.committer.commit(uid, command, rules)

    def view(self, keys: SessionKeys, ask: Ask, query: Query | None = None) -> View:
        """Read a session, or the parts of it that are asked for: one round trip.

        :param need: what it is asked for, if this is all of it.
        """
        arguments = (self.time_argument(), ask.argument(keys.uid))
        count = ask.keys
        report, _ = self.link.run(LOAD, count, keys.resp[count], arguments)
        return View(report, ask, time.monotonic(), query)

    def configuration(self, shard: int, address: str) -> Configuration:
        """A configuration by its hash; mostly read once in a process, for it never changes."""
        found = self._configurations.get(address)
        if found is None:
            body = self.link.ask(b"GET", self.names.configuration(shard, address))
            if body is None:
                raise ConfigurationGone(
                    f"redis: {self.link.url} has no configuration {address} in the namespace"
                    f" {self.namespace!r}, which a session refers to: was a part of it deleted?"
                )
            found = Configuration.decoded(body)
            self._remember(address, found)
        return found

    def learn(self, configuration: Configuration) -> None:
        """Remember a configuration that was just stored; a copy, for objects can be changed."""
        if configuration.hash not in self._configurations:
            self._remember(configuration.hash, Configuration.decoded(configuration.encoded))

    def _remember(self, address: str, configuration: Configuration) -> None:
        self._configurations[address] = configuration
        while len(self._configurations) > CONFIGURATIONS:
            try:
                self._configurations.popitem(last=False)
            except KeyError:
                break  # other threads were quicker

    def load(self, uid: str, query: Query) -> Snapshot:
        keys = self.names.session(uid)
        try:
            view = self.view(keys, Ask.of(query), query)
            while lacking := view.lacks(query):
                more = self.view(keys, lacking)
                if more.first == view.first:
                    view.absorb(more)
                else:
                    view = self.view(keys, Ask.of(query))
            find = partial(self.configuration, keys.shard)
            try:
                return view.snapshot(query, find, view.now, exactly=True)
            except ConfigurationGone:
                if self.view(keys, Ask()).first == view.first:
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
        view = self.view(self.names.session(uid), Ask(every_instance=True))
        found = view.listed(None if statuses is None else frozenset(statuses), task)
        return [each for each in found if not unresolved_logs or each.has_open_logs]

    def events(self, uid: str, start: int = 0, limit: int | None = None) -> list[Event]:
        start, limit = check_window(start, limit)
        if limit == 0:
            return []
        stop = -1 if limit is None else start + limit - 1
        events = self.view(self.names.session(uid), Ask(numbers=f"{start}:{stop}")).events
        end = len(events) + start if limit is None else start + limit
        return [
            read_event(number, events[number]) for number in sorted(events) if start <= number < end
        ]

    def events_by_number(self, uid: str, numbers: Iterable[int]) -> dict[int, Event]:
        wanted = {number for number in numbers if number >= 0}
        ask = Ask(numbers=",".join(map(str, sorted(wanted))))
        events = self.view(self.names.session(uid), ask).events
        return {
            number: read_event(number, record)
            for number, record in events.items()
            if number in wanted
        }
