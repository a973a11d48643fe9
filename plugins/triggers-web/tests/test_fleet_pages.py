"""The pages about many sessions: waiting, failed, all of them, the search, configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web_pages import ALL, READER, Browser, form_of, links_of

from triggers_core import Application
from triggers_core.runners import ManualRunner
from triggers_core.settings import Settings
from triggers_core.storages.base import Store
from triggers_core.storages.memory import MemoryStore
from triggers_core.storages.sqlite import SqliteStore
from triggers_core.testing import SessionDriver, VirtualClock
from triggers_web.pages import fleet


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    """120 orders: 60 wait for packed, 10 of them for rated, too; 60 have failed, 1 unknown why."""
    store = MemoryStore(clock)
    for number in range(120):
        session = SessionDriver(store, f"order:{number:03}")
        rated = {"t_rate": {"after": ["paid", "rated"]}} if number < 10 else {}
        session.configure({"t_ship": {"after": ["paid", "packed"]}, **rated})
        session.fire("paid", event_id=f"bank:{number}")
        if number >= 60:
            session.fire("packed")
            error = {"error": {"type": "KeyError" if number % 2 else "OSError"}}
            session.fail_now("t_ship#0", error if number != 119 else {})
        clock.advance(number % 2)
    return store


@pytest.fixture
def app(store: MemoryStore) -> Iterator[Application]:
    app = Application(
        "shop", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner
    )
    yield app
    app.close()


@pytest.fixture
def browser(app: Application) -> Browser:
    return Browser(app, ALL)


def listed(page: Any) -> list[str]:
    """The uids that a page's table names."""
    rows = [each for body in page.all("tbody") for each in body.all("tr")]
    return [next(iter(row.all("code"))).text for row in rows]


def follow(browser: Browser, page: Any) -> Any:
    """The next page; None at the end."""
    following = [each for each in page.all("a") if each.attributes.get("rel") == "next"]
    return browser.get(following[0].attributes["href"]) if following else None


def read_all(browser: Browser, address: str, **query: Any) -> list[str]:
    found: list[str] = []
    page = browser.get(address, **query)
    for _ in range(20):
        found += listed(page)
        page = follow(browser, page)
        if page is None:
            return found
    raise AssertionError("it does not end")


ORDERS = [f"order:{number:03}" for number in range(120)]


def test_waiting(browser: Browser) -> None:
    page = browser.get("/waiting")
    assert listed(page) == ["packed", "rated"]
    assert "/waiting?trigger=packed" in links_of(page)
    groups = browser.get("/waiting", trigger="packed")
    assert "/waiting?missing=packed" in links_of(groups)
    assert "/waiting?missing=packed&missing=rated" in links_of(groups)
    assert read_all(browser, "/waiting", missing="packed") == ORDERS[10:60]
    both = browser.get("/waiting?missing=rated&missing=packed")
    assert listed(both) == ORDERS[:10]
    assert listed(browser.get("/waiting", trigger="rated")) == ORDERS[:10], "it has one group"
    assert "No session waits for it" in browser.get("/waiting", trigger="other").text
    assert len(read_all(browser, "/waiting", idle=1)) == 60
    for junk in ({"after": "x"}, {"after": "nan", "skip": "-4"}, {"skip": "1e99"}):
        browser.get("/waiting", missing="packed", **junk)


def test_many_that_began_to_wait_at_one_moment(store: MemoryStore, browser: Browser) -> None:
    expected = [f"x{number:03}" for number in range(125)]
    for uid in expected:
        session = SessionDriver(store, uid)
        session.configure(t_x={"after": ["a", "b"]})
        session.fire("a")
    assert read_all(browser, "/waiting", missing="b") == expected


