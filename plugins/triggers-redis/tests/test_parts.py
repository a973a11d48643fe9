"""Small parts: replies on a connection, the locks of sessions, the states of instances."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from queue import Queue

import pytest
import redis

from triggers_core.engine.records import Extent, Instance, Status, encode_record
from triggers_core.testing.interruptions import interrupt_at
from triggers_redis import codec
from triggers_redis.connection import Connection, ServerError
from triggers_redis.resp import encode_command
from triggers_redis.session_locks import SessionLock, SessionLocks


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: Queue[socket.socket] = Queue()

        def greet() -> None:
            theirs, _ = listener.accept()
            for _ in ("LIB-NAME", "LIB-VER"):  # which redis-py tells at first
                theirs.recv(1_000)
                theirs.sendall(b"+OK\r\n")
            accepted.put(theirs)

        threading.Thread(target=greet).start()
        port = listener.getsockname()[1]
        made = redis.Connection("127.0.0.1", port, protocol=2, socket_timeout=60)
        made.connect()
        ours = Connection(made)
        with accepted.get() as theirs:
            yield ours, theirs
        ours.close()


def answered(theirs: socket.socket, *pieces: bytes) -> None:
    """Answer in pieces, each of which is read before the next is sent."""

    def send() -> None:
        theirs.recv(100)
        for piece in pieces:
            theirs.sendall(piece)

    threading.Thread(target=send).start()


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"$5\r\nhe\r\nl\r\n", b"he\r\nl"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b":-7\r\n", -7),
        (b"+OK\r\n", b"OK"),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n+x\r\n", [b"a", [1, None], b"x"]),
        (b"$200000\r\n" + b"x" * 200_000 + b"\r\n", b"x" * 200_000),
    ],
)
def test_replies_in_any_pieces(
    ends: tuple[Connection, socket.socket], reply: bytes, value: object
) -> None:
    connection, theirs = ends
    size = 1 if len(reply) < 1_000 else 70_001
    for step in (len(reply), size):
        answered(theirs, *(reply[at : at + step] for at in range(0, len(reply), step)))
        assert connection.ask(encode_command(b"PING")) == value


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (b"-NOSCRIPT No matching script", "NOSCRIPT", "NOSCRIPT No matching script"),
        (b"-MOVED 3999 127.0.0.1:6381", "MOVED", "MOVED 3999 127.0.0.1:6381"),
        (b"-ASK 3999 127.0.0.1:6381", "ASK", "ASK 3999 127.0.0.1:6381"),
        (b"-TRYAGAIN Multiple keys", "TRYAGAIN", "TRYAGAIN Multiple keys"),
        (b"-CLUSTERDOWN Hash slot", "CLUSTERDOWN", "CLUSTERDOWN Hash slot"),
        (b"-MASTERDOWN Link with MASTER", "MASTERDOWN", "MASTERDOWN Link with MASTER"),
        (b"-READONLY You can't write", "READONLY", "READONLY You can't write"),
        (b"-CROSSSLOT Keys in request", "CROSSSLOT", "CROSSSLOT Keys in request"),
        (b"-OOM command not allowed", "OOM", "OOM command not allowed"),
        (b"-NOPERM this user has", "NOPERM", "NOPERM this user has"),
        (b"-MISCONF Redis is configured", "MISCONF", "MISCONF Redis is configured"),
        (b"-ERR unknown command", "unknown", "unknown command"),
    ],
)
def test_errors_keep_their_code(
    ends: tuple[Connection, socket.socket], reply: bytes, code: str, said: str
) -> None:
    """Whatever the version of redis-py, which takes it off some of them."""
    connection, theirs = ends
    answered(theirs, reply + b"\r\n")
    with pytest.raises(ServerError) as caught:
        connection.ask(b"x")
    assert (caught.value.code, str(caught.value)) == (code, said)
    assert not connection.dirty


@pytest.mark.parametrize("reply", [b"-LOADING Redis is loading", b"-NOAUTH Authentication"])
def test_errors_for_which_redis_py_closes_its_connection(
    ends: tuple[Connection, socket.socket], reply: bytes
) -> None:
    connection, theirs = ends
    answered(theirs, reply + b"\r\n")
    with pytest.raises(ServerError):
        connection.ask(b"x")
    assert connection.dirty


def test_an_error_leaves_the_connection_in_step(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    answered(theirs, b"-NOSCRIPT No matching script\r\n")
    with pytest.raises(ServerError, match="No matching") as caught:
        connection.ask(b"x")
    assert caught.value.code == "NOSCRIPT"
    answered(theirs, b":1\r\n-OOM full\r\n:2\r\n")
    with pytest.raises(ServerError, match="OOM"):
        connection.ask_all(b"x", 3)
    answered(theirs, b"$1\r\na\r\n")
    assert connection.ask(b"x") == b"a"


@pytest.mark.parametrize("reply", [b"", b"$10\r\nabc", b"%1\r\n"])
def test_a_connection_that_breaks(ends: tuple[Connection, socket.socket], reply: bytes) -> None:
    connection, theirs = ends
    theirs.sendall(reply)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=r"closed|rotocol"):
        connection.ask(b"x")
    assert connection.dirty


def test_locks_are_fair() -> None:
    locks, got = SessionLocks(), list[int]()
    mine = locks.lock("a")
    mine.acquire()
    other = locks.lock("b")
    other.acquire()  # names do not wait for each other
    workers = []
    for number in range(5):

        def work(number: int = number) -> None:
            lock = locks.lock("a")
            lock.acquire()
            got.append(number)
            lock.release()

        workers.append(threading.Thread(target=work))
        workers[-1].start()
        while len(locks._queues["a"]) <= number + 1:
            pass
    assert mine.contended
    assert not other.contended
    assert got == []
    mine.release()
    for worker in workers:
        worker.join()
    assert got == [0, 1, 2, 3, 4]
    other.release()
    other.release()
    assert locks._queues == {}


def test_a_thread_that_has_the_lock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionLock, "_waits_for", lambda *_: pytest.fail("it waits for itself"))
    locks = SessionLocks()
    one, two = locks.lock("a"), locks.lock("a")
    one.acquire()
    two.acquire()
    two.release()
    one.release()
    assert locks._queues == {}


def test_a_lock_that_was_lost_is_free_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggers_redis.session_locks.TIMEOUT", 0.05)
    locks = SessionLocks()
    gone = threading.Thread(target=lambda: locks.lock("a").acquire())
    gone.start()
    gone.join()
    for _ in range(3):
        lock = locks.lock("a")
        lock.acquire()
        lock.release()
    assert locks._queues == {}


@pytest.mark.traces
def test_a_lock_that_is_interrupted_at_any_moment_is_lost_to_nobody() -> None:
    locks = SessionLocks()

    def change() -> None:
        lock = locks.lock("a")
        try:
            lock.acquire()
        finally:
            try:
                lock.release()
            finally:
                lock.release()

    for number in itertools.count(1):
        where = interrupt_at(number, change)
        assert locks._queues == {}, where
        if where is None:
            assert number > 10
            return


# -- states ----------------------------------------------------------------------------------------


def state_of(instance: Instance) -> bytes:
    return codec.encode_instance(instance.name, instance, "g").partition(b"\t")[0]


def test_a_state_without_extents_is_what_older_versions_write() -> None:
    instance = Instance(task="t_x", number=0, status=Status.SCHEDULED, attempt=2)
    assert state_of(instance) == b"s2 "
    instance.taken = {"b": [7], "a": [3, 4]}
    assert state_of(instance) == b"s2 7,3,4", "in their order, each by itself"
    instance.status, instance.due_at = Status.UNSTARTED, 5.0
    assert state_of(instance) == b"u"


def test_a_state_with_extents_holds_spans() -> None:
    instance = Instance(task="t_x", number=0, status=Status.SCHEDULED, attempt=1)
    instance.taken = {"a": [30]}
    instance.extents = {
        "b": Extent(amount=3, first=5, last=12, trigger="b"),
        "c": Extent(amount=9, first=40, last=60, trigger="c", unless=True),
    }
    assert state_of(instance) == b"s1 5-12,30"
    state = codec.claimed_state(b"s1 5-12,30", b"17.5", 4, "token")
    assert state == b"r1 5-12,30 17.5 4 token"
    stored = b"%b\t%b" % (state, encode_record(instance))
    claimed = codec.read_instance("t_x#0", stored, "g", 47.5)
    assert (claimed.status, claimed.token, claimed.started_at) == ("running", "token", 17.5)
