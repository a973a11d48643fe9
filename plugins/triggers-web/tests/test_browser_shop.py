"""The examples with their pages: a person sees an order wait, sees why, fires
what is missing by hand, and sees it ship."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT
from real_browser import tab
from test_webhooks_only import FOLDER, SECRETS
from web_process import WebProcess
from web_signing import hmac_headers

pytestmark = pytest.mark.browser


def test_webhooks_alone(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.db*", "venv", "__pycache__"))
    packed = (FOLDER / "packed.json").read_bytes()
    with (
        WebProcess(folder, {**SECRETS, "LOGNAME": "ada"}, "--act") as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as seen,
    ):
        signed = hmac_headers(packed, SECRETS["WAREHOUSE_SECRET"])
        assert server.post("/webhooks/warehouse", packed, signed).status == 200

        link = server.link
        seen.go(link)
        seen.page.wait_for_url("**/")
        assert "ada" in seen.text
        seen.click("1 waits for paid")
        seen.click("order:42")
        assert "waits for paid" in seen.text

        seen.click("Fire a trigger…")
        seen.page.get_by_label("Trigger", exact=True).fill("paid")
        seen.page.get_by_label("Kwargs").fill('{"cents": 1990}')
        seen.click("See what it would do")
        assert "schedule t_ship#0" in seen.text
        seen.click("Fire it")
        seen.page.locator("#tasks ~ article .badge").get_by_text("finished").wait_for()
        assert "parcel B7-42, worth 19.90" in server.log.read_text()
        assert "by ada" in seen.text, "of the event"

        assert server.link != link
        seen.click("Log out")
        assert "You are logged out" in seen.text
        seen.complaints = ("403",)
        seen.go(link, 403)
        seen.go("/", 403)


def test_a_shop_with_pages(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "examples" / "shop", folder / "shop")
    environment = {"TRIGGER_STORAGE_TYPE": "sqlite", "TRIGGER_RUNNER": "threading"}
    command = (sys.executable, "-m", "uvicorn", "shop.site:app")
    with (
        WebProcess(folder, environment, command=command) as server,
        tab(browser, f"http://127.0.0.1:{server.port}") as seen,
    ):
        stock = b'{"id": "res-7", "order": 42, "warehouse": "B"}'
        assert server.post("/stock", stock, {}).status == 202
        seen.go("/triggers/")
        seen.click("1 waits for paid")
        seen.click("order:42")
        assert "waits for paid; has reserved" in seen.text
        seen.click("Fire a trigger…")
        seen.page.get_by_label("Trigger", exact=True).fill("paid")
        seen.page.get_by_label("Kwargs").fill('{"order": "42", "amount": "19.90"}')
        seen.click("See what it would do")
        seen.click("Fire it")
        seen.page.locator("article", has_text="t_tell#0").get_by_text("finished").first.wait_for()
        assert "by the shop" in seen.text
        assert len(list((folder / "parcels").iterdir())) == 1
