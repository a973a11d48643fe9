"""An attack on the pages of a real server: nothing is shown, and nothing changes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from browser_world import make_world
from starlette.routing import Route
from web_pages import ALL, READER
from web_server import Answer, Server, head_of, read_answer, request

from triggers_core import Application
from triggers_core.engine.protocol import Query
from triggers_core.testing import VirtualClock
from triggers_web.pages import Access, Pages
from triggers_web.pages import site as pages_site
from triggers_web.pages.login import LASTS, LOGOUT, LOOPBACK, PATH, Login
from triggers_web.pages.site import MAX_FORM
from triggers_web.starlette import HandlerApp, site

TOKEN = "t" * 43
FORM = "application/x-www-form-urlencoded"
UID = "order:2"  # it has failed
SECRET = "tok_1"  # in its kwargs


class Attacked:
    """A server, the application behind it, and whoever asks: somebody who may do everything."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.access: Access = ALL
        self.server = Server(site(app, access=lambda _: self.access, hosts=LOOPBACK))

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return self.server.post(path, b"", self.headers(headers), method=method)

    def act(self, path: str, csrf: str = TOKEN, cookie: str = TOKEN, **headers: str) -> Answer:
        """Send a form about the failed instance; whether anything changes is looked at below."""
        header = self.app.store.load(UID, Query()).header
        assert header is not None
        fields = {"csrf": csrf, "uid": UID, "name": "t_ship#0", "trigger": "note", "step": "fire"}
        fields["life"] = header.generation
        given = {"Content-Type": FORM, "Cookie": f"triggers_csrf={cookie}", **headers}
        return self.server.post(path, urlencode(fields).encode(), self.headers(given))

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Host": f"127.0.0.1:{self.server.port}", **more}


@pytest.fixture(scope="module")
def world() -> Iterator[Attacked]:
    with make_world() as app:
        attacked = Attacked(app)
        with attacked.server:
            yield attacked


def state_of(app: Application) -> list[Any]:
    """All that acts could change."""
    return sorted((each.uid, str(each)) for each in app.store.sessions())


@pytest.fixture
def attacked(world: Attacked) -> Iterator[Attacked]:
    """After it, all is as it was, and pages are served."""
    before = state_of(world.app)
    world.access = ALL
    yield world
    assert state_of(world.app) == before
    world.access = READER
    assert world.get("/").status == 200


ACTS = sorted(pages_site._ACTS)


def test_what_is_sent_does_something_without_the_attack(world: Attacked) -> None:
    """Or the tests below could not fail."""
    world.access = ALL
    before = state_of(world.app)
    assert world.act("/session/fire").status == 303
    assert state_of(world.app) != before


# -- forged forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ACTS)
def test_no_token(attacked: Attacked, path: str) -> None:
    assert attacked.act(path, csrf="").status == 403
    assert attacked.act(path, csrf="u" * 43).status == 403
    assert attacked.act(path, csrf="", cookie="").status == 403
    assert attacked.act(path, csrf=TOKEN, cookie="").status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "anything"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json"},
    ],
)
def test_from_elsewhere(attacked: Attacked, headers: dict[str, str]) -> None:
    assert attacked.act("/session/fire", **headers).status == 403


@pytest.mark.parametrize("path", ACTS)
def test_acts_by_get(attacked: Attacked, path: str) -> None:
    fields = {"uid": UID, "name": "t_ship#0", "trigger": "note", "step": "fire", "csrf": TOKEN}
    answer = attacked.get(f"{path}?{urlencode(fields)}", Cookie=f"triggers_csrf={TOKEN}")
    assert answer.status in (200, 405, 409)  # a question, at most


@pytest.mark.parametrize("path", ACTS)
def test_a_reader_cannot_write(attacked: Attacked, path: str) -> None:
    attacked.access = READER
    assert attacked.act(path).status == 403


@pytest.mark.parametrize("path", [path for path, (right, _) in pages_site._ACTS.items()
                                  if right == "erase"])  # fmt: skip
def test_whoever_acts_cannot_erase(attacked: Attacked, path: str) -> None:
    attacked.access = Access(who="carl", read=True, act=True)
    assert attacked.act(path).status == 403


