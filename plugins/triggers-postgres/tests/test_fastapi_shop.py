"""The example `examples/fastapi_shop`: its own tests, and its README's walk on a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
import pytest

from triggers_core.engine.names import new_id

T = TypeVar("T")

EXAMPLES = Path(__file__, "../../../../examples").resolve()
SECONDS = 60.0  # that anything may take; nothing should
FINISHED = {"t_ship#0": "finished", "t_tell#0": "finished"}
SOON = json.dumps({"lease": 1.0, "heartbeat": 0.2, "sweep": 0.1})
"""Timing with which what a killed process held is taken over soon, for that process alone."""

for each in ("fastapi", "httpx", "sqlalchemy", "uvicorn"):
    pytest.importorskip(each)
if not EXAMPLES.is_dir():
    pytest.skip("the examples are not beside the plugins", allow_module_level=True)


class Shop:
    """The service, with a database of its own."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        ours = {k: v for k, v in os.environ.items() if not k.startswith("TRIGGER")}
        self.environ = {**ours, "SHOP_DATABASE": database, "PYTHONDONTWRITEBYTECODE": "1"}
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, **environ: str) -> None:
        """Start ``uvicorn``, and wait until it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        web = ("-m", "uvicorn", "fastapi_shop.web:app", "--port", str(self.port))
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *web],
                cwd=EXAMPLES,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers)

    def kill(self) -> None:
        """``kill -9``."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        """End the service, by a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(SECONDS)
            self._process = None

    def call(self, path: str, event: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of an answer; None for what is none."""
        data = None if event is None else json.dumps(event).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urlopen(request, timeout=SECONDS) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, None

    def pay(self, order: str, cents: int = 1990) -> tuple[int, Any]:
        return self.call("/payments", {"id": f"evt-{order}", "order": order, "cents": cents})

    def reserve(self, order: str) -> tuple[int, Any]:
        return self.call("/stock", {"id": f"res-{order}", "order": order, "warehouse": "B"})

    def tasks(self, order: str) -> dict[str, str]:
        status, answer = self.call(f"/orders/{order}")
        assert status == 200
        tasks: dict[str, str] = answer["tasks"]
        return tasks

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return self.call("/orders/none")[0] == 404
        except URLError:
            return False


def until(condition: Callable[[], T]) -> T:
    """Ask again and again until the answer is yes."""
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)
    return answer


@pytest.fixture
def shop(tmp_path: Path, postgres_url: str) -> Iterator[Shop]:
    name = f"shop_{new_id()}".lower().replace("-", "_")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    shop = Shop(tmp_path, urlsplit(postgres_url)._replace(path=f"/{name}").geturl())
    yield shop
    shop.kill()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_its_own_tests(shop: Shop) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "fastapi_shop"],
        cwd=EXAMPLES,
        env=shop.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
    assert "passed" in ended.stdout


def test_the_walk_of_its_readme(shop: Shop) -> None:
    shop.serve()

    # in both orders, each delivered twice
    for order, webhooks in (("1", (shop.pay, shop.reserve)), ("2", (shop.reserve, shop.pay))):
        for webhook in webhooks:
            for status in ("recorded", "duplicate"):
                assert webhook(order) == (202, {"order": order, "status": status})
        until(lambda o=order: shop.tasks(o) == FINISHED)

    # a request that is rolled back leaves neither rows nor an event
    assert shop.pay("3", cents=-1)[0] == 500
    assert shop.call("/orders/3")[0] == 404
    assert shop.pay("3") == (202, {"order": "3", "status": "recorded"})

    shop.end(signal.SIGTERM)
    assert shop.log().count("is on its way as parcel") == 2


@pytest.mark.slow
def test_what_a_killed_server_left_behind_is_shipped(shop: Shop) -> None:
    shop.serve(SHOP_SLOW="3600", TRIGGER_TIMING=SOON)
    shop.pay("1")
    shop.pay("2")
    shop.reserve("2")
    until(lambda: shop.tasks("2")["t_ship#0"] == "running")
    shop.kill()

    shop.serve(TRIGGER_TIMING=json.dumps({"sweep": 0.1}))
    shop.reserve("1")
    for order in ("1", "2"):
        until(lambda o=order: shop.tasks(o) == FINISHED)
    shop.end(signal.SIGTERM)
    assert shop.log().count("is on its way as parcel") == 2