def test_failed(browser: Browser) -> None:
    assert read_all(browser, "/failed") == ORDERS[60:]
    assert read_all(browser, "/failed", error="OSError") == ORDERS[60:120:2]
    assert read_all(browser, "/failed", error="-") == ["order:119"]
    assert read_all(browser, "/failed", task="t_ship", prefix="order:11") == ORDERS[110:]
    assert read_all(browser, "/failed", task="t_other") == []
    older = read_all(browser, "/failed", older="20s")
    assert older == ORDERS[60 : 60 + len(older)]
    assert 0 < len(older) < 60
    assert "The age cannot be read" in browser.get("/failed", 400, older="soon").text
    browser.get("/failed", at="x", uid="", instance="")


def test_a_prefix_is_looked_for_bit_by_bit(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_LOOKED_AT", 20)
    assert read_all(browser, "/failed", prefix="order:11") == ORDERS[110:]
    page = browser.get("/failed", prefix="order:11")
    assert "so far" in page.text


def test_what_can_be_done_is_shown_to_those_who_may(app: Application, browser: Browser) -> None:
    links = links_of(browser.get("/failed", error="OSError"))
    assert "/instance/replay?uid=order%3A060&name=t_ship%230" in links
    assert "/bulk/ask?kind=replay&error=OSError" in links
    reading = links_of(Browser(app, READER).get("/failed", error="OSError"))
    assert not [each for each in reading if "replay" in each or "bulk/ask" in each]


def test_sessions(browser: Browser) -> None:
    assert read_all(browser, "/sessions") == ORDERS
    assert read_all(browser, "/sessions", prefix="order:05") == ORDERS[50:60]
    assert "no session whose uid begins so" in browser.get("/sessions", prefix="x").text
    assert browser.get("/sessions", 400, prefix="a\nb")
    assert browser.get("/sessions", 400, after="x" * 300)


def test_find(browser: Browser) -> None:
    assert listed(browser.get("/find", q="order:077")) == ["order:077"]
    assert "/session/event?uid=order%3A077&number=0" in links_of(browser.get("/find", q="bank:77"))
    assert listed(browser.get("/find", q="pack")) == ["packed"]
    assert "/failed?task=t_ship&error=-" in links_of(browser.get("/find", q="t_sh"))
    assert "/sessions?prefix=order" in links_of(browser.get("/find", q="order"))
    assert len(listed(browser.get("/find", q="failed"))) == 50
    assert "Nothing is called" in browser.get("/find", q="nothing").text
    browser.get("/find")
    browser.get("/find", q="a\x00b" + "x" * 500)


def test_names_are_text_and_nothing_else(store: MemoryStore, browser: Browser) -> None:
    for number, name in enumerate(
        ["<b>&amp;", '"><script>alert(1)</script>', "a b&c=d?#%20", "é~'"]
    ):
        session = SessionDriver(store, f"~{name}")
        session.configure({f"t_{name}": {"after": ["go", f"e{name}"]}, "t_y": {"after": ["go"]}})
        session.fire("go", event_id=f"id{name}")
        session.fail_now("t_y#0", {"error": {"type": name}})
        for page in (
            browser.get("/failed", error=name),
            browser.get("/sessions", prefix=f"~{name}"),
            browser.get("/find", q=f"~{name}"),
            browser.get("/find", q=f"id{name}"),
            browser.get("/waiting", trigger=f"e{name}"),
            browser.get("/waiting", missing=f"e{name}"),
        ):
            assert f"~{name}" in page.text, number
            assert not [each for each in page.all("script") if not each.attributes.get("src")]
        browser.get("/configurations")
        browser.get("/bulk/ask", kind="replay", error=name)


# -- configurations --------------------------------------------------------------------------------


def test_configurations(store: MemoryStore, browser: Browser) -> None:
    page = browser.get("/configurations")
    listed_here = store.configurations_in_use()
    assert listed_here is not None
    by_use = sorted(listed_here, key=lambda each: -each.sessions)
    assert listed(page) == [each.address for each in by_use]
    one = by_use[0].address
    shown = browser.get(f"/configuration?address={one}")
    assert "after paid and packed" in shown.text
    assert list(shown.all("svg"))
    assert read_all(browser, f"/configuration?address={one}") == ORDERS[10:]
    assert "No session has this configuration" in browser.get("/configuration?address=x", 404).text


def test_a_storage_without_an_index_says_so(
    store: MemoryStore, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "configurations_in_use", lambda *asked, **named: None)
    monkeypatch.setattr(store, "sessions_with", lambda *asked, **named: None)
    monkeypatch.setattr(store, "find_event", lambda *asked, **named: None)
    assert "no index" in browser.get("/configurations").text
    assert browser.get("/configuration?address=x", 404)
    assert "finds no events" in browser.get("/find", q="bank:1").text


NEW = {"t_ship": {"after": ["paid"], "run": "pages.Ship"}}


def test_a_dry_run_of_another_configuration(store: MemoryStore, browser: Browser) -> None:
    listed_here = store.configurations_in_use() or []
    address = max(listed_here, key=lambda each: each.sessions).address
    ask = form_of(browser.get(f"/configuration/move?address={address}"), "/configuration/try")
    tried = browser.send(ask, configuration=json.dumps(NEW))
    assert "change 110 of 110 open sessions" in tried.text
    assert "50 instances run at once" in " ".join(tried.text.split())
    assert store.configurations_in_use() == listed_here, "nothing is stored"
    narrower = browser.send(ask, configuration=json.dumps(NEW), prefix="order:01")
    assert "change 10 of 10 open sessions" in narrower.text
    for text, said in (
        ("", "not JSON"),
        ("[1]", "mapping"),
        ('{"t_x": {"after": ["go"]}}', "run: missing"),
    ):
        assert said in browser.send(ask, configuration=text).text
    nothing = browser.send(ask, configuration=json.dumps(NEW), prefix="", address="")
    assert "not all sessions at once" in nothing.text


def test_only_those_who_may_configure(app: Application) -> None:
    browser = Browser(app, READER)
    browser.get("/configuration/move?address=x", 403)
    answer = browser.ask("/configuration/start", "POST")
    assert answer.status == 403


# -- what it costs ---------------------------------------------------------------------------------


class Counted(SqliteStore):
    """Notes what it is asked."""

    calls: list[str]

    def __getattribute__(self, name: str) -> Any:
        if name in _ASKED:
            self.calls.append(name)
        return super().__getattribute__(name)


_READS = {name for name in vars(Store) if not name.startswith("_")} - {"clock", "commit", "place"}
_ASKED = frozenset(_READS - {"now", "key", "awaits", "in_this_process", "in_thread", "exists"})


@pytest.mark.parametrize(
    ("address", "most"),
    [
        ("/", 4),
        ("/waiting", 1),
        ("/waiting?missing=packed", 1),
        ("/failed", 2),
        ("/failed?prefix=order:1", 2),
        ("/sessions", 1),
        ("/sessions?prefix=order:", 2),
        ("/find?q=order:1", 5),
        ("/configurations", 2),
        ("/bulk/ask?kind=replay", 2),
    ],
)
@pytest.mark.parametrize("sessions", [20, 60])
def test_a_page_asks_no_more_with_more_sessions(
    address: str, most: int, sessions: int, tmp_path: Path
) -> None:
    store = Counted(tmp_path / "shop.db", synchronous="NORMAL")
    store.calls = []
    for number in range(sessions):
        session = SessionDriver(store, f"order:{number}")
        session.configure(t_ship={"after": ["paid", "packed"]}, t_mail={"after": ["paid"]})
        session.fire("paid")
        if number % 2:
            session.fail_now("t_mail#0")
        else:
            session.run("t_mail#0")
    app = Application("n", Settings.isolated(TRIGGER_PLUGINS=[]), store=store, runner=ManualRunner)
    browser = Browser(app)
    browser.pages._versions._versions = {}  # what the page itself costs
    store.calls.clear()
    browser.get(address)
    assert len(store.calls) == most, store.calls
    app.close()