@pytest.mark.parametrize("path", sorted({*pages_site._PAGES, *ACTS, "/live"}))
def test_whoever_may_not_look_sees_nothing(attacked: Attacked, path: str) -> None:
    attacked.access = Access(act=True, erase=True)
    query = urlencode({"uid": UID, "name": "t_ship#0", "of": f"/session?uid={UID}"})
    answer = attacked.get(f"{path}?{query}")
    assert answer.status == 403
    assert b"t_ship" not in answer.body.replace(query.replace("&", "&amp;").encode(), b"")
    assert attacked.act(path).status in (403, 404)


# -- names and addresses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "localhost@evil.example",
        "evil.example/localhost",
        "localhost:80:80",
        "0.0.0.0",
        "[::",
        "",
    ],
)
def test_hosts(attacked: Attacked, host: str) -> None:
    for path in ("/", f"/session?uid={UID}", "/static/script.js", "/nothing"):
        answer = attacked.get(path, Host=host)
        assert answer.status == 400
        assert b"order" not in answer.body
    assert attacked.act("/session/fire", Host=host).status == 400


def test_two_hosts(attacked: Attacked) -> None:
    head = head_of("/", attacked.headers({}), b"Host: evil.example", method="GET")
    answer = attacked.server.send(head)
    assert answer is not None
    assert answer.status == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"])
def test_names_of_this_machine(attacked: Attacked, host: str) -> None:
    assert attacked.get("/", Host=host).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../site.py",
        "/static/%2e%2e/site.py",
        "/static/..%2fsite.py",
        "/static//etc/passwd",
        "/static/style.css/",
        "/static/style.css%00",
        "/static/",
        "/templates/base.html",
        "//session",
        "/./session",
        "/session/",
        "/SESSION",
        "/session%2ffire/x",
        "/webhooks/../session",
        "/session%0d%0aX-Evil:1",
        "/%c0%ae%c0%ae/session",
        "/session;x=1",
        "/login",
    ],
)
def test_tricks_with_paths(attacked: Attacked, path: str) -> None:
    answer = attacked.get(path)
    assert answer.status == 404
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_methods(attacked: Attacked, method: str) -> None:
    assert attacked.get("/session/fire", method).status in (404, 405)


@pytest.mark.parametrize(
    "query",
    [
        "uid=" + "x" * 5_000,
        "uid=%00",
        "uid=%ff%fe",
        "uid=" + "%F0%9F%92%A9" * 80,
        "uid=order%3A2&number=-1",
        "uid=order%3A2&number=" + "9" * 400,
        "uid=order%3A2&name=..%2F..%2Fetc%2Fpasswd",
        "uid=order%3A2&name=t_ship%23999999999999999999999999",
        "uid=order%3A2&task=%27%20OR%201%3D1%20--",
        "uid[]=x&uid=",
        "&".join(["a=1"] * 1_500),
        "done=%3Cscript%3E",
        "of=//evil.example/x",
        "of=%2Flive%3Fof%3D%2Flive",
        "of=http%3A%2F%2F%5B",
    ],
)
def test_odd_queries(attacked: Attacked, query: str) -> None:
    for path in sorted({*pages_site._PAGES, "/live"} - {"/live"}):
        answer = attacked.get(f"{path}?{query}")
        assert answer.status < 500, (path, query, answer.body)
        assert b"<script>" not in answer.body
    if query.startswith("of="):
        assert attacked.get(f"/live?{query}").status in (400, 404)


def test_no_answer_may_be_framed_kept_or_read_by_others(attacked: Attacked) -> None:
    attacked.access = READER
    for path in ("/", f"/session?uid={UID}", "/nothing", "/static/style.css"):
        headers = attacked.get(path, Origin="https://evil.example").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "max-age" in headers["cache-control"] or headers["cache-control"] == "no-store"


def test_what_is_secret_is_masked_for_everybody(attacked: Attacked) -> None:
    for path in ("/session", "/instance", "/instance/replay", "/session/events"):
        query = urlencode({"uid": UID, "name": "t_ship#0"})
        answer = attacked.get(f"{path}?{query}")
        assert answer.status == 200
        assert SECRET.encode() not in answer.body


