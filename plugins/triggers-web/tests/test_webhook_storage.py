"""The storage is away: a 503 that says when to come again, and once it is back all is well."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import Server
from web_signing import ENVIRON, as_json, hmac_headers, make_app, make_intake, payment, post
from web_signing import stripe_headers as sign

from triggers_core import Application
from triggers_redis.testing import RedisServer
from triggers_web.http import Response
from triggers_web.intake import Intake
from triggers_web.starlette import HandlerApp


def deliver(intake: Intake, event: str = "evt_1") -> Response:
    body = payment(event)
    return intake(post("/stripe", body, sign(body)))


def is_away(response: Response) -> bool:
    body = {"error": "unavailable", "reason": "nothing was stored; send it again later"}
    return (
        response.status == 503
        and response.headers["retry-after"] == "10"
        and json.loads(response.content) == body
    )


def events(app: Application) -> list[str]:
    return [each.id for each in app.storage("order:42").events]


def test_a_folder_that_is_not_mounted(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    app = make_app(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS={"path": folder / "x.db"})
    intake = make_intake(app)
    assert is_away(deliver(intake)), "from the start"
    folder.mkdir()
    assert deliver(intake).status == 200
    folder.rename(tmp_path / "elsewhere")
    assert is_away(deliver(intake, "evt_2")), "later"
    (tmp_path / "elsewhere").rename(folder)
    assert deliver(intake, "evt_2").status == 200
    assert deliver(intake, "evt_1").status == 200
    assert events(app) == ["stripe:evt_1", "stripe:evt_2"]
    app.close()


def test_a_file_that_somebody_has_locked(tmp_path: Path) -> None:
    """The storage waits for longer than senders do; what it stores then is stored once."""
    path = tmp_path / "x.db"
    app = make_app(TRIGGER_STORAGE_TYPE="sqlite", TRIGGER_STORAGE_OPTIONS={"path": path})
    intake = make_intake(app)
    assert deliver(intake).status == 200
    body = payment("evt_2")
    other = sqlite3.connect(path, isolation_level=None)
    with Server(HandlerApp(intake, app, answer_within=0.3)) as server:
        other.execute("BEGIN IMMEDIATE")
        answer = server.post("/stripe", body, sign(body))
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        other.execute("ROLLBACK")
        while server.post("/stripe", body, sign(body)).status != 200:
            pass  # as a sender does; a busy machine may take longer than that
    other.close()
    assert events(app) == ["stripe:evt_1", "stripe:evt_2"]
    app.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, fsync="always") as server:
        yield server


def test_a_redis_that_is_killed(redis: RedisServer) -> None:
    app = make_app(TRIGGER_STORAGE_TYPE="redis", TRIGGER_STORAGE_OPTIONS={"url": redis.url})
    intake = make_intake(app)
    assert deliver(intake).status == 200
    redis.kill()
    for event in ("evt_1", "evt_2"):
        assert is_away(deliver(intake, event))
    redis.start()
    for event in ("evt_1", "evt_2"):
        assert deliver(intake, event).status == 200
    assert events(app) == ["stripe:evt_1", "stripe:evt_2"]
    app.close()


def test_a_storage_that_does_not_exist() -> None:
    """Whatever is wrong with our settings is no fault of the sender's, and no secret is told."""
    app = make_app(TRIGGER_STORAGE_TYPE="nowhere")
    intake = Intake(
        {"/x": {"verify": "hmac", "secret": "env:WAREHOUSE", "header": "X-Signature", "uid": "x",
                "trigger": "y"}}, app, environ=ENVIRON,
    )  # fmt: skip
    body = as_json({})
    response = intake(post("/x", body, hmac_headers(body)))
    assert response.status == 500
    assert b"nowhere" not in response.content
