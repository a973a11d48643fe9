"""Small parts: replies on the wire, turns, what a view lacks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from triggers_redis.resp import ServerError, Wire, command
from triggers_redis.turns import Turns


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield Wire(ours), theirs


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
    ends: tuple[Wire, socket.socket], reply: bytes, value: object
) -> None:
    wire, theirs = ends
    size = 1 if len(reply) < 1_000 else 70_001
    for step in (len(reply), size):
        answered(theirs, *(reply[at : at + step] for at in range(0, len(reply), step)))
        assert wire.ask(command(b"PING")) == value


def test_an_error_leaves_the_wire_in_step(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    answered(theirs, b"-NOSCRIPT No matching script\r\n")
    with pytest.raises(ServerError, match="No matching") as caught:
        wire.ask(b"x")
    assert caught.value.code == "NOSCRIPT"
    answered(theirs, b":1\r\n-OOM full\r\n:2\r\n")
    with pytest.raises(ServerError, match="OOM"):
        wire.ask_all(b"x", 3)
    answered(theirs, b"$1\r\na\r\n")
    assert wire.ask(b"x") == b"a"


@pytest.mark.parametrize("reply", [b"", b"$10\r\nabc", b"%1\r\n"])
def test_a_connection_that_breaks(ends: tuple[Wire, socket.socket], reply: bytes) -> None:
    wire, theirs = ends
    theirs.sendall(reply)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=r"closed|RESP2"):
        wire.ask(b"x")


def test_turns_come_in_order_and_hand_on_what_is_left() -> None:
    turns: Turns[int] = Turns()
    got: list[tuple[int, int | None]] = []
    assert turns.enter("a") is None
    assert turns.enter("b") is None, "names do not wait for each other"
    workers = []
    for number in range(5):

        def work(number: int = number) -> None:
            got.append((number, turns.enter("a")))
            turns.leave("a", number)

        workers.append(threading.Thread(target=work))
        workers[-1].start()
        while len(turns._turns["a"].waiters) <= number:
            pass
    assert turns.wanted("a")
    assert not turns.wanted("b")
    turns.leave("a", 100)
    for worker in workers:
        worker.join()
    assert got == [(0, 100), (1, 0), (2, 1), (3, 2), (4, 3)]
    turns.leave("b", None)
    assert turns._turns == {}


def test_a_thread_that_has_the_turn_goes_on() -> None:
    turns: Turns[int] = Turns()
    turns.enter("a")
    assert turns.enter("a") is None
    turns.leave("a", 1)
    assert "a" in turns._turns
    turns.leave("a", 2)
    assert turns._turns == {}