# -- sizes and patience ---------------------------------------------------------------------------


def test_a_form_that_is_too_long(attacked: Attacked) -> None:
    headers = attacked.headers({"Content-Type": FORM, "Content-Length": str(MAX_FORM + 1)})
    answer = attacked.server.send(head_of("/session/fire", headers))
    assert answer is not None
    assert answer.status == 413


def test_a_page_is_asked_for_without_a_body(attacked: Attacked) -> None:
    answer = attacked.server.post("/", b"x", attacked.headers({}), method="GET")
    assert answer.status == 413


def test_forms_that_never_end_hold_nobody_up(attacked: Attacked) -> None:
    app = HandlerApp(Pages(attacked.app, access=lambda _: READER), attacked.app, body_timeout=0.3)
    head = head_of("/session/fire", {"Content-Type": FORM, "Content-Length": "1000"})
    with Server(app) as server, ExitStack() as stack:
        slow = [stack.enter_context(server.connection()) for _ in range(50)]
        for each in slow:
            each.sendall(head + b"csrf=")
        assert server.post("/", b"", {}, method="GET").status == 200
        for each in slow:
            answer = read_answer(each)
            assert answer is not None
            assert answer.status == 408


@pytest.mark.parametrize("body", [b"\xff\xfe=1", b"a=%ff%fe", b"&".join([b"a=1"] * 2_000), b"%"])
def test_forms_that_are_none(attacked: Attacked, body: bytes) -> None:
    headers = attacked.headers({"Content-Type": FORM, "Cookie": f"triggers_csrf={TOKEN}"})
    assert attacked.server.post("/session/fire", body, headers).status in (400, 403)


@pytest.mark.parametrize("cookie", ["", "=", ";;;", "a" * 8_000, "triggers_csrf", "\xff=\xfe"])
def test_odd_cookies(attacked: Attacked, cookie: str) -> None:
    assert attacked.get("/", Cookie=cookie).status == 200


# -- logging in -----------------------------------------------------------------------------------


class Door:
    """A server as `triggers web` makes it."""

    def __init__(self, app: Application) -> None:
        self.links: list[str] = []
        self.clock = VirtualClock()
        self.login = Login(READER, LOOPBACK, self.links.append, self.clock)
        served = site(app, access=self.login.access, hosts=LOOPBACK)
        for path in (PATH, LOGOUT):
            served.router.routes.insert(0, Route(path, HandlerApp(self.login, app)))
        self.server = Server(served)

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        given = {"Host": f"127.0.0.1:{self.server.port}", **headers}
        return self.server.post(path, b"", given, method=method)

    def enter(self, token: str, **headers: str) -> Answer:
        return self.get(f"/login?{urlencode({'token': token})}", **headers)


@pytest.fixture
def door(attacked: Attacked) -> Iterator[Door]:
    door = Door(attacked.app)
    with door.server:
        yield door


def cookie_of(answer: Answer) -> str:
    found = re.fullmatch(
        r"(triggers_login_\d+=[\w-]{43}); Path=/; HttpOnly; SameSite=Strict",
        answer.headers["set-cookie"],
    )
    assert found
    return found[1]


def test_a_link_works_once(door: Door) -> None:
    assert door.get("/").status == 403
    token = door.login.token
    answer = door.enter(token)
    assert answer.status == 200
    cookie = cookie_of(answer)
    assert door.get("/", Cookie=cookie).status == 200
    again = door.enter(token)
    assert (again.status, "set-cookie" in again.headers) == (403, False)
    assert door.links == [door.login.token]
    assert token not in door.links
    other = cookie_of(door.enter(door.links[-1]))
    assert other != cookie
    assert [door.get("/", Cookie=each).status for each in (cookie, other)] == [200, 200]


def test_many_who_open_it_at_once_are_one(door: Door) -> None:
    token = door.login.token
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(door.enter(token).status)) for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == [200] + [403] * 7


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
def test_what_looks_at_a_link_does_not_use_it_up(door: Door, method: str) -> None:
    answer = door.get(f"/login?token={door.login.token}", method)
    assert answer.status == 405
    assert not door.links


