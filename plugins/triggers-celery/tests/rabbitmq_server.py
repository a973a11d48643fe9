"""A RabbitMQ server for a test run: its own ports, its own files, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from kombu import Connection

from triggers_core.testing.server_process import free_ports

STARTS_WITHIN = 90.0  # seconds; Erlang takes some

_DEBIANS = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one on PATH changes user and folders


def find_rabbitmq() -> tuple[str, str] | None:
    """The commands of the server and of Erlang's port mapper, if this machine has them."""
    server, mapper = shutil.which(_DEBIANS) or shutil.which("rabbitmq-server"), shutil.which("epmd")
    return (server, mapper) if server and mapper else None


class RabbitMQ:
    """Started and stopped as a context manager.

    :param directory: where it keeps its files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._mapper_port, self._dist_port = free_ports(3)

    @property
    def url(self) -> str:
        """As Celery takes it."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def __enter__(self) -> Self:
        commands = find_rabbitmq()
        assert commands is not None
        server, mapper = commands
        plugins = self.directory / "enabled_plugins"
        plugins.write_text("[].")
        environment = {
            **os.environ,
            "HOME": str(self.directory),  # of the cookie
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "none"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_NODENAME": f"tests{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",  # it would stay behind
        }
        try:
            self._start([mapper, "-port", str(self._mapper_port)], environment)
            self._start([server], environment)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.directory / "output").open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            with suppress(OSError), Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
                return
            gone = any(process.poll() is not None for process in self._processes)
            if gone or time.monotonic() > deadline:
                said = (self.directory / "output").read_text(errors="replace")
                raise RuntimeError(f"RabbitMQ does not start:\n{said[-2_000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and the port mapper."""
        for process in reversed(self._processes):  # each leads a process group: a shell and Erlang
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
