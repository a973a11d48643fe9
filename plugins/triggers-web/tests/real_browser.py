"""A real browser: Chromium of the system, which Playwright drives. What goes wrong in it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDE, NARROW = 1280, 400
"""Widths of the window, in pixels."""
PATIENCE = 60_000.0  # milliseconds until what a page does not do fails a test

FLAGS = (
    "--headless",
    "--no-sandbox",  # in containers, tests are often root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
)
_REPORT = """document.addEventListener("securitypolicyviolation",
    (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));"""


def chromium_path() -> str | None:
    """Where Chromium is: CHROMIUM, or what the system's packages have installed."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for each in names if each and (found := shutil.which(each))), None)


@contextmanager
def open_chromium() -> Iterator[Any]:
    """A browser; without one, or without what drives it, the test is skipped and says so."""
    path = chromium_path()
    if path is None:
        pytest.skip("there is no Chromium: install the system's package, or set CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A window of its own, with cookies of its own.

    :param address: where the pages are, without a slash at the end.
    """

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        width: int = WIDE,
        dark: bool = False,
        script: bool = True,
    ) -> None:
        self.address = address
        self.problems: list[str] = []
        """What the browser complained of."""
        self.complaints: tuple[str, ...] = ()
        """Parts of complaints that are expected."""
        self.posted: list[str] = []
        """Paths of forms that were sent."""
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._asked)
        if script:
            self.page.add_init_script(_REPORT)

    def _said(self, message: Any) -> None:
        expected = any(each in message.text for each in self.complaints)
        if message.type in ("error", "warning") and not expected:
            self.problems.append(f"{self.page.url}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"{self.page.url}: a dialog, {dialog.message!r}")
        dialog.dismiss()

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(f"{self.address}/"):
            self.problems.append(f"{self.page.url}: asked elsewhere, {request.url}")
        if request.method == "POST":
            self.posted.append(request.url.removeprefix(self.address).partition("?")[0])

    def go(self, path: str, status: int = 200) -> None:
        """Load a page."""
        answer = self.page.goto(f"{self.address}{path}")
        assert answer is not None, path
        assert answer.status == status, (path, answer.text())

    def click(self, name: str, role: str = "") -> None:
        """Press the link or button of that name (the first one), and wait for what it leads to."""
        for each in (role,) if role else ("button", "link"):
            found = self.page.get_by_role(each, name=name)
            if found.count():
                found.first.click()
                self.page.wait_for_load_state()
                return
        raise AssertionError(f"no {name!r} on {self.page.url}:\n{self.text}")

    def focused(self) -> str:
        """The name of what the keyboard is at."""
        script = """() => { const at = document.activeElement;
            return at.getAttribute("aria-label") || at.innerText || ""; }"""
        found: str = self.page.evaluate(script)
        return found.strip()

    def tab_to(self, name: str) -> None:
        """Press Tab until the keyboard is at what has that name."""
        for _ in range(100):
            self.page.keyboard.press("Tab")
            if self.focused() == name:
                return
        raise AssertionError(f"the keyboard does not reach {name!r} on {self.page.url}")

    @property
    def text(self) -> str:
        """What somebody reads."""
        found: str = self.page.locator("body").inner_text()
        return found

    @property
    def path(self) -> str:
        """Where it is, without the query."""
        whole: str = self.page.url
        return whole.removeprefix(self.address).partition("?")[0].partition("#")[0]

    def links(self) -> list[str]:
        """Addresses of these pages that this one leads to, without the host."""
        script = "all => all.map(each => each.href)"
        found: list[str] = self.page.eval_on_selector_all("a[href]", script)
        ours = [each for each in found if each.startswith(f"{self.address}/")]
        return [each.removeprefix(self.address).partition("#")[0] for each in ours]

    def is_wider_than_window(self) -> bool:
        """Whether one has to scroll sideways."""
        script = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.page.evaluate(script))

    def barriers(self) -> list[str]:
        """What axe-core finds wrong with the page."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        found = axe.Axe().run(self.page).response["violations"]
        return [
            f"{self.page.url}: {each['id']}: {each['help']}: {node['html'][:200]}"
            for each in found
            for node in each["nodes"]
        ]

    def close(self) -> None:
        """Close it; nothing may have gone wrong."""
        self.context.close()
        assert not self.problems, "\n".join(self.problems)


@contextmanager
def tab(browser: Any, address: str, **options: Any) -> Iterator[Tab]:
    """A `Tab` for a while."""
    found = Tab(browser, address, **options)
    try:
        yield found
    except BaseException:
        found.context.close()
        raise
    found.close()


def picture_path(name: str) -> Path:
    """Where a picture of the documentation is."""
    from doc_pages import ROOT

    return ROOT / "docs" / "images" / f"{name}.png"
