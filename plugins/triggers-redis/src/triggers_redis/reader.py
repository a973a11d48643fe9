"""Reads of sessions, and of the configurations that they refer to."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from triggers_core.engine.configuration import Configuration
from triggers_core.engine.protocol import Query
from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_redis.clock import ServerClock
from triggers_redis.connection import Client, Refused
from triggers_redis.keys import SessionKeys
from triggers_redis.namespace import Namespace
from triggers_redis.scripts import LOAD
from triggers_redis.view import Ask, View

CONFIGURATIONS: Final = 256
"""Configurations that a process remembers; each takes some kilobytes."""


class ConfigurationGone(StorageError):
    """A session refers to a configuration that the server does not have."""


class SessionReader:
    """Reads the sessions of one namespace.

    :ivar client, namespace, clock: what a store's other parts share with it.
    """

    def __init__(self, client: Client, namespace: Namespace, clock: ServerClock) -> None:
        self.client, self.namespace, self.clock = client, namespace, clock
        self._configurations: OrderedDict[str, Configuration] = OrderedDict()

    def view(self, keys: SessionKeys, ask: Ask, query: Query | None = None) -> View:
        """Read a session, or the parts of it that are asked for: one round trip.

        :param query: what it is asked for, if this is all of it.
        """
        arguments = (self.clock.session_argument(), ask.argument(keys.uid))
        count = ask.keys
        report, _ = self.client.run(LOAD, count, keys.encoded[count], arguments)
        return View(report, ask, time.monotonic(), query)

    def views(self, asked: Sequence[tuple[SessionKeys, Ask]]) -> list[View | None]:
        """Parts of many sessions: one round trip. None for one that cannot be read."""
        clock = self.clock.session_argument()
        runs = [
            (ask.keys, keys.encoded[ask.keys], (clock, ask.argument(keys.uid)))
            for keys, ask in asked
        ]
        try:
            reports = self.client.run_each(LOAD, runs)
            return [
                View(report, ask, time.monotonic())
                for report, (_, ask) in zip(reports, asked, strict=True)
            ]
        except (Refused, UnknownSchema):  # one of them is damaged: the others are read one by one
            return [self._readable(keys, ask) for keys, ask in asked]

    def _readable(self, keys: SessionKeys, ask: Ask) -> View | None:
        try:
            return self.view(keys, ask)
        except (Refused, UnknownSchema):
            return None

    def configuration(self, shard: int, address: str) -> Configuration:
        """A configuration by its hash; mostly read once in a process, for it never changes.

        :raises ConfigurationGone: the server does not have it.
        """
        found = self._configurations.get(address)
        if found is None:
            body = self.client.ask(b"GET", self.namespace.keyspace.configuration(shard, address))
            if body is None:
                raise ConfigurationGone(
                    f"redis: {self.client.url} has no configuration {address} in the namespace"
                    f" {self.namespace.name!r}, which a session refers to: was a part of it"
                    " deleted?"
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
