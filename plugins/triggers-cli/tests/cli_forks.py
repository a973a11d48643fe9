"""Processes of the command line that are forked from one that has imported everything.

Starting Python and importing click and the core is nearly all that a command takes; hundreds
of tests run several commands each. A fork has its own modules, environment, folder and streams, as
a new process has, and ends as one does. What it does not show is how the interpreter starts:
`cli_process` starts the executable for that.

Run as a script, this is the process that forks. It is asked through a socket, its only argument:
a length, the request as JSON, and the three streams as open files; it answers with an exit code.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

AT_MOST = 60_000
"""Bytes of standard input that a pipe takes although nobody reads them yet."""

_PATIENCE = 300.0  # seconds; far above what any command takes
_LENGTH = 8


class Forks:
    """Starts the process that forks, and asks it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        self._socket.settimeout(_PATIENCE)

    def run(
        self, command: list[str], folder: Path, environment: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run`."""
        request = {"command": command, "folder": str(folder), "environment": dict(environment)}
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                os.write(writing, stdin.encode())
                os.close(writing)
                text = json.dumps(request).encode()
                streams = [reading, out.fileno(), err.fileno()]
                socket.send_fds(self._socket, [len(text).to_bytes(_LENGTH)], streams)
                self._socket.sendall(text)
            finally:
                os.close(reading)
            code = int.from_bytes(_exactly(self._socket, _LENGTH), signed=True)
            return subprocess.CompletedProcess(command, code, _text(out), _text(err))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise EOFError("the process that forks has gone away")
        found += piece
    return found


# -- in the process that forks ---------------------------------------------------------------------


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; returns it in the child, and None at the end."""
    while True:
        head, streams, *_ = socket.recv_fds(connection, _LENGTH, 3)
        if not head:
            return None
        request = json.loads(_exactly(connection, int.from_bytes(head)))
        child = os.fork()
        if child == 0:
            connection.close()
            become(request, streams)
            return dict(request)
        for stream in streams:
            os.close(stream)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(code.to_bytes(_LENGTH, signed=True))


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be a process that was started with these streams, this folder and this environment."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        before = getattr(sys, name)
        opened = open(  # noqa: SIM115
            before.fileno(), mode, encoding=before.encoding, errors=before.errors, closefd=False
        )
        if name == "stderr":
            opened.reconfigure(line_buffering=True)
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)


def main() -> None:
    import gc
    import importlib
    import pkgutil

    import triggers_cli.commands
    import triggers_cli.main

    for package in (triggers_cli, triggers_cli.commands):
        for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not each.name.endswith("__main__"):
                importlib.import_module(each.name)
    for name in ("asyncio", "sqlite3"):
        importlib.import_module(name)
    for name in ("application", "backtest", "explain", "manager", "running.sweep"):
        importlib.import_module(f"triggers_core.{name}")
    for name in ("runners.threads", "storages.memory", "storages.sqlite"):
        importlib.import_module(f"triggers_core.{name}")
    gc.freeze()
    if serve(socket.socket(fileno=int(sys.argv[1]))) is not None:
        triggers_cli.main.main()


if __name__ == "__main__":
    main()
