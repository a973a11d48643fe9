"""A namespace: what it was settled as when it was first used, and the names of its keys."""

from __future__ import annotations

from typing import Final

from triggers_core.exceptions import StorageError, UnknownSchema
from triggers_redis.connection import Client
from triggers_redis.keys import Keyspace
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import LIST_DUE, NAMESPACE
from triggers_redis.server import check_server

SCHEMA: Final = 1
"""Version of the layout of a namespace's keys."""

DEFAULT_SHARDS: Final = 16


class Namespace:
    """A namespace on a server, which is asked on first use.

    :param name: what its keys begin with.
    :param shards: as the caller wants it; None: as it was settled, or 16.
    :param idle_ttl: seconds after which an idle session expires; None: never.
    """

    def __init__(
        self, client: Client, name: str, shards: int | None, idle_ttl: float | None
    ) -> None:
        self.name, self.idle_ttl = name, idle_ttl
        self._client, self._shards = client, shards
        self._keyspace: Keyspace | None = None

    @property
    def keyspace(self) -> Keyspace:
        """The names of its keys. The first use connects, and checks server and namespace.

        :raises StorageError, UnknownSchema: as `check_server` and `settle_namespace`.
        """
        keyspace = self._keyspace  # which another thread may take away
        if keyspace is None:
            clustered = check_server(self._client, self.idle_ttl)
            shards = settle_namespace(self._client, self.name, self._shards, clustered)
            self._keyspace = keyspace = Keyspace(self.name, shards)
        return keyspace

    def settle_again(self, shard: int) -> None:
        """Write down anew what the namespace is: FLUSHALL, or somebody, has erased that.

        :raises StorageError: another process has settled it otherwise meanwhile.
        """
        keyspace = self.keyspace
        try:
            settle_namespace(self._client, self.name, self._shards or keyspace.shards)
        except StorageError:
            self._keyspace = None  # the next use looks what it is now
            raise
        # Shows the commits that begin a session that it is settled, as this process knows it.
        self._client.ask(b"SET", keyspace.marker(shard), b"%d" % keyspace.shards)


def settle_namespace(
    client: Client, namespace: str, shards: int | None, clustered: bool = False
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
    (schema, found, *lacking), _ = client.run(NAMESPACE, 1, key, (b"%d" % SCHEMA, wanted))
    if lacking:
        commands = ", ".join(sorted(each.decode() for each in lacking))
        raise StorageError(
            f"redis: the user of {client.url} may not use {commands}, which the scripts of Triggers"
            " need: allow that with ACL SETUSER, or log in as another user"
        )
    try:
        schema, found = int(schema), int(found)
    except (TypeError, ValueError):
        raise UnknownSchema(
            f"redis: the key {namespace}:meta at {client.url} cannot be read: a newer version of"
            " triggers-redis wrote it, or something else did; use another namespace"
        ) from None
    if schema != SCHEMA:
        raise UnknownSchema(
            f"redis: the namespace {namespace!r} at {client.url} has schema {schema}, this"
            f" version of triggers-redis knows {SCHEMA}: upgrade triggers-redis in this process"
        )
    if shards is not None and found != shards:
        raise StorageError(
            f"redis: the namespace {namespace!r} at {client.url} was made with {found} shards,"
            f" not {shards}: sessions would not be found. Leave `shards` out, or use another"
            " namespace"
        )
    keyspace = Keyspace(namespace, found)
    if clustered:
        _check_slots(client, keyspace)
    return found


def _check_slots(client: Client, keyspace: Keyspace) -> None:
    """Ask a node of a cluster for something of every shard: sessions in others could not be used.

    :raises StorageError: it does not hold all of their slots.
    """
    nothing = (b"", b"0", b"overdue")
    shards = range(keyspace.shards)
    client.run_each(
        LIST_DUE, [(1, encode_arguments((keyspace.due(shard),)), nothing) for shard in shards]
    )
