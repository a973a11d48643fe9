"""The pictures of the documentation: the pages as they look now. `nox -s browser -- --renew` makes
them anew."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from browser_pictures import SHOWN, make_picture_world
from real_browser import NARROW, WIDE, picture_path, tab
from web_pages import ALL
from web_server import Server

from triggers_web.pages.login import LOOPBACK
from triggers_web.starlette import site

pytestmark = pytest.mark.browser

COLOURS = 128
MOST_BYTES = 80_000
DIFFERENT = 0.02
"""The part of all pixels that may look otherwise: fonts are not the same everywhere."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with (
        make_picture_world() as app,
        Server(site(app, access=lambda _: ALL, hosts=LOOPBACK)) as server,
    ):
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", SHOWN)
def test_pictures(
    browser: Any, address: str, name: str, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    image = pytest.importorskip("PIL.Image")
    path = picture_path(f"{name}-{width}-{'dark' if dark else 'light'}")
    with tab(browser, address, width=width, dark=dark) as seen:
        seen.go(SHOWN[name])
        seen.page.evaluate("document.fonts.ready")
        high = round(seen.page.evaluate("document.body.getBoundingClientRect().height"))
        seen.page.set_viewport_size({"width": width, "height": min(high, 1100)})
        taken = image.open(io.BytesIO(seen.page.screenshot())).convert("RGB")
    small = taken.quantize(COLOURS, image.Quantize.MAXCOVERAGE, dither=image.Dither.NONE)
    if request.config.getoption("--renew", default=False):
        path.parent.mkdir(exist_ok=True)
        small.save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES
    kept = image.open(path).convert("L")
    assert kept.width == width
    if abs(kept.height - small.height) > 0.1 * kept.height:
        pytest.fail(f"{path.name} has another height: see `nox -s browser -- --renew`")
    # Far off only: at a quarter of the size, letters are grey whatever their font.
    size = (width // 4, min(kept.height, small.height) // 4)
    box = (0, 0, size[0] * 4, size[1] * 4)
    old = kept.crop(box).resize(size, image.Resampling.BOX).tobytes()
    new = small.convert("L").crop(box).resize(size, image.Resampling.BOX).tobytes()
    differ = sum(abs(a - b) > 64 for a, b in zip(old, new, strict=True))
    assert differ < DIFFERENT * len(old), f"{path.name} is old: `nox -s browser -- --renew`"
