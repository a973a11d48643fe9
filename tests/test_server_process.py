"""Servers of a test's own."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from triggers_core.testing.server_process import ServerProcess, free_ports


class Listening(ServerProcess):
    """Listens, and nothing more; for `program` "pass", not even that."""

    program = (
        "import socket, sys, signal\n"
        "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "signal.pause()"
    )

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def trouble(self) -> str:
        return "no wonder"

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", self.program, str(self.port)])

    def is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True


class Ending(Listening):
    program = "pass"


def test_it_comes_back_at_the_same_address() -> None:
    with Listening() as server:
        url, pid = server.url, server.pid
        server.restart()
        assert (server.url, server.is_up()) == (url, True)
        assert server.pid != pid
        server.stop()
        server.stop()  # no more to do
        server.start()
    assert not server.is_up()


def test_one_that_does_not_answer() -> None:
    with pytest.raises(RuntimeError, match="does not answer: no wonder"):
        Ending().start()


def test_ports_are_none_that_an_outgoing_connection_may_get() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if given_out.exists():
        assert max(ports) < int(given_out.read_text().split()[0])
