"""What the pages show, asked for without a server; and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_pages import READER, SHOP, Browser, form_of, links_of, make_shop, order

from triggers_core import Application
from triggers_core.storages.base import Store
from triggers_web.pages import Access
from triggers_web.pages.page import DONE
from triggers_web.pages.site import _ACTS, _PAGES
from triggers_web.pages.stuck import headline


@pytest.fixture(params=["memory", "sqlite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    options = {"path": str(tmp_path / "shop.db")} if request.param == "sqlite" else {}
    app = make_shop(request.param, **options)
    yield app
    app.close()


def test_all_is_well(shop: Application) -> None:
    page = Browser(shop).get("/")
    [h1] = page.all("h1")
    assert h1.text == "All is well."
    assert "No instance is failed." in page.text
    order(shop).app.runner()
    assert next(Browser(shop).get("/").all("h1")).text == "All is well."


def test_somebody_is_needed(shop: Application) -> None:
    order(shop, broken="no such street")
    waits = shop.manager("order:2")
    waits.update_configuration(SHOP)
    waits.fire("placed")
    waits.fire("packed")
    page = Browser(shop).get("/")
    [h1] = page.all("h1")
    assert h1.text == "1 instance failed."
    assert "bad" in h1.attributes["class"]
    links = links_of(page)
    assert "/failed?task=t_ship&error=ValueError" in links
    assert "/waiting?trigger=packed" in links
    assert "/instance?uid=order%3A2&name=t_gather%230" in links
    assert "t_gather#0 of order:2 is late in 1 hour" in page.text


def test_what_is_overdue(shop: Application) -> None:
    manager = shop.manager("order:3")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "pages.Ship"}})
    manager.fire("go")
    clock = shop.store.clock
    shop.store.clock = lambda: clock() + 3_600
    page = Browser(shop).get("/")
    assert next(page.all("h1")).text == "1 session is overdue."
    assert "/session?uid=order%3A3" in links_of(page)


def test_a_session(shop: Application) -> None:
    manager = order(shop)
    for trigger in ("payed", "cancelled", "packed"):
        manager.fire(trigger)
    page = Browser(shop).get("/session", uid="order:1")
    text = " ".join(page.text.split())
    assert "after placed and (paid or agreed), unless cancelled, run pages.Ship" in text
    assert "t_ship#0 ✓ finished" in text
    assert "no task waits for it: did you mean paid?" in text
    assert "came too late to call t_ship#0 off" in text
    assert "needs packed: 1 of 3" in text
    assert "Late in 1 hour" in text
    assert "#2 t_ship" in text
    assert "by t_ship#0 (after #1)" in text
    [graph] = page.all("svg")
    assert any("state-finished" in each.attributes.get("class", "") for each in graph.all("g"))
    ids = [each.attributes["id"] for each in page.all() if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    for each in page.all():
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(each.attributes.get(name, "").split()) <= set(ids)


def test_a_tree(shop: Application) -> None:
    manager = shop.manager("order:1")
    manager.update_configuration(SHOP)
    manager.fire("placed")
    page = Browser(shop).get("/session", uid="order:1")
    [tree, *_] = [each for each in page.all("ul") if each.attributes.get("class") == "tree"]
    kinds = [each.attributes["class"] for each in tree.all("li")]
    assert kinds == ["lacks", "holds", "lacks", "lacks", "lacks"]
    assert "all of these (1 of 2)" in " ".join(tree.text.split())


def test_an_instance(shop: Application) -> None:
    order(shop, broken="no such street; password=hunter2")
    page = Browser(shop).get("/instance", uid="order:1", name="t_ship#0")
    text = page.text
    assert "ValueError: no such street; password=***" in text
    assert "Traceback (most recent call last)" in text
    assert "hunter2" not in text
    assert "tok_1" not in text
    assert form_of(page, "/instance/replay")
    page = Browser(shop, Access(read=True, secrets=True)).get(
        "/instance", uid="order:1", name="t_ship#0"
    )
    assert "tok_1" in page.text


def test_instances_events_and_an_event(shop: Application) -> None:
    manager = shop.manager("order:1")
    task = {"after": ["open"], "andEvery": "page", "run": "pages.Ship"}
    manager.update_configuration({"t_page": task})
    manager.fire("open")
    for number in range(250):
        manager.fire("page", {"n": number, "text": "x" * (5_000 if number == 249 else 1)})
    browser = Browser(shop)
    page = browser.get("/session", uid="order:1")
    assert "/session/events?uid=order%3A1&number=51" in links_of(page)
    assert "/session/event?uid=order%3A1&number=250" in links_of(page)
    assert "#51 " in page.text
    earlier = browser.get("/session/events", uid="order:1", number=51)
    assert "#50 " in earlier.text
    assert "#51 " not in earlier.text
    event = browser.get("/session/event", uid="order:1", number=250)
    assert "x" * 5_000 in event.text
    rows = list(browser.get("/session/instances", uid="order:1", task="t_page").all("tr"))
    assert len(rows) == 251
    browser.get("/session/event", 404, uid="order:1", number=999)
    browser.get("/session/event", 404, uid="order:1", number="x")
    browser.get("/session/instances", 404, uid="order:1", task="t_nothing")


def test_the_graph_as_a_file(shop: Application) -> None:
    order(shop)
    answer = Browser(shop).ask("/session/graph.svg?uid=order:1")
    assert answer.media_type.startswith("image/svg+xml")
    assert answer.content.startswith(b"<svg ")
    assert "script-src" in answer.headers["content-security-policy"]
    shop.manager("empty").fire("go")
    Browser(shop).get("/session/graph.svg", 404, uid="empty")


def test_what_is_not_there(shop: Application) -> None:
    browser = Browser(shop)
    browser.get("/session", 404, uid="nothing")
    browser.get("/session", 400)
    browser.get("/session", 404, uid="a\nb")
    browser.get("/session", 404, uid="x" * 300)
    browser.get("/nothing", 404)
    browser.get("/instance/logs", 405)
    browser.get("/?" + "&".join("a=b" for _ in range(1_100)), 400)
    order(shop)
    browser.get("/instance", 404, uid="order:1", name="t_ship#7")
    browser.get("/instance", 404, uid="order:1", name="<b>")
    assert browser.ask("/live").status == 400
    assert browser.ask("/live?of=/nothing").status == 404
    assert browser.ask("/live?of=//elsewhere.example/").status == 400


def test_a_session_without_configuration(shop: Application) -> None:
    shop.manager("early").fire("paid")
    text = Browser(shop).get("/session", uid="early").text
    assert "It has no configuration yet" in text
    assert "the first configuration will look at it" in text


def test_an_instance_of_a_task_that_is_gone(shop: Application) -> None:
    """Nothing takes tasks away; but the page does not rest on that."""
    manager = order(shop)
    page = Browser(shop).get("/instance", uid="order:1", name="t_mail#0")
    assert "finished" in page.text
    assert manager.storage["t_mail#0"].status == "finished"


def test_readers_get_no_buttons(shop: Application) -> None:
    order(shop, broken="x")
    browser = Browser(shop, READER)
    for path, query in (
        ("/session", {"uid": "order:1"}),
        ("/instance", {"uid": "order:1", "name": "t_ship#0"}),
    ):
        page = browser.get(path, **query)
        assert not list(page.all("form"))
        assert not [link for link in links_of(page) if link.partition("?")[0] in _ACTS]
    for path in ("/instance/replay", "/instance/skip", "/session/fire", "/session/delete"):
        browser.get(path, 403, uid="order:1", name="t_ship#0")


def test_strangers_see_nothing(shop: Application) -> None:
    order(shop)
    stranger = Browser(shop, Access())
    for path in [*_PAGES, "/live"]:
        answer = stranger.ask(f"{path}?uid=order:1&name=t_ship%230&of=/session?uid=order:1")
        assert answer.status == 403
        assert b"t_ship" not in answer.content
        assert b"memory" not in answer.content


def test_below_a_prefix(shop: Application) -> None:
    order(shop, broken="x")
    browser = Browser(shop, root="/ops/my triggers")
    for path, query in (
        ("/", {}),
        ("/session", {"uid": "order:1"}),
        ("/instance", {"uid": "order:1", "name": "t_ship#0"}),
        ("/instance/replay", {"uid": "order:1", "name": "t_ship#0"}),
        ("/session/fire", {"uid": "order:1"}),
        ("/session/delete", {"uid": "order:1"}),
    ):
        page = browser.get(f"/ops/my triggers{path}", **query)
        for each in page.all():
            for name in ("href", "src", "action"):
                address = each.attributes.get(name)
                inside = ("/ops/my%20triggers/", "#", "data:,")
                assert address is None or address.startswith(inside)


def test_what_is_unchanged_is_not_made_again(shop: Application) -> None:
    manager = order(shop)
    browser = Browser(shop)
    for address in ("/", "/session?uid=order:1"):
        answer = browser.ask(address)
        again = browser.ask(address, if_none_match=answer.headers["etag"])
        assert (again.status, again.content) == (304, b"")
        assert again.headers["content-security-policy"]
    etag = browser.ask("/session?uid=order:1").headers["etag"]
    manager.fire("packed")
    browser = Browser(shop)  # the last one remembers for a second
    assert browser.ask("/session?uid=order:1", if_none_match=etag).status == 200
    reader = Browser(shop, READER).ask("/session?uid=order:1").headers["etag"]
    assert browser.ask("/session?uid=order:1", if_none_match=reader).status == 200


class Counting:
    """Counts what is asked of a store."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._within = False
        for name in dir(Store):
            method = getattr(store, name)
            if not name.startswith("_") and callable(method) and name not in ("clock", "now"):
                patch.setattr(store, name, self._counted(name, method))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._within:
                return method(*arguments, **options)
            self.calls.append(name)
            self._within = True  # what a store asks of itself does not count
            try:
                return method(*arguments, **options)
            finally:
                self._within = False

        return call


