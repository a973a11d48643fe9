"""What can be done on the pages, as somebody without scripts does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from web_pages import READER, Browser, Element, fields_of, form_of, links_of, make_shop, order

from triggers_core import Application, hookimpl
from triggers_core.exceptions import FireVetoed
from triggers_web.pages import Access, guard
from triggers_web.pages.site import _ACTS

FAILED = {"uid": "order:1", "name": "t_ship#0"}


@pytest.fixture(params=["memory", "sqlite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    options = {"path": str(tmp_path / "shop.db")} if request.param == "sqlite" else {}
    app = make_shop(request.param, **options)
    yield app
    app.close()


@pytest.fixture
def browser(shop: Application) -> Browser:
    """Somebody who may do everything, and a session in which an instance has failed."""
    order(shop, broken="no such street")
    return Browser(shop)


def problem_of(page: Element) -> str:
    [found] = [each for each in page.all("p") if each.attributes.get("id") == "problem"]
    return found.text


def test_a_replay_as_it_was(shop: Application, browser: Browser) -> None:
    page = browser.get("/instance", **FAILED)
    page = browser.send(form_of(page, "/instance/replay"))
    assert "t_ship#1" in next(page.all("h1")).text
    assert "It runs again" in page.text
    storage = shop.storage("order:1")
    assert storage["t_ship#0"].acted_by == "alice"
    assert storage["t_ship#1"].idempotency_key == storage["t_ship#0"].idempotency_key
    assert "replayed by alice as t_ship#1" in browser.get("/instance", **FAILED).text


def test_a_replay_with_other_kwargs(shop: Application, browser: Browser) -> None:
    form = form_of(browser.get("/instance/replay", **FAILED), "/instance/replay")
    kwargs = json.loads(fields_of(form)["kwargs"])
    assert kwargs["placed"]["card"]["token"] == "***"
    kwargs["placed"]["broken"] = ""
    kwargs["placed"]["parcel"] = {"$decimal": "9.90"}
    browser.send(form, kwargs=json.dumps(kwargs))
    shop.manager("order:1").join()
    replay = shop.storage("order:1")["t_ship#1"]
    assert replay.status == "finished"
    assert replay.kwargs["placed"]["card"]["token"] == "tok_1"
    assert replay.result == {"parcel": Decimal("9.90")}
    assert replay.idempotency_key != shop.storage("order:1")["t_ship#0"].idempotency_key


def test_acts_beyond_those_that_a_session_shows(
    shop: Application, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = shop.manager("order:1").by("alice")
    manager.replay_failed_instance("t_ship#0")
    assert manager.join(120)
    manager.skip_failed_instance("t_ship#1")
    manager.close_session()
    assert "left out here" not in browser.get("/session", uid="order:1").text
    monkeypatch.setattr("triggers_web.pages.session.EVENTS", 2)
    page = browser.get("/session", uid="order:1")
    shown = [each.text for each in page.all("li") if each.attributes.get("class") == "act"]
    assert ["closed" in shown[0], "t_ship#1" in shown[1], len(shown)] == [True, True, 2]
    assert "shown up to 2; 1 earlier" in page.text


def test_a_replay_that_was_looked_at_only(shop: Application, browser: Browser) -> None:
    form = form_of(browser.get("/instance/replay", **FAILED), "/instance/replay")
    typed = fields_of(form)["kwargs"].replace("\n", "\r\n")  # as browsers send it
    browser.send(form, kwargs=typed)
    storage = shop.storage("order:1")
    assert storage["t_ship#1"].idempotency_key == storage["t_ship#0"].idempotency_key


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("{", "not JSON"),
        ('{"placed": 5}', "replacement_kwargs['placed']: expected a mapping"),
        ('{"placed": {"note": "\\ud800"}}', "kwargs['placed']['note']: the str holds a lone"),
        ('{"placed": {"token": "***"}}', "kwargs['placed']['token']: *** stands for"),
        ('{"placed": {"note": "' + "x" * 70_000 + '"}}', "the limit kwargs_bytes is 65,536"),
    ],
)
def test_kwargs_that_are_wrong(shop: Application, browser: Browser, typed: str, said: str) -> None:
    form = form_of(browser.get("/instance/replay", **FAILED), "/instance/replay")
    page = browser.send(form, 422, kwargs=typed)
    assert said in problem_of(page)
    again = form_of(page, "/instance/replay")
    assert fields_of(again)["kwargs"] == typed
    assert shop.storage("order:1")["t_ship#0"].status == "failed"


def test_somebody_was_faster(shop: Application, browser: Browser) -> None:
    forms = [
        form_of(browser.get(f"/instance/{what}", **FAILED), f"/instance/{what}")
        for what in ("replay", "skip")
    ]
    shop.manager("order:1").by("bob").replay_failed_instance("t_ship#0")
    for form in forms:
        page = browser.send(form, 409)
        assert "Somebody was faster: t_ship#0 is replayed." in page.text
        assert "It was bob." in page.text
        assert "/instance?uid=order%3A1&name=t_ship%231" in links_of(page)
    assert "Somebody was faster" in browser.get("/instance/skip", 409, **FAILED).text
    assert len(shop.storage("order:1").instances_of_task("t_ship")) == 2


def test_a_skip(shop: Application, browser: Browser) -> None:
    form = form_of(browser.get("/instance/skip", **FAILED), "/instance/skip")
    page = browser.send(form, 422, result='{"parcel": 1}')
    assert "goes along with a cascade" in problem_of(page)
    page = browser.send(form, 422, result="{", cascade="yes")
    [box] = [each for each in page.all("input") if each.attributes.get("type") == "checkbox"]
    assert "checked" in box.attributes
    page = browser.send(form, cascade="yes", result='{"at": {"$datetime": "2026-01-02T09:05:00"}}')
    assert "The instance is skipped." in page.text
    shop.manager("order:1").join()
    storage = shop.storage("order:1")
    assert storage["t_ship#0"].acted_by == "alice"
    assert storage["t_mail#0"].kwargs == {"t_ship": {"at": datetime(2026, 1, 2, 9, 5)}}


def test_a_skip_without_a_cascade(shop: Application, browser: Browser) -> None:
    browser.send(form_of(browser.get("/instance/skip", **FAILED), "/instance/skip"))
    storage = shop.storage("order:1")
    assert storage["t_ship#0"].status == "skipped"
    assert not storage.instances_of_task("t_mail")


def test_an_instance_that_is_stuck(shop: Application, browser: Browser) -> None:
    manager = shop.manager("order:2")
    manager.update_configuration({"t_x": {"after": ["go"], "run": "pages.Mail"}})
    manager.fire("go")
    stuck = {"uid": "order:2", "name": "t_x#0"}
    assert "/instance/fail?uid=order%3A2&name=t_x%230" in links_of(
        browser.get("/instance", **stuck)
    )
    form = form_of(browser.get("/instance/fail", **stuck), "/instance/fail")
    page = browser.send(form, reason="worker hangs")
    assert "worker hangs" in page.text
    assert shop.storage("order:2")["t_x#0"].acted_by == "alice"
    assert browser.get("/instance/fail", 409, **stuck)


def test_logs_are_marked(shop: Application, browser: Browser) -> None:
    page = browser.get("/instance", **FAILED)
    page = browser.send(form_of(page, "/instance/logs"))
    assert "marked as dealt with" in page.text
    assert not shop.storage("order:1").get_instances_with_unresolved_logs()


def test_a_fire_is_tried_first(shop: Application, browser: Browser) -> None:
    manager = shop.manager("order:2")
    manager.update_configuration({"t_x": {"after": ["go", "paid"], "run": "pages.Mail"}})
    manager.fire("go")
    ask = form_of(browser.get("/session/fire", uid="order:2"), "/session/fire")
    page = browser.send(ask, trigger="paid", kwargs='{"amount": {"$decimal": "9.90"}}')
    assert "schedule t_x#0." in page.text
    storage = shop.storage("order:2")
    assert len(storage.events) == 1
    confirm = form_of(page, "/session/fire")
    page = browser.send(confirm)
    assert "The event is recorded." in page.text
    event = storage.events[1]
    assert (event.trigger, event.by) == ("paid", "alice")
    assert storage.latest_kwargs["paid"] == {"amount": Decimal("9.90")}
    page = browser.send(confirm)  # a double click, or the way back
    assert "had been fired already" in page.text
    assert len(storage.events) == 2


def test_what_a_fire_would_not_do(shop: Application, browser: Browser) -> None:
    ask = form_of(browser.get("/session/fire", uid="order:1"), "/session/fire")
    page = browser.send(ask, trigger="payed")
    assert "schedule nothing." in page.text
    assert "No task waits for it: did you mean paid?" in page.text
    for typed, said in (
        ({"trigger": "t_ship"}, "t_ship"),
        ({"trigger": ""}, "trigger"),
        ({"trigger": "paid", "kwargs": "[1]"}, "has to be an object"),
    ):
        page = browser.send(ask, 422, **typed)
        assert said in problem_of(page)
    shop.manager("order:1").close_session()
    page = browser.send(ask, 422, trigger="paid")
    assert "closed" in problem_of(page)
    assert len(shop.storage("order:1").events) == 2


class Doubting:
    """A plugin that refuses every fire, and must not be asked what it would do."""

    @hookimpl
    def pre_fire(self, manager: object, event: object) -> None:
        raise FireVetoed("not today")


def test_a_plugin_that_may_refuse() -> None:
    shop = make_shop(plugins=[Doubting()])
    shop.manager("order:1").update_configuration({"t_x": {"after": ["go"], "run": "pages.Mail"}})
    browser = Browser(shop)
    ask = form_of(browser.get("/session/fire", uid="order:1"), "/session/fire")
    page = browser.send(ask, trigger="go")
    assert "schedule t_x#0." in page.text
    assert "may change or refuse it: it has not been asked" in page.text
    page = browser.send(form_of(page, "/session/fire"), 422)
    assert "not today" in problem_of(page)
    shop.close()


def test_a_session_is_closed_and_deleted(shop: Application, browser: Browser) -> None:
    page = browser.get("/session", uid="order:1")
    close, delete = (
        next(link for link in links_of(page) if link.startswith(f"/session/{what}"))
        for what in ("close", "delete")
    )
    page = browser.send(form_of(browser.get(close), "/session/close"))
    assert "closed to further events" in page.text
    assert not [link for link in links_of(page) if link.startswith("/session/fire")]
    page = browser.send(form_of(browser.get(delete), "/session/delete"))
    assert "The session is deleted." in page.text
    assert not shop.storage("order:1").exists


def test_a_session_that_was_deleted_meanwhile(shop: Application, browser: Browser) -> None:
    forms = [
        form_of(browser.get(path, **FAILED), path)
        for path in ("/instance/replay", "/session/fire", "/session/delete")
    ]
    shop.manager("order:1").delete_session()
    for form in forms:
        assert "There is no session" in browser.send(form, 404, trigger="paid").text
    order(shop, broken="again")
    for form in forms:
        page = browser.send(form, 409, trigger="paid")
        assert "another one has its name" in page.text
    storage = shop.storage("order:1")
    assert storage["t_ship#0"].status == "failed"
    assert len(storage.events) == 2


def test_forged_forms(shop: Application, browser: Browser) -> None:
    form = form_of(browser.get("/instance", **FAILED), "/instance/replay")
    assert browser.submit(form, csrf="x" * 43).status == 403
    assert browser.submit(form, csrf="").status == 403
    assert browser.submit(form, {"sec-fetch-site": "cross-site"}).status == 403
    assert browser.submit(form, {"origin": "https://evil.example"}).status == 403
    assert browser.submit(form, {"origin": "null"}).status == 403
    fields = fields_of(form)
    as_json = json.dumps(fields).encode()
    assert browser.ask("/instance/replay", "POST", as_json).status == 403
    query = urlencode(fields)
    assert browser.ask(f"/instance/replay?{query}", "POST").status == 403
    browser.cookie = f"{guard.CSRF_COOKIE}=" + "y" * 43
    assert browser.submit(form).status == 403
    for path in _ACTS:
        assert browser.ask(f"{path}?{query}", "DELETE").status in (403, 405)
    assert shop.storage("order:1")["t_ship#0"].status == "failed"
    assert len(shop.storage("order:1").events) == 2


@pytest.mark.parametrize("access", [READER, Access(), Access(read=True, act=True)])
def test_who_may_not(shop: Application, access: Access) -> None:
    order(shop, broken="x")
    able, unable = Browser(shop), Browser(shop, access)
    forms = {
        path: form_of(able.get(path, **FAILED), path)
        for path in ("/instance/replay", "/instance/skip", "/session/fire", "/session/close")
    }
    unable.cookie = able.cookie
    for path, form in forms.items():
        right, _ = _ACTS[path]
        if not (access.read and getattr(access, right)):
            assert unable.submit(form, trigger="paid").status == 403
    storage = shop.storage("order:1")
    assert storage["t_ship#0"].status == "failed"
    assert storage.header is not None
    assert storage.header.state == "open"


def test_nobody_is_named_when_nobody_is_known(shop: Application) -> None:
    order(shop, broken="x")
    browser = Browser(shop, Access(read=True, act=True))
    browser.send(form_of(browser.get("/instance", **FAILED), "/instance/replay"))
    assert shop.storage("order:1")["t_ship#0"].acted_by is None


def test_where_an_act_leads_stays_below_the_prefix(shop: Application) -> None:
    order(shop, broken="x")
    browser = Browser(shop, root="/ops")
    form = form_of(browser.get("/ops/instance", **FAILED), "/instance/replay")
    answer = browser.submit(form)
    address = urlsplit(answer.headers["location"])
    assert (answer.status, address.path, address.netloc) == (303, "/ops/instance", "")
    assert parse_qs(address.query)["name"] == ["t_ship#1"]
