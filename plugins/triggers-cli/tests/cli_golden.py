"""Texts that a person has read: compared with files, times taken out."""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")

_VARIABLE = [
    (re.compile(r"\d{4}-\d{2}-\d{2} \d\d:\d\d:\d\d UTC"), "2026-03-01 12:00:00 UTC"),
    (re.compile(r"(?<!\d )\d\d:\d\d:\d\d UTC"), "12:00:00 UTC"),
    (re.compile(r"\d{4}-\d{2}-\d{2}(?! \d)"), "2026-03-01"),
    (re.compile(r"\d+ (second|minute)s?"), "2 seconds"),
    (re.compile(r"\d+\.\d s, [\d,]+ events/s"), "1.0 s, 2,000 events/s"),
]


def normalised(text: str) -> str:
    """A text with every time in it replaced by the same one."""
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return text


def compare(name: str, text: str) -> None:
    """Compare a text with a golden file; with UPDATE_GOLDEN set, write the file instead."""
    file = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(normalised(text), "utf-8")
    assert normalised(text) == file.read_text("utf-8")
