"""What authors of plugins do: copy the template, build it, install it, list it; and the how-to."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, Page

pytestmark = pytest.mark.long

TEMPLATE = ROOT / "plugins" / "_template"
_PATIENCE = 280  # seconds until a step that hangs fails
_LEFT_OVER = shutil.ignore_patterns("__pycache__", ".*_cache", "dist", "build", "*.egg-info")


@dataclass(frozen=True)
class Fresh:
    """A virtual environment that has the core and the command line, and nothing of this one."""

    folder: Path

    def run(self, *command: str | Path, cwd: Path) -> str:
        """Run one of its programs; returns what it prints.

        :raises AssertionError: it fails; shows what it said.
        """
        program, *arguments = map(str, command)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME") and not name.startswith(("TRIGGER", "COV"))
        }
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd,
            env={**environment, "NO_COLOR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pip(self, *arguments: str | Path, cwd: Path) -> None:
        self.run("python", "-m", "pip", "--quiet", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True, symlinks=os.name != "nt")
    fresh = Fresh(folder / "venv")
    fresh.pip("install", ROOT, ROOT / "plugins" / "triggers-cli", "pytest>=8", cwd=folder)
    return fresh


def test_the_template_from_a_copy_to_a_plugin_that_is_listed(fresh: Fresh, tmp_path: Path) -> None:
    copy = tmp_path / "triggers-example"
    shutil.copytree(TEMPLATE, copy, ignore=_LEFT_OVER)
    fresh.pip("wheel", "--no-deps", "--wheel-dir", tmp_path, copy, cwd=tmp_path)
    [wheel] = tmp_path.glob("triggers_example-*.whl")
    shutil.rmtree(copy / "src")  # what is tested from here on is what was installed
    with installed(fresh, "triggers-example", wheel, cwd=tmp_path):
        [info] = json.loads(fresh.run("triggers", "plugins", "--json", cwd=copy))
        assert (info["name"], info["status"]) == ("example", "loaded")
        assert (info["distribution"], info["version"]) == ("triggers-example", "0.1.0")
        assert info["hooks"] == ["declare_directives", "post_commit"]
        printed = fresh.run("python", "-m", "pytest", "-p", "no:cacheprovider", cwd=copy)
        assert re.search(r"^=+ [1-9]\d* passed in", printed, re.MULTILINE), printed


@contextmanager
def installed(fresh: Fresh, name: str, *source: str | Path, cwd: Path) -> Iterator[None]:
    fresh.pip("install", *source, cwd=cwd)
    try:
        yield
    finally:
        fresh.pip("uninstall", "--yes", name, cwd=cwd)


def test_the_how_to_leads_to_an_installed_plugin(fresh: Fresh, tmp_path: Path) -> None:
    page = Page(DOCS / "plugins.md").section("From an empty folder to an installed plugin")
    page.write_files(tmp_path)
    core, install, plugins, *_ = page.commands
    assert core.line == "python -m pip install triggers-core triggers-cli"  # `fresh` has them
    assert install.line == "python -m pip install ./shop-triggers"
    with installed(fresh, "shop-triggers", "./shop-triggers", cwd=tmp_path):
        printed = fresh.run(*plugins.line.split(), cwd=tmp_path)
        assert lines(printed) == lines(plugins.output)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
