"""A thousand deliveries, each up to three times, in any order, to two servers, with the storage
killed in between: every order is shipped once."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from web_process import PATIENCE, WebProcess
from web_signing import ENVIRON, ROUTES, as_json, hmac_headers, make_app, payment, stripe_headers

from triggers_core import Application, Status
from triggers_redis.testing import RedisServer

ORDERS = 500
SENDERS = 8
SEED = 20_170_321

TASKS = """
from triggers_core import TriggerTask


class Ship(TriggerTask):
    name = "shop.Ship"

    def _run(self, context):
        with open("shipped.txt", "a") as file:
            file.write(f"{context.manager.uid} {context.idempotency_key}\\n")
        return {"cents": context.trigger_kwargs["paid"]["cents"]}
"""


class Delivery:
    """One webhook, as its sender sends it until somebody has taken it."""

    def __init__(self, path: str, body: bytes) -> None:
        self.path, self.body = path, body

    def send(self, servers: list[WebProcess], chance: random.Random, down: threading.Event) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end, f"{self.path} is never taken"
            if self.path == "stripe":
                headers = stripe_headers(self.body, at=int(time.time()))
            else:
                headers = hmac_headers(self.body)
            answer = chance.choice(servers).post(f"/webhooks/{self.path}", self.body, headers)
            if answer.status == 200:
                assert json.loads(answer.body)["status"] == "accepted"
                return
            assert answer.status == 503, answer
            down.set()
            time.sleep(0.05)


def deliveries(chance: random.Random) -> list[Delivery]:
    found = []
    for order in range(ORDERS):
        paid = Delivery("stripe", payment(f"evt_{order}", str(order)))
        packed = Delivery("warehouse", as_json({"order": order, "shelf": "B7"}))
        for each in (paid, packed):
            found += [each] * chance.randint(1, 3)
    chance.shuffle(found)
    return found


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder, fsync="always") as server:
        yield server


@pytest.mark.slow
def test_every_order_is_shipped_once(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop_tasks.py").write_text(TASKS)
    options = {"url": redis.url, "shards": 2}
    settings = {
        "TRIGGER_STORAGE_TYPE": "redis",
        "TRIGGER_STORAGE_OPTIONS": json.dumps(options),
        "TRIGGER_PLUGINS": "[]",
        "TRIGGER_IMPORTS": "shop_tasks",
        "TRIGGER_PLUGIN_OPTIONS": json.dumps({"web": {"webhooks": ROUTES}}),
        "TRIGGER_CONFIGURATION": json.dumps(
            {"t_ship": {"after": ["paid", "packed"], "run": "shop.Ship"}}
        ),
        # What the killed storage did not let end is begun anew after this lease.
        "TRIGGER_TIMING": json.dumps({"lease": 3, "heartbeat": 1, "sweep": 0.5}),
    }
    chance = random.Random(SEED)
    waiting = deliveries(chance)
    problems: list[BaseException] = []
    down = threading.Event()

    def sender(mine: list[Delivery], seed: int) -> None:
        own = random.Random(seed)
        try:
            for each in mine:
                each.send(servers, own, down)
        except BaseException as error:
            problems.append(error)

    with ExitStack() as stack:
        environment = {**ENVIRON, **settings}
        servers = [
            stack.enter_context(WebProcess(tmp_path, environment)),
            stack.enter_context(WebProcess(tmp_path, environment)),
        ]
        senders = [
            threading.Thread(target=sender, args=(waiting[each::SENDERS], each))
            for each in range(SENDERS)
        ]
        app = make_app(TRIGGER_STORAGE_TYPE="redis", TRIGGER_STORAGE_OPTIONS=options)
        for thread in senders:
            thread.start()
        wait_until(lambda: len(app.store.sessions()) > ORDERS // 2)
        redis.kill()
        assert down.wait(PATIENCE), "nobody noticed"
        redis.start()
        for thread in senders:
            thread.join()
        assert problems == []
        wait_until(lambda: finished(app) == ORDERS)
        codes = [server.stop() for server in servers]

    assert codes == [-signal.SIGTERM] * 2, "uvicorn ends as it was told to, once all is done"
    for order in range(ORDERS):
        storage = app.storage(f"order:{order}")
        assert list(storage.instances) == ["t_ship#0"]
        assert sorted(each.trigger for each in storage.events) == ["packed", "paid", "t_ship"]
    app.close()
    shipped = (tmp_path / "shipped.txt").read_text().split("\n")[:-1]
    assert len(set(shipped)) == ORDERS, "with one key each, however often a body ran"
    print(f"\n{len(waiting)} deliveries; {len(shipped)} bodies ran for {ORDERS} orders")


def finished(app: Application) -> int:
    return sum(
        each.status is Status.FINISHED
        for order in range(ORDERS)
        for each in app.storage(f"order:{order}").instances.values()
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.1)
