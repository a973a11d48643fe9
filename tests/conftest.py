"""Fixtures for all tests of the core, and what its tests have to say at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Helpers that assert: pytest shows the values, as it does in test files.
pytest.register_assert_rewrite("doc_pages", "processes.spawn")

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def fast_dir(tmp_path: Path) -> Iterator[Path]:
    """A new folder, in memory where the system offers that: for files that are synced often."""
    if not os.access(_IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="triggers-", dir=_IN_MEMORY) as folder:
        yield Path(folder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what tests have recorded as `summary` (a line) or `crash_points` (one line for all)."""
    surveys = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "summary" and report.when == "call":
                    terminalreporter.write_line(str(value))
                elif name == "crash_points" and report.when == "call":
                    surveys.append(value)
    if surveys:
        storages = {storage for storage, *_ in surveys}
        points, lost, doubled = (sum(column) for column in list(zip(*surveys, strict=True))[1:])
        terminalreporter.write_line(
            f"{points // len(storages)} crash points × {len(storages)} storages:"
            f" {lost} lost, {doubled} double commits"
        )
