"""``triggers webhook`` and ``triggers web``."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_process import WebProcess
from web_signing import ENVIRON, ROUTES, as_json, hmac_headers, payment

from triggers_cli import groups
from triggers_cli.main import run

APP = """
from web_signing import ROUTES, make_app

app = make_app(TRIGGER_PLUGIN_OPTIONS={"web": {"webhooks": ROUTES}})
"""

Try = Callable[..., tuple[int, str, str]]


@pytest.fixture
def try_(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Try:
    """Runs ``triggers webhook try``: exit code, output, errors. No secret is set."""
    (tmp_path / "hooked_shop.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(route: str, body: bytes, *options: str) -> tuple[int, str, str]:
        Path("body.json").write_bytes(body)
        code = run(["--app", "hooked_shop", "webhook", "try", route, "body.json", *options])
        return (code, *capsys.readouterr())

    return call


def test_what_a_webhook_would_fire(try_: Try) -> None:
    assert try_("/stripe", payment()) == (
        0,
        "would fire paid into order:42\n  event id  stripe:evt_1\n  cents  1990\n",
        "",
    )
    code, out, _ = try_("/stripe", payment(), "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "status": "accepted",
            "uid": "order:42",
            "trigger": "paid",
            "event_id": "stripe:evt_1",
            "kwargs": {"cents": 1990},
        },
    )


def test_with_headers(try_: Try) -> None:
    body = as_json({"action": "closed", "number": 7, "repository": {"full_name": "a/b"}})
    headers = ("--header", "X-GitHub-Event: pull_request", "--header", "x-github-delivery:d-1")
    assert try_("/github", body, *headers)[1].startswith("would fire closed into a/b#7\n")
    assert try_("/github", body, *headers[:2])[0] == 1
    code, _, err = try_("/github", body, "--header", "X-GitHub-Event")
    assert code == 2
    assert "write 'NAME: VALUE'" in err


@pytest.mark.parametrize(
    ("route", "body", "code", "told"),
    [
        ("/stripe", as_json({"type": "x"}), 0, "would be ignored: no trigger is configured"),
        ("/stripe", b"{", 1, "not JSON (line 1, column 2) (it would be answered 400)"),
        ("/warehouse", b"{}", 1, "body.order: there is nothing in this webhook"),
        ("/warehouse", as_json({"order": 1, "a": "x" * 99_999}), 1, "it would be answered 413"),
        ("/standard", as_json({"order": 1, "type": "x"}), 1, "headers.webhook-id"),
        ("/strip", b"{}", 2, "did you mean '/stripe'?"),
    ],
)
def test_what_would_become_of_others(
    try_: Try, route: str, body: bytes, code: int, told: str
) -> None:
    found, out, err = try_(route, body)
    assert found == code
    assert told in out + err


def test_ignored_as_json(try_: Try) -> None:
    assert json.loads(try_("/stripe", as_json({"type": "x"}), "--json")[1])["status"] == "ignored"


def test_where_the_commands_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(groups, "_added", dict)  # as if this package were not there
    for name in ("web", "webhook"):
        assert run([name]) == 2
        assert "is not installed: python -m pip install triggers-web" in capsys.readouterr().err


def settings(folder: Path, routes: dict[str, Any] = ROUTES) -> dict[str, str]:
    return {
        "TRIGGER_STORAGE_OPTIONS": json.dumps({"path": str(folder / "hooks.db")}),
        "TRIGGER_PLUGINS": "[]",
        "TRIGGER_PLUGIN_OPTIONS": json.dumps({"web": {"webhooks": routes}}),
    }


def test_the_server(tmp_path: Path) -> None:
    body = as_json({"order": 1})
    with WebProcess(tmp_path, {**ENVIRON, **settings(tmp_path)}) as server:
        assert server.post("/webhooks/warehouse", body, {}).status == 401
        assert server.post("/webhooks/warehouse", body, hmac_headers(body)).status == 200
        assert server.post("/warehouse", body, hmac_headers(body)).status == 404


def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hooked_shop.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["--app", "hooked_shop", "web"]) == 2
    assert "STRIPE is not set" in capsys.readouterr().err
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["--app", "hooked_shop", "web", "--port", port]) == 1
    told = capsys.readouterr().err
    assert "address already in use" in told
    assert "sys.exit" not in told
