"""What the documentation says of moving from Celery's own canvas runs as it stands."""

from __future__ import annotations

from pathlib import Path

from doc_pages import DOCS, Page

PAGE = Page(DOCS / "cookbook" / "from-celery-chords.md")


def test_a_chord_and_its_sentences_side_by_side(tmp_path: Path) -> None:
    assert PAGE.run(tmp_path) == ["python side_by_side.py"]
