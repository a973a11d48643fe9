"""What is sent to the broker, how, and what happens when there is none."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import socketserver
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from celery import Celery, signals
from celery.app.task import Task
from celery_fleet import Fleet, statuses, until

from triggers_celery import BrokerUnavailable, publishing
from triggers_celery.connect import connect
from triggers_core import TriggerTask
from triggers_core.application import Application
from triggers_core.settings import Settings
from triggers_redis.testing import RedisServer

TASKS = {"t_x": {"after": ["go"], "run": "test.elsewhere"}}


class Known(TriggerTask):
    """Defined in the firing process too, so that its options count there."""

    name = "test.known"
    celery_options: ClassVar = {"priority": 3, "time_limit": 30, "queue": "urgent"}

    def _run(self, context: Any) -> None:
        raise AssertionError("only workers run bodies")


@pytest.fixture
def receiver() -> Iterator[list[Any]]:
    """A receiver of Celery's publish signals: what it has received."""
    received: list[Any] = []

    def receive(sender: Any, headers: dict[str, Any], **_: Any) -> None:
        headers["stamp"] = "by a receiver"
        received.append(sender)

    signals.before_task_publish.connect(receive)
    yield received
    signals.before_task_publish.disconnect(receive)


def messages(broker: Any, queue: str = "celery") -> list[dict[str, Any]]:
    """What is in a queue, oldest first, decoded."""
    keys = sorted(key for key in broker.scan_iter() if key.decode().split("\x06")[0] == queue)
    found = [json.loads(each) for key in keys for each in reversed(broker.lrange(key, 0, -1))]
    for each in found:
        each["properties"].pop("delivery_tag")
        each["properties"].pop("reply_to")  # Celery names a queue for results, which there are none
    return found


def test_the_short_way_sends_the_same_as_celery(
    fleet: Fleet, broker: Any, receiver: list[Any]
) -> None:
    integration = fleet.celery_app.triggers
    arguments = ("default", "a uid", "generation", "t_x#0", 1)
    for name, queue in (("test.known", "urgent"), ("test.elsewhere", "celery")):
        integration.publisher.send(name, "some-id", arguments)
        signals.before_task_publish.receivers, kept = [], signals.before_task_publish.receivers
        integration.publisher.send(name, "some-id", arguments)
        signals.before_task_publish.receivers = kept
        celerys, ours = messages(broker, queue)
        assert celerys["headers"].pop("stamp") == "by a receiver"
        assert ours == celerys
    assert receiver == ["test.known", "test.elsewhere"]


def test_keys_of_the_broker_may_have_a_prefix(fleet: Fleet, broker: Any) -> None:
    fleet.celery_app.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    manager = fleet.manager("prefixed", {"t_x": {"andEvery": "go", "run": "test.elsewhere"}})
    manager.fire("go")
    manager.fire("go")
    assert broker.llen("shop:celery") == 2
    assert all(key.startswith(b"shop:") for key in broker.scan_iter())


def test_a_message_holds_identifiers_and_nothing_else(fleet: Fleet, broker: Any) -> None:
    manager = fleet.manager("a uid", TASKS)
    manager.fire("go", {"card": "canary"})
    (message,) = messages(broker)
    generation = manager.storage.header.generation
    arguments, kwargs, _ = json.loads(b64decode(message["body"]))
    assert (arguments, kwargs) == (["default", "a uid", generation, "t_x#0", 1], {})
    assert not any(b"canary" in broker.dump(key) for key in broker.scan_iter())


def test_a_task_class_of_the_users_own_is_asked_to_send(
    fleet: Fleet, broker: Any, tmp_path: Path
) -> None:
    class Stamping(Task):  # type: ignore[misc]
        abstract = True

        def apply_async(self, *args: Any, **options: Any) -> Any:
            return super().apply_async(*args, **{**options, "shadow": "stamped"})

    application = Application("other", Settings.isolated(**fleet.settings))
    celery_app = Celery("other", broker=fleet.broker, task_cls=Stamping, set_as_current=False)
    connect(celery_app, application)
    manager = application.manager("own")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "test.known"}})
    manager.fire("go")
    (message,) = messages(broker, "urgent")
    assert message["headers"]["shadow"] == "stamped"
    assert isinstance(celery_app.tasks["test.known"], Stamping)
    application.close()


def test_a_router_that_is_a_function_is_asked_each_time(fleet: Fleet, broker: Any) -> None:
    asked = []

    def route(name: str, args: Any, kwargs: Any, options: Any, **_: Any) -> dict[str, str]:
        asked.append(args[1])
        return {"queue": f"of-{args[1]}"}

    fleet.celery_app.conf.task_routes = (route,)
    for uid in ("one", "two"):
        fleet.manager(uid, TASKS).fire("go")
    assert asked == ["one", "two"]
    assert len(messages(broker, "of-one")) == len(messages(broker, "of-two")) == 1


