"""Words under which pages are found that do not have them, or not as others do."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path


@cache
def phrases() -> dict[str, list[str]]:
    """Phrase, or several with commas between → pages."""
    return tomllib.loads(Path(__file__).with_name("search.toml").read_text(encoding="utf-8"))


def index_entries(page: str) -> str:
    """What makes the search, and the index, lead to a page; empty when nothing is to."""
    # Main entries ("!") come before whatever was found in texts.
    entries = [
        f"   ! single: {phrase.strip()}"
        for line, pages in phrases().items()
        if page in pages
        for phrase in line.split(",")
    ]
    return "\n".join(["```{eval-rst}", ".. index::", *entries, "```"]) if entries else ""


def markdown() -> str:
    """All phrases, with the pages that they lead to."""
    rows = [
        f"| {line} | " + ", ".join(f"[](/{page}.md)" for page in pages) + " |"
        for line, pages in sorted(phrases().items(), key=lambda each: each[0].lower())
    ]
    return "\n".join(["| you look for | and find it in |", "|---|---|", *rows])
