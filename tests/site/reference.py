"""The reference leaves nothing out: names, errors, commands, and what is generated of them.

No part of the test suite, for it sets up Django in its process: `python -m nox -s docs` runs it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from doc_pages import DOCS, Page, pages

sys.path.insert(0, str(DOCS))  # for triggers_docs
from triggers_docs import GENERATORS, errors, expand, faces, searching

OFFERED = (
    "triggers_core",
    "triggers_core.storages",
    "triggers_core.runners",
    "triggers_core.settings",
    "triggers_core.explain",
    "triggers_core.payloads",
    "triggers_core.testing",
    "triggers_core.testing.kit",
    "triggers_core.testing.faults",
    "triggers_core.testing.model",
    "triggers_core.testing.simulation",
    "triggers_celery",
    "triggers_cli",
    "triggers_django",
    "triggers_otel",
    "triggers_postgres",
    "triggers_redis",
    "triggers_structlog",
    "triggers_web.intake",
    "triggers_web.pages",
)
"""The packages whose `__all__` is public, as the page says."""

ELSEWHERE = {
    "triggers_core.exceptions": "errors",
    "triggers_core.views": "application",  # its modules, one by one
    "triggers_web.commands": "commands",
}
"""Modules whose names are listed in another form, and the page that does."""

LISTED = {module for modules in faces.FACES.values() for module in modules}
REFERENCE = sorted((DOCS / "reference").glob("*.md"))


def test_every_package_that_offers_names_is_listed() -> None:
    assert not set(OFFERED) - LISTED


def test_every_module_that_a_page_imports_from_is_listed() -> None:
    used = {module for page in pages() for module in imported(page)}
    assert len(used) > 20
    assert used - LISTED <= set(ELSEWHERE)


def imported(page: Page) -> Iterator[str]:
    for code in page.fences("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("triggers_"):
                yield node.module or ""


def test_every_module_that_a_text_names_is_listed() -> None:
    named = {
        module
        for page in pages()
        for path in re.findall(r"`(triggers_\w+(?:\.\w+)+)`", page.text)
        if (module := module_of(path))
    }
    assert named - LISTED <= set(ELSEWHERE)


def module_of(path: str) -> str:
    """The module of a dotted name; empty if there is none of this environment."""
    while "." in path:
        try:
            faces.load(path)
        except ModuleNotFoundError:
            path = path.rpartition(".")[0]
        else:
            return path
    return ""


@pytest.mark.parametrize("face", faces.FACES)
def test_every_public_name_is_on_a_page(face: str) -> None:
    identities = documented()
    for name in faces.FACES[face]:
        module = faces.load(name)
        offered = getattr(module, "__all__", None) or own(name)
        missing = {
            each
            for each in offered
            if each != "__version__" and faces.identity(name, each) not in identities
        }
        assert not missing, f"{name}: {missing}"


@cache
def documented() -> set[str]:
    """Where everything is defined that a page of the reference documents."""
    texts = [expand(file.read_text(encoding="utf-8")) for file in REFERENCE]
    every = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(texts), re.MULTILINE)
    return {faces.identity(*name.rsplit(".", 1)) for name in every}


def own(name: str) -> set[str]:
    """The classes and functions that a module's source defines: not asked of the generator."""
    source = inspect.getsource(faces.load(name))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = {each.name for each in ast.parse(source).body if isinstance(each, kinds)}
    return {each for each in found if not each.startswith("_")}


def test_every_error_has_a_cure_and_every_cure_an_error() -> None:
    every = errors.all_errors()
    assert set(errors.cures()) == {name.rpartition(".")[2] for name in every}
    exceptions = import_module("triggers_core.exceptions")
    kinds = {name for name, value in vars(exceptions).items() if inspect.isclass(value)}
    raised = {name for name in kinds if issubclass(getattr(exceptions, name), BaseException)}
    assert raised <= set(errors.cures())
    assert all(kind.__doc__ for kind in every.values())


def test_every_command_is_there_with_an_example() -> None:
    text = expand((DOCS / "reference" / "commands.md").read_text(encoding="utf-8"))
    from triggers_cli.groups import OWN

    for name in OWN:
        section = text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert f"triggers {name}" in section, name
    examples = text.count("Example:")
    assert examples >= len(OWN) - 3


def test_marks_are_those_that_exist() -> None:
    used = {
        found
        for file in REFERENCE
        for found in re.findall(r"<!-- generated: (\w+)", file.read_text(encoding="utf-8"))
    }
    assert used == set(GENERATORS)


def test_what_is_looked_for_leads_to_pages() -> None:
    for phrase, found in searching.phrases().items():
        for page in found:
            assert (DOCS / f"{page}.md").exists(), f"{phrase}: {page}"


def test_the_page_about_the_api_says_the_rule() -> None:
    text = Page(Path(DOCS / "reference" / "api.md")).text
    for name in OFFERED:
        if name.count(".") < 2 and name.startswith("triggers_core"):
            assert f"`{name}`" in text or f"`.{name.rpartition('.')[2]}`" in text
