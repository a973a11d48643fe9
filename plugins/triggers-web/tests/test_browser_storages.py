"""The most important way through the pages, on each storage: why it waits, fire, replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser_walks import act_on_all, act_on_many, session
from browser_world import fill
from real_browser import tab
from web_pages import ALL, make_shop
from web_server import Server

from triggers_core import Application
from triggers_postgres.testing import PostgresServer
from triggers_redis.testing import RedisServer
from triggers_web.pages import site as pages_site
from triggers_web.pages.login import LOOPBACK
from triggers_web.starlette import site

pytestmark = pytest.mark.browser


@pytest.fixture(params=["redis", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Application]:
    kind = {"redis": RedisServer, "postgres": PostgresServer}[request.param]
    with kind(tmp_path) as server:
        app = make_shop(request.param, url=server.url)
        fill(app)
        yield app
        app.close()


def test_on_each_storage(browser: Any, app: Application) -> None:
    with (
        Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as seen,
    ):
        seen.go("/")
        assert "3 instances failed" in seen.text
        seen.go(session("order:10"))
        assert "anyOf" not in seen.text
        assert "waits for" in seen.text
        act_on_all(seen, app)
        act_on_many(seen, app)
    assert set(seen.posted) == pages_site._ACTS.keys() - {"/bulk/stop"}
