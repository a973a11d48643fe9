"""What each distribution has to say about itself. ``nox -s dist`` builds them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT

import triggers_core

ADDRESS = "https://github.com/triggers-project/triggers"
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/triggers-*/pyproject.toml"))
TEMPLATE = ROOT / "plugins" / "_template"

_LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
_OURS = re.compile(r"triggers-[a-z]+(\[\w+\])?")

every_folder = pytest.mark.parametrize("folder", [ROOT, *PLUGINS], ids=lambda each: each.name)
every_plugin = pytest.mark.parametrize("folder", [*PLUGINS, TEMPLATE], ids=lambda each: each.name)


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def test_there_are_plugins() -> None:
    assert len(PLUGINS) >= 6


@every_plugin
def test_plugins_stay_below_the_next_version_of_the_core_that_may_break(folder: Path) -> None:
    major, minor, _ = triggers_core.__version__.split(".")
    needs = [each for each in project(folder)["dependencies"] if each.startswith("triggers-core")]
    assert needs == [f"triggers-core>={major}.{minor},<{major}.{int(minor) + 1}"]


@every_folder
def test_whatever_of_ours_is_needed_has_both_bounds(folder: Path) -> None:
    table = tomllib.loads((folder / "pyproject.toml").read_text())
    groups = [
        table["project"]["dependencies"],
        *table["project"].get("optional-dependencies", {}).values(),
        *table.get("dependency-groups", {}).values(),
    ]
    for line in [line for group in groups for line in group if isinstance(line, str)]:
        name = re.split(r"[<>=]", line)[0]
        if _OURS.fullmatch(name):
            assert re.fullmatch(r">=\d+\.\d+,<\d+\.\d+", line.removeprefix(name)), line
        else:
            assert re.search(r"[>=]=\d", line), f"{line}: how old may it be?"


def test_every_plugin_is_an_extra_of_the_core() -> None:
    extras = project(ROOT)["optional-dependencies"]
    assert {f"triggers-{name}" for name in extras if name != "testing"} == {
        folder.name for folder in PLUGINS
    }


@every_folder
def test_the_licence_is_there_and_the_address(folder: Path) -> None:
    table = project(folder)
    assert (table["license"], table["license-files"]) == ("MIT", ["LICENSE"])
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert table["urls"].keys() == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    for address in table["urls"].values():
        assert_in_the_repository(address)


@every_folder
def test_the_version_is_written_once(folder: Path) -> None:
    assert "version" in project(folder)["dynamic"]
    [package] = (folder / "src").glob("triggers_*")
    [version] = re.findall(r'^__version__ = "(.+)"$', (package / "__init__.py").read_text(), re.M)
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", version)
    everything = [file for file in folder.glob("src/**/*.py") if version in file.read_text()]
    assert everything == [package / "__init__.py"]


@every_folder
def test_links_of_a_readme_work_on_pypi_too(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for address in [inline or reference for inline, reference in _LINK.findall(text)]:
        if address.startswith("#"):
            assert address[1:] in anchors(text), address
        else:
            assert address.startswith("https://"), f"{address} leads nowhere on PyPI"
            assert_in_the_repository(address)


def assert_in_the_repository(address: str) -> None:
    """That an address within the repository names what is there, file or folder."""
    inner = re.match(rf"{ADDRESS}/(tree|blob)/main/([^#]+)(?:#(.+))?", address)
    if inner is None:
        return
    kind, path, heading = inner.groups()
    target = ROOT / path
    assert target.is_dir() if kind == "tree" else target.is_file(), address
    if heading:
        assert heading in anchors(target.read_text()), address


def anchors(markdown: str) -> set[str]:
    """What the headings of a page are called in addresses, by GitHub's rules."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
