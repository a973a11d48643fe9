"""Redis Cluster: every script stays in one slot; a node that lacks slots is refused, by name."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
import redis

from triggers_core.engine.protocol import Query
from triggers_core.exceptions import StorageError
from triggers_core.storages.base import Clock, Store
from triggers_core.testing import SessionDriver, StorageContract, VirtualClock, check_store
from triggers_core.testing.server_process import free_ports
from triggers_redis import RedisStore, connection, writing
from triggers_redis.connection import Connection, ServerError
from triggers_redis.keys import DUE
from triggers_redis.resp import encode_arguments
from triggers_redis.scripts import DELETE, HEADERS
from triggers_redis.testing import RedisServer

Make = Callable[..., RedisStore]

SLOTS: Final = 16_384
BUS: Final = 10_000  # the nodes talk to each other on a port so much higher

CONFIGURATION: Final[dict[str, dict[str, Any]]] = {
    "t_ship": {"after": ["paid"]},
    "t_page": {"andEvery": "page", "after": ["ready"]},
}


def port_of_a_node() -> int:
    """A free port whose bus is free too."""
    while True:
        (port,) = free_ports()
        with socket.socket() as bus, suppress(OSError):
            bus.bind(("127.0.0.1", port + BUS))
            return port


class Node:
    """A server in cluster mode, and a client of it."""

    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        self.server, self.client = server, client
        self.id: str = self("MYID").decode()

    def __call__(self, *arguments: object) -> Any:
        """Ask CLUSTER something."""
        return self.client.execute_command("CLUSTER", *arguments)

    def slot(self, key: bytes) -> int:
        return int(self("KEYSLOT", key))

    def wait(self, nodes: int = 1) -> None:
        """Until it knows so many nodes, and that all slots are served."""
        served = ("cluster_state:ok", f"cluster_slots_ok:{SLOTS}", f"cluster_known_nodes:{nodes}")
        until = time.monotonic() + 60
        while not set(served) <= set((info := self("INFO").decode()).split()):
            assert time.monotonic() < until, info
            time.sleep(0.02)

    @contextmanager
    def moved(self, slot: int, other: Node) -> Iterator[None]:
        """A slot without keys is the other node's for a while."""
        self("SETSLOT", slot, "NODE", other.id)
        try:
            yield
        finally:
            self("SETSLOT", slot, "NODE", self.id)


