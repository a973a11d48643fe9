"""The example application `examples/shop`, run as its README says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from celery_fleet import until

from triggers_core.testing.server_process import free_ports
from triggers_redis.testing import RedisServer

EXAMPLES = Path(__file__, "../../../../examples").resolve()
ORDERS = [f"{number}" for number in range(8)]

pytest.importorskip("uvicorn")
if not EXAMPLES.is_dir():
    pytest.skip("the examples are not beside the plugins", allow_module_level=True)


@contextmanager
def program(folder: Path, environment: dict[str, str], *command: str) -> Iterator[Path]:
    """Run ``python -m`` something; its output is in the file that this yields."""
    log = folder / f"{command[0]}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "SHOP_PARCELS": str(folder / "parcels"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM), log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def call(port: int, path: str, event: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    data = None if event is None else json.dumps(event).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def answers(port: int) -> bool:
    try:
        return call(port, "/orders/none")[0] == 404
    except URLError:
        time.sleep(0.05)
        return False


def test_the_examples_own_tests() -> None:
    """With the kit: the same on every storage that needs no settings, and on a real worker."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("TRIGGER")}
    storages = ("--triggers-storage", "memory,sqlite,celery")
    tests = ("-p", "no:cacheprovider", "-q", "shop", "test_questionnaire.py", *storages)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=EXAMPLES,
        env={**ours, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout
    assert "passed" in ended.stdout


@pytest.mark.parametrize("fleet", ["redis and celery", "sqlite and threading"])
def test_each_order_is_shipped_once(fleet: str, redis_server: RedisServer, tmp_path: Path) -> None:
    path = filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH")))
    environment = {"PYTHONPATH": os.pathsep.join(path)}
    (port,) = free_ports()
    with ExitStack() as running:
        if fleet == "redis and celery":
            root = redis_server.url.rpartition("/")[0]
            options = {"url": f"{root}/14", "namespace": tmp_path.name}
            environment["TRIGGER_STORAGE_OPTIONS"] = json.dumps(options)
            environment["SHOP_BROKER"] = f"{root}/15"
            worker = ("celery", "-A", "shop.worker", "worker", "-c", "2", "--without-mingle")
            running.enter_context(program(tmp_path, environment, *worker))
        else:
            environment |= {"TRIGGER_STORAGE_TYPE": "sqlite", "TRIGGER_RUNNER": "threading"}
        web = ("uvicorn", "shop.web:app", "--port", str(port))
        running.enter_context(program(tmp_path, environment, *web))
        until(lambda: answers(port))

        webhooks = [
            webhook
            for order in ORDERS
            for webhook in (
                ("/payments", {"id": f"evt-{order}", "order": order, "amount": "19.90"}),
                ("/stock", {"id": f"res-{order}", "order": order, "warehouse": "B"}),
            )
        ]
        events = webhooks * 3
        random.Random(7).shuffle(events)
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda event: call(port, *event), events))
        assert {status for status, _ in replies} == {202}
        stati = [reply["status"] for _, reply in replies]
        assert (stati.count("recorded"), stati.count("duplicate")) == (16, 32)
        assert sum(reply["scheduled"] == ["t_ship#0"] for _, reply in replies) == len(ORDERS)

        finished = {"t_ship#0": "finished", "t_tell#0": "finished"}
        shown = [until(lambda o=order: done(port, o, finished)) for order in ORDERS]
        assert call(port, "/payments", {"id": "evt-0", "order": "0", "amount": "0"})[0] == 409
        assert call(port, "/stock", {"order": "0"})[0] == 400

    parcels = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "parcels").iterdir()}
    assert sorted(each["order"] for each in parcels.values()) == ORDERS
    assert {each["parcel"] for each in shown} == parcels.keys()


def done(port: int, order: str, finished: dict[str, str]) -> dict[str, Any] | None:
    shown = call(port, f"/orders/{order}")[1]
    return shown if shown["tasks"] == finished else None