def test_a_forked_process_sends_on_connections_of_its_own(fleet: Fleet, broker: Any) -> None:
    publisher = fleet.celery_app.triggers.publisher
    publisher.send("test.elsewhere", "parent", ("parent",))
    (line,) = publisher._idle
    child = os.fork()
    if not child:
        try:
            publisher.send("test.elsewhere", "child", ("child",))
            os._exit(line in publisher._idle)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    publisher.send("test.elsewhere", "parent", ("parent",))
    assert [each["headers"]["id"] for each in messages(broker)] == ["parent", "child", "parent"]
    assert publisher._idle == [line]


class Gateway(socketserver.ThreadingTCPServer):
    """Between client and broker: forgets its connections on request, as some firewalls do.

    The client notices only when it has sent something.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.behind = behind
        self.age = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Passage(socketserver.BaseRequestHandler):
    server: Gateway

    def handle(self) -> None:
        age = self.server.age
        with socket.create_connection(self.server.behind) as behind:
            while True:
                for readable in select([self.request, behind], [], [])[0]:
                    data = readable.recv(65_536)
                    if not data or (readable is self.request and age != self.server.age):
                        return
                    (behind if readable is self.request else self.request).sendall(data)


def test_a_connection_that_died_while_idle_is_replaced(fleet: Fleet, broker: Any) -> None:
    url = urlsplit(fleet.broker)
    with Gateway((url.hostname or "", url.port or 6379)) as gateway:
        port = gateway.server_address[1]
        fleet.celery_app.conf.broker_url = f"redis://127.0.0.1:{port}{url.path}"
        publisher = fleet.celery_app.triggers.publisher
        publisher.send("test.elsewhere", "1", ("before",))
        gateway.age += 1
        publisher.send("test.elsewhere", "2", ("after",))
        assert not publisher.paused
        publisher.close()
        gateway.shutdown()
    assert [each["headers"]["id"] for each in messages(broker)] == ["1", "2"]


def test_a_fire_commits_and_returns_when_the_broker_is_down(
    own_redis: RedisServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "_PAUSE_SHORTEST", 30.0)  # it is paused when this looks
    own_redis.stop()
    fleet = Fleet(tmp_path, own_redis.url, redispatch_after=0.5)
    manager = fleet.manager("down", {"t_x": {"after": ["go"], "run": "test.record"}})
    with caplog.at_level(logging.ERROR):
        assert manager.fire("go").scheduled == ("t_x#0",)
    assert "the sweep will try again" in caplog.text
    other = fleet.manager("down too", {"t_x": {"after": ["go"], "run": "test.record"}})
    assert fleet.celery_app.triggers.publisher.paused
    assert other.fire("go").scheduled == ("t_x#0",)
    own_redis.start()
    with fleet.worker():
        until(lambda: statuses(manager) == statuses(other) == {"t_x#0": "finished"})
    fleet.close()


def test_a_fire_commits_and_returns_when_the_broker_is_silent(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    """It accepts connections and answers nothing: only a time limit of our own helps."""
    fleet = Fleet(tmp_path, own_redis.url)
    fleet.configure(TRIGGER_RUNNER_OPTIONS={"publish_timeout": 2.0})
    manager = fleet.manager("silent", TASKS)
    publisher = fleet.celery_app.triggers.publisher
    until(lambda: sent(publisher), "a message to be sent")  # however busy the machine is
    os.kill(own_redis.pid, signal.SIGSTOP)
    assert manager.fire("go").scheduled == ("t_x#0",)
    assert publisher.paused
    with pytest.raises(BrokerUnavailable, match="for the moment"):
        publisher.send("test.elsewhere", "2", ("after",))
    fleet.close()


def sent(publisher: Any) -> bool:
    try:
        publisher.send("test.elsewhere", "1", ("before",))
    except BrokerUnavailable:
        return False
    return True


def test_a_publisher_does_not_wait_for_ever_for_a_connection(fleet: Fleet) -> None:
    fleet.celery_app.conf.broker_pool_limit = 1
    publisher = fleet.celery_app.triggers.publisher
    publisher._timeout = 0.05  # for one of its own; connections have the time that they need
    with publisher._slots, pytest.raises(BrokerUnavailable, match="raise broker_pool_limit"):
        publisher.send("test.elsewhere", "1", ())
    publisher._timeout = 60.0
    publisher.send("test.elsewhere", "1", ())


def test_an_impossible_route_is_not_blamed_on_the_broker(fleet: Fleet) -> None:
    fleet.celery_app.conf.task_create_missing_queues = False
    publisher = fleet.celery_app.triggers.publisher
    with pytest.raises(Exception, match="urgent"):
        publisher.send("test.known", "1", ())
    assert not publisher.paused
    publisher.send("test.elsewhere", "2", ())