@contextmanager
def a_node(directory: Path) -> Iterator[Node]:
    """A node that knows no other and has no slot."""
    # Slots that nobody serves are an error of theirs alone.
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    server = RedisServer(directory, options=options)
    server.port = port_of_a_node()
    with server, redis.Redis.from_url(server.url) as client:
        yield Node(server, client)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A cluster of one node, which has every slot."""
    with a_node(tmp_path_factory.mktemp("node")) as node:
        node("ADDSLOTS", *range(SLOTS))
        node.wait()
        yield node


@pytest.fixture(scope="module")
def redis_url(node: Node) -> str:
    """All fixtures of this file use the node."""
    return node.server.url


# -- a cluster of one node ------------------------------------------------------------------------


class TestNode(StorageContract):
    """A script that touched keys of two slots would be refused: CROSSSLOT.

    Sessions are spread over several keys in the middle of most tests.
    """

    name = "redis, one node of a cluster"
    lacks: ClassVar = dict.fromkeys(
        ("transactions", "joined", "awaited"), "Redis has no roll-back, in a cluster either"
    )

    @pytest.fixture(autouse=True)
    def little_is_packed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, "PACKED_SIZE", 700)

    @pytest.fixture
    def make_store(self, make_redis_store: Make) -> Callable[[Clock], Store]:
        return lambda clock: make_redis_store(clock, shards=16)

    @pytest.fixture
    def opener(self, redis_url: str) -> Callable[[Store], Callable[..., Store]]:
        def opener(store: Store) -> Callable[..., Store]:
            assert isinstance(store, RedisStore)
            return partial(RedisStore, redis_url, store.namespace, None)

        return opener


def test_keys_of_two_slots_would_be_refused(make_redis_store: Make) -> None:
    """What makes the contract above say something."""
    store = make_redis_store()
    names = store.keyspace
    pair = next(
        (one, two)
        for one, two in zip(map(str, range(99)), map(str, range(1, 99)), strict=False)
        if names.session(one).shard != names.session(two).shard
    )
    one, two = (names.session(uid) for uid in pair)
    mixed = encode_arguments((*one.names, two.names[0], two.names[1], two.names[2]))
    with pytest.raises(StorageError, match="CROSSSLOT"):
        store.client.run(DELETE, 8, mixed, (one.uid_bytes, b""))
    with pytest.raises(StorageError, match="CROSSSLOT"):
        store.client.run_each(HEADERS, [(2, encode_arguments((one.names[0], two.names[0])), ())])


@pytest.mark.parametrize("size", [writing.PACKED_SIZE, 0], ids=["packed", "spread"])
def test_every_key_of_a_session_has_its_slot(
    make_redis_store: Make, node: Node, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writing, "PACKED_SIZE", size)
    store = make_redis_store(shards=None)
    session = SessionDriver(store, "an {odd} uid")
    session.configure(CONFIGURATION)
    for trigger in ("paid", "page", "page"):
        session.fire(trigger)
    session.fail_now("t_ship#0")
    keys = set(node.client.scan_iter(match=f"{store.namespace}:*"))
    about = {key for key in keys if not key.endswith(b":meta")}
    assert len(about) >= (5 if size else 8)
    home = store.keyspace.session(session.uid).names[DUE - 1]
    assert {node.slot(key) for key in about} == {node.slot(home)}


def test_listings_over_all_slots(make_redis_store: Make, node: Node) -> None:
    """They ask every shard, in one go on one connection, and in no transaction."""
    store = make_redis_store(VirtualClock(), shards=None)
    slots = {node.slot(store.keyspace.due(shard)) for shard in range(16)}
    assert len(slots) == 16
    node.client.config_resetstat()
    uids = sorted(f"order:{number}" for number in range(60))
    for uid in uids:
        session = SessionDriver(store, uid)
        session.configure(CONFIGURATION)
        session.fire("page")
    SessionDriver(store, "order:7").fire("paid")
    assert len({store.keyspace.session(uid).shard for uid in uids}) > 8
    assert [each.uid for each in store.sessions()] == uids
    assert [each.uid for each in store.sessions(limit=5, after=uids[20])] == uids[21:26]
    waiting = {each.uid for each in store.sessions(waiting=True)}
    assert waiting == set(uids) - {"order:7"}
    assert store.due() == []
    soonest = store.next_due()
    assert soonest == pytest.approx(60)
    SessionDriver(store, "order:7").fail_now("t_ship#0")
    assert [each.uid for each in store.sessions(failed=True)] == ["order:7"]
    assert store.acquire_lease("sweep", "me", 60)
    assert not store.acquire_lease("sweep", "you", 60)
    store.release_lease("sweep", "me")
    check_store(store)
    assert store.delete("order:8")
    assert store.prune(-1, resolved_only=False) == 59
    used = {name.removeprefix("cmdstat_") for name in node.client.info("commandstats")}
    assert not used & {"multi", "exec", "watch", "asking", "readonly"}
    left = list(node.client.scan_iter(match=f"{store.namespace}:*"))
    assert [
        key for key in left if b":c:" not in key and not key.endswith((b":meta", b":shards"))
    ] == []


def test_a_cluster_has_no_other_database(make_redis_store: Make, node: Node) -> None:
    url = node.server.url.removesuffix("/0") + "/1"
    # Redis says that SELECT is not allowed, Valkey 9 that there is no such index.
    with pytest.raises(StorageError, match=r"/1 refused: .*(not allowed in cluster|out of range)"):
        SessionDriver(make_redis_store(url=url)).fire("go")


def test_a_slot_that_nobody_serves_for_a_moment(
    make_redis_store: Make, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover: the request is made again, and the caller notices nothing."""
    store = make_redis_store()
    session = SessionDriver(store)
    session.fire("go")
    slot = node.slot(store.keyspace.session(session.uid).names[0])
    ask, refusals = Connection.ask, list[str]()

    def mended_after(connection: Connection, request: bytes) -> Any:
        try:
            return ask(connection, request)
        except ServerError as error:
            refusals.append(error.code)
            if len(refusals) == 2:
                node("ADDSLOTS", slot)
            raise

    monkeypatch.setattr(Connection, "ask", mended_after)
    node("DELSLOTS", slot)
    assert session.fire("go").status == "recorded"
    assert refusals == ["CLUSTERDOWN"] * 2
    assert session.fired() == ["go", "go"]
    assert session.header.version == 2


