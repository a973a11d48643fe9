"""Whom `triggers web` lets in, and where."""

from __future__ import annotations

import getpass
import http.client
from pathlib import Path

import pytest
from test_web_commands import settings
from web_process import PATIENCE, WebProcess
from web_signing import ENVIRON, as_json, hmac_headers

from triggers_web.pages.login import is_loopback
from triggers_web.serving import Offer


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one
    assert Offer(host, 0).has_pages is is_one
    assert Offer(host, 0, ["shop.example"]).has_pages


def test_rights() -> None:
    found = [Offer("::1", 0, act=act, erase=erase).access for act, erase in
             ((False, False), (True, False), (False, True))]  # fmt: skip
    assert [(each.read, each.act, each.erase) for each in found] == [
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    assert not any(each.secrets for each in found)


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert Offer("::1", 0).access.who.startswith("user ")


def test_links() -> None:
    assert Offer("127.0.0.1", 0).link(80, "x") == "http://127.0.0.1:80/login?token=x"
    assert Offer("::1", 0).link(80, "x") == "http://[::1]:80/login?token=x"
    named = Offer("0.0.0.0", 0, ["Shop.example"])
    assert named.link(80, "x") == "http://Shop.example:80/login?token=x"
    assert {"shop.example", "localhost"} <= named.hosts


def get(server: WebProcess, path: str, host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_at_an_address_of_a_network_are_webhooks_alone(tmp_path: Path) -> None:
    body = as_json({"order": 1})
    with WebProcess(tmp_path, {**ENVIRON, **settings(tmp_path)}, "--host", "0.0.0.0") as server:
        assert server.post("/webhooks/warehouse", body, hmac_headers(body)).status == 200
        status, page = get(server, "/")
        assert (status, "There are no pages here" in page) == (404, True)
        assert get(server, "/login?token=x")[0] == 404
        log = server.log.read_text()
    assert "No pages: 0.0.0.0 is no loopback address." in log
    assert "token" not in log.replace("/login?token=x ", "")


def test_pages_for_others_are_asked_for(tmp_path: Path) -> None:
    options = ("--host", "0.0.0.0", "--hostname", "shop.example", "--erase")
    with WebProcess(tmp_path, {**ENVIRON, **settings(tmp_path)}, *options) as server:
        assert get(server, "/", "shop.example")[0] == 403
        assert get(server, "/", "evil.example")[0] == 400
        log = server.log.read_text()
        link = server.link
        assert get(server, link, "evil.example")[0] == 400
        assert get(server, link, "shop.example")[0] == 200
        assert server.link != link
    assert f"http://shop.example:{server.port}/login?token=" in log
    assert "Mind: this is no loopback address." in log
    assert "can erase too" in log