def test_links_that_are_none(door: Door) -> None:
    token = door.login.token
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "\xff", "💩", "x" * 5_000):
        assert door.enter(wrong).status == 403
    assert door.get("/login?" + "&".join(["token=x"] * 2_000)).status == 403
    assert door.enter(token, Host="evil.example").status == 400
    assert not door.links
    assert door.enter(token).status == 200, "it still works"


def test_cookies_that_are_none(door: Door) -> None:
    name, _, value = cookie_of(door.enter(door.login.token)).partition("=")
    wrong = ("", value[:-1], value + "x", value.swapcase(), door.login.token, "\xff")
    for each in wrong:
        assert door.get("/", Cookie=f"{name}={each}").status == 403
    assert door.get("/", Cookie=f"triggers_login={value}").status == 403
    assert door.get("/", Cookie=f"triggers_login_1={value}").status == 403
    assert door.get(f"/live?of=/session?uid={UID}").status == 403


def test_a_link_expires(door: Door) -> None:
    token = door.login.token
    door.clock.advance(LASTS + 1)
    answer = door.enter(token)
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    assert b"This link has expired" in answer.body
    assert b"has just printed another one" in answer.body
    assert door.links == [door.login.token]
    assert b"does not work" in door.enter(token).body
    assert door.links == [door.login.token], "one at a time"
    door.clock.advance(LASTS)
    assert door.enter(door.links[0]).status == 200


def test_whoever_asks_without_a_link_that_works_gets_one_printed(door: Door) -> None:
    assert b"printed last" in door.get("/").body
    assert not door.links
    door.clock.advance(LASTS + 1)
    assert b"has just printed another one" in door.get("/").body
    assert b"printed last" in door.get("/").body
    assert door.links == [door.login.token]
    assert door.links[0].encode() not in door.get("/").body


def test_whoever_is_logged_in_stays_so_and_has_none_printed(door: Door) -> None:
    cookie = cookie_of(door.enter(door.login.token))
    door.clock.advance(100 * LASTS)
    assert door.get("/", Cookie=cookie).status == 200
    assert len(door.links) == 1


def test_logging_out(door: Door) -> None:
    cookie = cookie_of(door.enter(door.login.token))
    other = cookie_of(door.enter(door.links[-1]))
    csrf = f"triggers_csrf={TOKEN}"
    assert b"Log out" in door.get("/", Cookie=cookie).body

    def leave(body: str, method: str = "POST", **headers: str) -> Answer:
        given = {"Host": f"127.0.0.1:{door.server.port}", "Content-Type": FORM, **headers}
        return door.server.post("/logout", body.encode(), given, method=method)

    form, both = f"csrf={TOKEN}", f"{cookie}; {csrf}"
    for forged in (
        leave("", Cookie=both),
        leave("csrf=x", Cookie=both),
        leave(form, Cookie=cookie),
        leave(form, Cookie=both, Origin="https://evil.example"),
        leave(form, Cookie=both, **{"Sec-Fetch-Site": "cross-site"}),
    ):
        assert forged.status == 403
    assert leave("", "GET", Cookie=both).status == 405
    assert leave(form, Cookie=both, Host="evil.example").status == 400
    assert leave("x" * 5_000, Cookie=both).status == 413
    assert door.get("/", Cookie=cookie).status == 200, "still in"
    answer = leave(form, Cookie=both)
    assert (answer.status, b"You are logged out" in answer.body) == (200, True)
    assert answer.headers["set-cookie"].endswith("=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    assert [door.get("/", Cookie=each).status for each in (cookie, other)] == [403, 200]
    assert leave(form, Cookie=both).status == 200, "twice does no harm"


def test_webhooks_take_no_login(door: Door) -> None:
    answer = door.server.post("/webhooks/nothing", b"{}", {})
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "not found")


def test_a_request_within_another_is_none(attacked: Attacked) -> None:
    """What follows a body that is longer than stated is a request of its own, and refused."""
    inner = request("/session/fire", b"", {"Host": "evil.example"})
    with attacked.server.connection() as stream:
        stream.sendall(request("/", b"", attacked.headers({}), method="GET") + inner)
        first = read_answer(stream)
        assert first is not None
        assert first.status == 200
