"""Small parts: replies on the wire, turns, what a view lacks."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

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


def test_turns_come_in_order() -> None:
    turns, got = Turns(), list[int]()
    mine = turns.turn("a")
    mine.enter()
    other = turns.turn("b")
    other.enter()  # names do not wait for each other
    workers = []
    for number in range(5):

        def work(number: int = number) -> None:
            turn = turns.turn("a")
            turn.enter()
            got.append(number)
            turn.leave()

        workers.append(threading.Thread(target=work))
        workers[-1].start()
        while len(turns._turns["a"]) <= number + 1:
            pass
    assert mine.wanted
    assert not other.wanted
    assert got == []
    mine.leave()
    for worker in workers:
        worker.join()
    assert got == [0, 1, 2, 3, 4]
    other.leave()
    other.leave()
    assert turns._turns == {}


def test_a_thread_that_has_the_turn_goes_on() -> None:
    turns = Turns()
    one, two = turns.turn("a"), turns.turn("a")
    one.enter()
    two.enter()
    two.leave()
    one.leave()
    assert turns._turns == {}


def test_a_turn_that_was_lost_is_gone_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggers_redis.turns.LONGEST", 0.05)
    turns = Turns()
    gone = threading.Thread(target=lambda: turns.turn("a").enter())
    gone.start()
    gone.join()
    for _ in range(3):
        turn = turns.turn("a")
        turn.enter()
        turn.leave()
    assert turns._turns == {}


@pytest.mark.parametrize("steps", range(40))
@pytest.mark.traces
def test_a_turn_that_is_interrupted_at_any_step_is_lost_to_nobody(steps: int) -> None:
    turns = Turns()

    def change() -> None:
        turn = turns.turn("a")
        try:
            turn.enter()
        finally:
            try:
                turn.leave()
            finally:
                turn.leave()

    with suppress(Interrupted):
        interrupted_after(steps, change)
    turn = turns.turn("a")
    turn.enter()
    turn.leave()
    assert turns._turns == {}


class Interrupted(BaseException):
    """What a signal handler may raise."""


def interrupted_after(steps: int, work: Callable[[], None]) -> None:
    """Run something; raise an `Interrupted` at that one of its lines and returns."""
    left = steps

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
