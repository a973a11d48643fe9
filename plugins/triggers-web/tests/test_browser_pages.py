"""The pages in a real browser: each of them, each act, without a complaint of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser_walks import (
    NOT_HTML,
    Gate,
    act_on_all,
    act_on_many,
    crawl,
    session,
    stop_and_go_on,
)
from browser_world import make_world
from real_browser import NARROW, WIDE, Tab, tab
from web_pages import ALL, READER, SHOP, make_shop, order
from web_server import Server

from triggers_core import Application
from triggers_web.pages import site as pages_site
from triggers_web.pages.login import LOOPBACK
from triggers_web.starlette import site

MANY = {path for path in pages_site._ACTS if path.startswith(("/bulk/", "/configuration/"))}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """A SQLite file with everything that pages can show."""
    with make_world("sqlite", path=tmp_path_factory.mktemp("world") / "world.db") as app:
        yield app


@pytest.fixture(scope="module")
def address(app: Application) -> Iterator[str]:
    with Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide", "dark"])
def test_every_page(browser: Any, address: str, width: int, dark: bool) -> None:
    """None has a barrier that axe knows, or is wider than the window."""
    found: list[str] = []

    def look(each: Tab) -> None:
        found.extend(each.barriers())
        if each.is_wider_than_window():
            found.append(f"{each.page.url} is wider than {width} pixels")

    with tab(browser, address, width=width, dark=dark) as seen:
        reached = crawl(seen, look)
    assert not found, "\n".join(found)
    assert reached >= pages_site._PAGES.keys() - NOT_HTML


# -- acts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False], ids=["script", "none"])
def test_every_act(browser: Any, address: str, app: Application, script: bool) -> None:
    """With scripts and without, by what a person presses."""
    for each in list(app.store.sessions()):
        if each.uid.startswith("act:"):
            app.manager(each.uid).delete_session()
    with tab(browser, address, script=script) as pressed:
        act_on_all(pressed, app)
    assert set(pressed.posted) == {path for path in pages_site._ACTS if path not in MANY}
    assert "by alice" in str(app.manager("act:failed").explain())


def test_every_act_on_many(browser: Any, address: str, app: Application) -> None:
    with tab(browser, address) as pressed:
        act_on_many(pressed, app)
    assert set(pressed.posted) == MANY - {"/bulk/stop"}, "that is pressed below"
    assert "by alice" in str(app.manager("many:0").explain())


def test_stopping_in_the_midst_of_many(browser: Any, tmp_path: Path) -> None:
    failed, through = 80, 30
    gate = Gate(through)
    app = make_shop("sqlite", [gate], path=str(tmp_path / "many.db"))
    for number in range(failed):
        order(app, f"order:{number}", broken="no van is free")
    with (
        closing(app),
        Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as pressed,
    ):
        stop_and_go_on(pressed, app, gate, through, failed)
        assert pressed.posted == ["/bulk/start", "/bulk/stop", "/bulk/start"]


def test_by_keyboard(browser: Any, address: str, app: Application) -> None:
    order(app, "keys:1", broken="no van is free")
    with tab(browser, address) as typed:
        typed.go(session("keys:1"))
        typed.page.keyboard.press("Tab")
        assert typed.focused() == "Skip to the content"
        typed.page.keyboard.press("Enter")
        typed.tab_to("Replay t_ship#0")
        typed.page.keyboard.press("Enter")
        typed.page.wait_for_url("**/instance/replay?**")
        typed.tab_to("Replay")
        typed.page.keyboard.press("Enter")
        typed.page.get_by_text("It runs again").wait_for()
    assert app.storage("keys:1")["t_ship#0"].status == "replayed"


def test_a_page_keeps_itself_up_to_date(browser: Any, address: str, app: Application) -> None:
    manager = app.manager("live:1")
    manager.update_configuration(SHOP)
    manager.fire("placed", {"parcel": 1})
    with tab(browser, address) as seen:
        seen.go(session("live:1"))
        assert "cancelled" not in seen.page.locator(".events").inner_text()
        manager.fire("cancelled")
        seen.page.locator(".events").get_by_text("cancelled").first.wait_for()
        assert "Updated" in seen.page.locator("#status").inner_text()
        seen.page.evaluate("window.stays = true")
        manager.fire("note")
        seen.page.locator(".events").get_by_text("note").first.wait_for()
        assert seen.page.evaluate("window.stays"), "the page was not loaded anew"


def test_a_reader_sees_no_button(browser: Any, app: Application) -> None:
    with (
        Server(site(app, access=lambda _: READER, hosts=LOOPBACK)) as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as seen,
    ):
        for path in ("/", session("order:2"), "/instance?uid=order%3A2&name=t_ship%230"):
            seen.go(path)
            assert "read-only" in seen.text
            assert not seen.page.get_by_role("button").count()
