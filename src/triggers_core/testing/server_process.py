"""Servers of one's own for tests and benchmarks: a process on a free port of the loopback."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

_START_ATTEMPTS: Final = 5  # tries: another process may take the port that was free
_END_TIMEOUT: Final = 30.0  # seconds until a server that was asked to end is killed
_LOWEST_PORT: Final = 10_000
_USUAL_EPHEMERAL_PORT: Final = 32_768
_EPHEMERAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class ServerProcess(ABC):
    """A server that is started, ended and started again on the same port, with what it has kept.

    Used as a context manager, it is running within, and stopped at the end.
    """

    start_timeout: float = 30.0
    """Seconds for one start, with what has to be recovered from its files."""

    def __init__(self) -> None:
        (self.port,) = free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    # -- what each kind of server says ------------------------------------------------------------

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address, the same after each start."""

    @abstractmethod
    def spawn(self) -> subprocess.Popen[bytes]:
        """Start its process, on `port`."""

    @abstractmethod
    def is_up(self) -> bool:
        """Whether it answers."""

    @property
    def trouble(self) -> str:
        """What helps to find out why it does not start."""
        return ""

    # -- starting and ending ----------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The id of its process; it must be running."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers.

        :raises RuntimeError: it does not.
        """
        fresh = self._process is None
        for _ in range(_START_ATTEMPTS):
            self._process = self.spawn()
            if self._answers(self._process):
                return
            self.kill()
            if fresh:
                (self.port,) = free_ports()
        raise RuntimeError(f"{self.url} does not answer: {self.trouble}")

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        until = time.monotonic() + self.start_timeout
        while time.monotonic() < until and process.poll() is None:
            if self.is_up():
                return True
            time.sleep(0.01)
        return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it, and start it again with what it has written."""
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_ports(count: int = 1) -> list[int]:
    """Ports of the loopback interface that nobody listens on, all different.

    They lie below those that the system gives to outgoing connections: one of these could take the
    port while its server is down for a moment.
    """
    above = _lowest_ephemeral_port()
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            port = random.randrange(_LOWEST_PORT, above) if above > _LOWEST_PORT else 0
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # somebody has it
                continue
            ports.append(probe.getsockname()[1])
        return ports


def _lowest_ephemeral_port() -> int:
    try:
        return int(_EPHEMERAL_PORTS.read_text().split()[0])
    except OSError:  # not on Linux
        return _USUAL_EPHEMERAL_PORT


__all__ = ["ServerProcess", "free_ports"]
