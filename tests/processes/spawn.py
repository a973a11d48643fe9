"""Starts the scripts of this folder as processes of their own, and talks to them by lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import IO, Self, cast

_HANGS = 300.0  # seconds, far above what any script takes; then it is killed, and its test fails


class Child:
    """One running script. Leaving the block kills it if it still runs."""

    def __init__(self, script: str, *arguments: object) -> None:
        """:param script: the name of the script, without its ending."""
        path = Path(__file__).with_name(f"{script}.py")
        self.process = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        pipes = (self.process.stdin, self.process.stdout, self.process.stderr)
        self._stdin, self._stdout, self._stderr = cast("tuple[IO[str], IO[str], IO[str]]", pipes)
        self._watchdog = Timer(_HANGS, self.process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def line(self) -> str:
        """The next line that it prints; empty once it has ended."""
        return self._stdout.readline().rstrip("\n")

    def await_line(self, expected: str) -> None:
        """Wait until it prints this line next."""
        found = self.line()
        if found != expected:
            self.process.kill()
            raise AssertionError(f"expected {expected!r}, got {found!r}: {self._stderr.read()}")

    def go(self) -> None:
        """Let it go on: it waits for a line."""
        self._stdin.write("go\n")
        self._stdin.flush()

    def kill(self) -> bool:
        """Send SIGKILL; whether it still ran."""
        self.process.kill()
        return self.process.wait() != 0

    def result(self) -> list[str]:
        """Wait for its end, which must be a good one; the lines that it printed until then."""
        lines, complaints = self._stdout.read().splitlines(), self._stderr.read()
        assert (self.process.wait(), complaints) == (0, ""), complaints
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
