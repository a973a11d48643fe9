"""``triggers web`` as a process of its own."""

from __future__ import annotations

import http.client
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TRIGGERS = shutil.which("triggers", path=str(Path(sys.executable).parent)) or "triggers"
"""The console script of the environment that runs the tests."""

PATIENCE = 240.0  # seconds until a process that hangs fails a test

_numbers = itertools.count(1)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class WebProcess:
    """A server that is a process of its own, on a free loopback port.

    :param folder: where it runs, with the modules that it imports.
    :param environment: variables beside those of the tests.
    :param options: of ``triggers web``.
    :param command: what is run instead of it.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *options: str,
        command: Sequence[str] = (TRIGGERS, "web"),
    ) -> None:
        self.folder, self.options, self.command = folder, options, command
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TRIGGER")}
        self.environment = {**kept, **environment}
        self.port = 0
        """Where it listens, once it does; it chooses one that nobody else has."""
        self.log = folder / f"web-{next(_numbers)}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WebProcess:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, "--port", "0", *self.options],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        """Whether it has said where it listens, and does."""
        told = re.search(r"http://[^/\s]+:(\d+)[/ ]", self.log.read_text())
        if told is None:
            return False
        self.port = int(told[1])
        try:
            self.post("/webhooks/nothing", b"{}", {})
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def link(self) -> str:
        """The path that logs a browser in, as it was printed last."""
        return re.findall(r"http://[^/]+(/login\?token=\S+)", self.log.read_text())[-1]

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request as senders do.

        :raises OSError: it does not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            known = {"Content-Type": "application/json", **headers}
            connection.request("POST", path, body, known)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except http.client.HTTPException as error:
            raise OSError(f"no answer: {error}") from error
        finally:
            connection.close()