def test_what_a_session_asks_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop()
    manager = order(shop, broken="x")
    counting = Counting(shop.store, monkeypatch)
    Browser(shop).ask("/session?uid=order:1")
    few = len(counting.calls)
    for number in range(300):
        manager.fire("packed", {"n": number})
    counting.calls.clear()
    Browser(shop).ask("/session?uid=order:1")
    assert len(counting.calls) <= few + 1 <= 15  # one for what was counted before the page
    shop.close()


def test_what_the_first_page_asks_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop()
    counting = Counting(shop.store, monkeypatch)

    def calls(sessions: range) -> int:
        for number in sessions:
            waits = shop.manager(f"order:{number}")
            waits.update_configuration({"t_x": {"after": ["a", f"b{number}"], "run": "r"}})
            waits.fire("a")
        counting.calls.clear()
        assert Browser(shop).ask("/").status == 200
        return len(counting.calls)

    assert calls(range(1)) == calls(range(1, 100)) <= 10
    # Of sessions in which something is due, those are read that are shown.
    for number in range(450):
        manager = shop.manager(f"due:{number}")
        manager.update_configuration({"t_x": {"after": ["a"], "run": "r"}})
        manager.fire("a")
    clock = shop.store.clock
    shop.store.clock = lambda: clock() + 3_600
    assert calls(range(0)) <= 10 + 10 * 20 + 5 * 20
    shop.close()


def test_the_headline_counts_what_cannot_be_read(shop: Application) -> None:
    from triggers_core.views.overview import overview

    found = overview(shop.store)
    found.overdue.unreadable.append("order:9: it is damaged")
    assert headline(found) == ("1 session cannot be read.", "bad")


def test_what_is_done_is_said_in_our_words(shop: Application) -> None:
    browser = Browser(shop)
    assert DONE["deleted"] in browser.get("/", done="deleted").text
    assert "attack" not in browser.get("/", done="attack").text
