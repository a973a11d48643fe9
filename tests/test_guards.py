"""Each guard of the table is where it says: `nox -s mutations` takes them out in turn.

Here, only that their texts are still in the code, and the tests that must notice in the test files.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache

import pytest
from mutations.guard import ROOT, Guard
from mutations.run import judge
from mutations.table import GUARDS

PLUGINS = "the plugins are not beside the core's tests"

every_guard = pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)


def test_names_are_unique() -> None:
    assert not [name for name, count in Counter(g.name for g in GUARDS).items() if count > 1]


@every_guard
def test_a_guard_is_where_it_was(guard: Guard) -> None:
    texts: dict[str, str] = {}
    for edit in guard.edits:
        if not (ROOT / edit.file).exists():
            pytest.skip(PLUGINS)
        text = texts.get(edit.file) or (ROOT / edit.file).read_text("utf-8")
        texts[edit.file] = edit.applied(text)
        assert texts[edit.file] != text
    for file, text in texts.items():
        if file.endswith(".py"):
            ast.parse(text, file)


@every_guard
def test_its_tests_are_there(guard: Guard) -> None:
    for test in guard.tests:
        file, *names = test.partition("[")[0].split("::")
        if not (ROOT / file).exists():
            pytest.skip(PLUGINS)
        known = names_in(file) | (promises() if "contract" in file else set())
        assert set(names) <= known, test


@cache
def names_in(file: str) -> set[str]:
    text = (ROOT / file).read_text("utf-8")
    return set(re.findall(r"^ *(?:def|class) (\w+)", text, re.MULTILINE))


@cache
def promises() -> set[str]:
    contracts = (ROOT / "src/triggers_core/testing").rglob("*.py")
    return {name for file in contracts for name in names_in(str(file.relative_to(ROOT)))}


@pytest.mark.parametrize(
    ("code", "output", "outcome"),
    [
        (1, "..F\nFAILED tests/test_x.py::test_y[z] - no\n", "killed by test_x.py::test_y[z]"),
        (0, "..  [100%]\n2 passed in 1.00s\n", "SURVIVED"),
        (0, "s.  [100%]\n1 passed, 1 skipped in 1.00s\n", "SURVIVED"),
        (0, "ss  [100%]\n2 skipped in 1.00s\n", "not tried: its tests are skipped here"),
        (1, "ERROR tests/test_x.py::test_y - no\n", "BROKEN: no test failed, pytest ended with 1"),
        (4, "ERROR: not found: test_x.py::test_y\n", "BROKEN: no test failed, pytest ended with 4"),
    ],
)
def test_what_counts_as_noticed(code: int, output: str, outcome: str) -> None:
    assert judge(code, output) == outcome
