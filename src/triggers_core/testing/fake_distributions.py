"""Installed distributions for tests: real `*.dist-info` folders and modules, on sys.path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest


class FakeDistributions:
    """Writes what pip would have installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        entry_points: Mapping[str, str],
        modules: Mapping[str, str] | None = None,
        *,
        group: str = "triggers.plugins",
        version: str = "1.0",
        metadata: bytes | None = None,
    ) -> None:
        """Install a distribution: its entry points (name → path) and modules (path → source).

        :param metadata: in place of a proper METADATA file; empty for no file at all.
        """
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        if metadata:
            (info / "METADATA").write_bytes(metadata)
        lines = [f"{key} = {path}" for key, path in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        for path, source in (modules or {}).items():
            self.module(path, source)
        importlib.invalidate_caches()

    def module(self, path: str, source: str) -> None:
        """Write a module, and the packages above it."""
        *packages, last = path.split(".")
        folder = self.folder
        for package in packages:
            folder = folder / package
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
        (folder / f"{last}.py").write_text(dedent(source))
        importlib.invalidate_caches()


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDistributions]:
    """Fake distributions beside the real ones; their modules are forgotten after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield FakeDistributions(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