def test_a_slot_that_nobody_serves_for_long(
    make_redis_store: Make, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", 0.1)
    session = SessionDriver(make_redis_store())
    session.fire("go")
    assert isinstance(session.store, RedisStore)
    slot = node.slot(session.store.keyspace.session(session.uid).names[0])
    node("DELSLOTS", slot)
    try:
        with pytest.raises(StorageError, match=r"was not ready for 0\.1 s: CLUSTERDOWN"):
            session.fire("go")
    finally:
        node("ADDSLOTS", slot)
    assert session.fired() == ["go"]


# -- a cluster of two nodes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes that know each other; the first has every slot, the second none."""
    directory = tmp_path_factory.mktemp
    with a_node(directory("one")) as one, a_node(directory("two")) as two:
        one("ADDSLOTS", *range(SLOTS))
        one("MEET", "127.0.0.1", two.server.port)
        for each in (one, two):
            each.wait(nodes=2)
        yield one, two


@pytest.fixture
def nodes(two_nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Node]:
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", 0.1)
    two_nodes[0].client.flushall()  # a slot that holds keys stays
    return two_nodes


def not_supported(said: str) -> str:
    return rf"is one node of a Redis Cluster.*\((?:{said}).*several nodes is not supported yet"


MOVED: Final = not_supported(r"MOVED \d+ 127\.0\.0\.1:\d+")
MOVING: Final = not_supported(r"ASK \d+ 127\.0\.0\.1:\d+|TRYAGAIN ")


def test_several_nodes_are_refused_at_once(
    make_redis_store: Make, nodes: tuple[Node, Node]
) -> None:
    """Not when the first session comes whose slot is elsewhere."""
    one, two = nodes
    store = make_redis_store(url=one.server.url)
    session = SessionDriver(store)
    session.fire("go")
    empty = 1 - store.keyspace.session(session.uid).shard
    with one.moved(one.slot(store.keyspace.due(empty)), two):
        again = make_redis_store(url=one.server.url, namespace=store.namespace)
        with pytest.raises(StorageError, match=MOVED):
            again.load(session.uid, Query())
        assert session.fired() == ["go"], "whoever is at work, works on"
        with pytest.raises(StorageError, match=MOVED):
            store.due()
    assert store.due() == []
    assert again.load(session.uid, Query()).header is not None


def test_a_user_who_may_not_read_info_hears_of_it_later(
    make_redis_store: Make, nodes: tuple[Node, Node]
) -> None:
    one, two = nodes
    namespace = make_redis_store(url=one.server.url).namespace
    one.client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info")
    url = one.server.url.replace("redis://", "redis://app:secret@")
    store = make_redis_store(url=url, namespace=namespace)
    session = SessionDriver(store)
    slot = one.slot(store.keyspace.session(session.uid).names[0])
    with one.moved(slot, two), pytest.raises(StorageError, match=MOVED):
        session.fire("go")
    assert session.fire("go").number == 0


def test_a_node_without_slots_is_refused(make_redis_store: Make, nodes: tuple[Node, Node]) -> None:
    """A replica is such a node, too."""
    _, two = nodes
    with pytest.raises(StorageError, match=MOVED):
        SessionDriver(make_redis_store(url=two.server.url)).fire("go")


def test_a_slot_on_its_way_to_another_node(
    make_redis_store: Make, nodes: tuple[Node, Node]
) -> None:
    one, two = nodes
    store = make_redis_store(VirtualClock(), url=one.server.url, shards=1)
    old, new = SessionDriver(store, "old"), SessionDriver(store, "new")
    old.configure(CONFIGURATION)
    old.fire("page")
    slot = one.slot(store.keyspace.due(0))
    one("SETSLOT", slot, "MIGRATING", two.id)
    try:
        for session in (old, new):
            with pytest.raises(StorageError, match=MOVING):
                session.fire("page")
    finally:
        one("SETSLOT", slot, "STABLE")
    assert new.fire("page").number == 0
    assert old.fire("page").number == 1
    check_store(store)


def test_a_node_that_has_its_slot_again(
    make_redis_store: Make, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a name leads to a replica until the next look-up: asked again, noticed by nobody."""
    one, two = nodes
    session = SessionDriver(make_redis_store(url=one.server.url))
    assert isinstance(session.store, RedisStore)
    slot = one.slot(session.store.keyspace.session(session.uid).names[0])
    ask, refusals = Connection.ask, list[str]()

    def back_after(connection: Connection, request: bytes) -> Any:
        try:
            return ask(connection, request)
        except ServerError as error:
            if error.code == "MOVED":
                refusals.append(error.code)
                one("SETSLOT", slot, "NODE", one.id)
            raise

    with one.moved(slot, two):
        monkeypatch.setattr(Connection, "ask", back_after)
        assert session.fire("go").status == "recorded"
    assert refusals == ["MOVED"]
    assert session.fired() == ["go"]
