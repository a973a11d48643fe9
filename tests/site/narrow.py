"""On a telephone, no page of the site is wider than the screen: what is wide scrolls by itself.

Run by ``nox -s docs``, in the system's Chromium; skipped, and saying so, where there is none.
"""

from __future__ import annotations

import os
import shutil

import pytest
from doc_pages import DOCS

WIDTH = 400  # pixels
SITE = DOCS / "_build" / "html"
NAMES = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if name and (found := shutil.which(name))), None)
WIDER = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (each) => ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
    const alone = (each) => !each || (!scrolls(each) && alone(each.parentElement));
    const wide = [...document.querySelectorAll("article table, article pre, article img")]
        .filter((each) => each.getBoundingClientRect().right > width + 1 && alone(each))
        .map((each) => each.outerHTML.slice(0, 80));
    return document.documentElement.scrollWidth > width ? ["the page", ...wide] : wide;
}"""
"""What reaches out of the screen, and cannot be scrolled by itself."""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; CHROMIUM says where it is")
def test_no_page_is_wider_than_a_telephone() -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    pages = [file for file in SITE.rglob("*.html") if "_static" not in file.parts]
    assert len(pages) > 50, "build the site first: nox -s docs"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_page(
            viewport={"width": WIDTH, "height": 800}, java_script_enabled=False
        )
        found = {}
        for file in pages:
            window.goto(file.as_uri())
            if wide := window.evaluate(WIDER):
                found[file.relative_to(SITE).as_posix()] = wide
        browser.close()
    assert not found
