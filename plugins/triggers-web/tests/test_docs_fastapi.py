"""What the cookbook says about FastAPI runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import DOCS, Page

pytest.importorskip("fastapi")


def test_the_service(tmp_path: Path) -> None:
    assert Page(DOCS / "cookbook" / "fastapi.md").run(tmp_path) == ["python try_it.py"]
