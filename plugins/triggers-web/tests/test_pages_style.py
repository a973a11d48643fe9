"""What the style sheet promises: contrast in light and dark; nothing from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from triggers_web.pages.rendering import environment

STATIC = files("triggers_web.pages") / "static"
STYLE = (STATIC / "style.css").read_text()

LEAST = 4.5
"""The contrast of text that WCAG 2.2 asks for (1.4.3, level AA)."""


def colours() -> list[dict[str, str]]:
    """Name → colour, in light and in dark."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in blocks]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_how_contrast_is_measured() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme: int) -> None:
    known = colours()[theme]
    texts = ("text", "quiet", "link", "bad", "warn", "good", "busy")
    assert set(known) == {*texts, "page", "card", "line", "on"}
    for behind in ("page", "card"):
        for name in texts:
            assert contrast(known[name], known[behind]) >= LEAST, (name, behind)
    for button in ("link", "bad"):
        assert contrast(known["on"], known[button]) >= LEAST, button


def test_every_colour_is_one_of_these() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(", rules)
    assert set(re.findall(r"var\(--(\w+)\)", rules)) <= set(colours()[0])


def test_nothing_comes_from_elsewhere() -> None:
    for name in ("style.css", "script.js"):
        text = (STATIC / name).read_text()
        assert "//" not in re.sub(r"^\s*//.*$|\s//\s.*$", "", text, flags=re.MULTILINE)
        assert "@import" not in text
        assert "url(" not in text
    for name in environment().list_templates():
        source, _, _ = environment().loader.get_source(environment(), name)  # type: ignore[union-attr]
        assert "http" not in source.replace("http-equiv", "")
        assert " style=" not in source
        assert not re.search(r"\son\w+=", source)
