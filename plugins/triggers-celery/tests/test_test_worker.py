"""The Celery worker of users' tests: what it waits for, what it says, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest
import redis

from triggers_celery.testing_places import NotSettled
from triggers_core import TaskContext
from triggers_core.exceptions import WrongState
from triggers_core.testing import Triggers
from triggers_redis.testing import RedisServer

CHAIN = {
    "t_pay": {"after": ["placed"], "run": "shop.Pay"},
    "t_ship": {"after": ["t_pay"], "run": "shop.Ship"},
}

on_celery = pytest.mark.triggers_storage("celery")


@on_celery
def test_what_it_is_not_done_with_is_named(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)
    gate = threading.Event()
    s.returns("t_pay", lambda context: {"opened": gate.wait(60)})
    with triggers.pause():
        s.fire("placed")
        assert not triggers.app.runner().join_all(0.05)  # sent, and it waits for the gate
        worker: Any = triggers.place.settle.__self__  # type: ignore[attr-defined]
        with pytest.raises(NotSettled, match=r"t_pay#0 of session 1 after 0\.01 s"):
            worker.settle(0.01)
        gate.set()
    assert s.ran("t_ship") == 1


@on_celery
def test_a_body_does_not_wait_for_itself(triggers: Triggers) -> None:
    s = triggers.session(CHAIN)

    def joins(context: TaskContext) -> dict[str, Any]:
        with pytest.raises(WrongState, match="by a body"):
            context.manager.join()
        return {}

    s.returns("t_pay", joins)
    s.fire("placed")
    assert s.ran("t_ship") == 1


@on_celery
def test_a_body_that_fires_into_another_session(triggers: Triggers) -> None:
    s, other = triggers.session(CHAIN), triggers.session(CHAIN)

    def fires(context: TaskContext) -> dict[str, Any]:
        triggers.app.manager(other.uid).fire("placed")
        return {}

    s.returns("t_pay", fires)
    s.fire("placed")
    assert (s.ran("t_ship"), other.ran("t_ship")) == (1, 1)


LEAVES_NOTHING = """
import logging
import threading

from celery import current_app

from triggers_celery.testing_places import places
from triggers_core import TriggerTask
from triggers_core.application import Application
from triggers_core.settings import Settings
from triggers_core.testing import VirtualClock


class Nothing(TriggerTask):
    name = "test_worker.Nothing"

    def _run(self, context):
        pass


isolated = Settings.isolated(TRIGGER_PLUGINS=[])
before = (current_app.main, list(logging.root.handlers), logging.root.level)
with places() as open_place:
    for _ in range(2):
        with (
            open_place(VirtualClock()) as place,
            Application("test", isolated, store=place.store, runner=place.runner) as app,
        ):
            manager = app.manager("s")
            assert not manager.storage.exists
            manager.update_configuration({"t_x": {"after": ["go"], "run": Nothing.name}})
            manager.fire("go")
            assert manager.join()
            assert manager.storage["t_x#0"].status == "finished"
assert (current_app.main, list(logging.root.handlers), logging.root.level) == before
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


def test_it_leaves_nothing_behind(redis_server: RedisServer) -> None:
    """On a server that the environment names, and that others use; a process has one worker."""
    url = redis_server.url.rpartition("/")[0] + "/13"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        client.set("others", "theirs")
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", LEAVES_NOTHING],
            env={**os.environ, "REDIS_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stdout
        assert client.keys() == [b"others"]
