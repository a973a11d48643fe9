"""The pytest plugin, as pytest runs it in projects that use it, and in those that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFIG = """
CONFIG = {"t_ship": {"after": ["paid", "stockReserved"], "unless": ["cancelled"],
                     "run": "shop.Ship"}}
"""
QUIET = ("-p", "no:django", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(project: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    project.makepyfile(CONFIG + source)
    return project.runpytest_inprocess(*QUIET, *options)


def test_the_fixture(project: pytest.Pytester) -> None:
    ran = run(
        project,
        """
def test_ship(triggers):
    s = triggers.session(CONFIG)
    s.fire("paid", {"amount": 120}); assert s.ran("t_ship") == 0
    s.fire("stockReserved"); assert s.ran("t_ship") == 1
    s.advance("3 days")

def test_any_order(triggers):
    events = ["paid", "stockReserved"]
    triggers.assert_any_order(CONFIG, events, runs={"t_ship": 1}, duplicates=True)

def test_each_is_isolated(triggers):
    assert not triggers.session(CONFIG, uid="session 1").fired("paid")
""",
    )
    ran.assert_outcomes(passed=3)
    assert ran.ret == 0


def test_a_failed_assertion_says_why(project: pytest.Pytester) -> None:
    ran = run(
        project,
        """
def test_count(triggers):
    s = triggers.session(CONFIG)
    s.fire("paid")
    assert s.ran("t_ship") == 1

def test_status(triggers):
    s = triggers.session(CONFIG)
    s.fire("paid")
    assert s.status("t_ship") == "finished"
""",
    )
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines(
        [
            "E*assert 0 == 1: t_ship ran never",
            "E*t_ship: after paid and stockReserved, unless cancelled, run shop.Ship",
            "E*waits for stockReserved*",
            "*- Triggers -*",
            "Session session 1: 1 event*",
            "No code defines shop.Ship: a stand-in ran*",
            "E*'unstarted' == 'finished': t_ship is unstarted",
        ]
    )


def test_what_has_no_values_to_compare_says_why_as_well(project: pytest.Pytester) -> None:
    ran = run(
        project,
        """
def test_truth(triggers):
    s = triggers.session(CONFIG)
    s.fire("paid")
    assert s.ran("t_ship")

def test_error(triggers):
    s = triggers.session(CONFIG)
    s.fails("t_ship", OSError("the printer burns"))
    s.fire("paid")
    s.fire("stockReserved")
    raise LookupError("parcel")
""",
    )
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines(["*waits for stockReserved*", "*OSError: the printer burns*"])


def test_a_failed_proof_is_short(project: pytest.Pytester) -> None:
    ran = run(
        project,
        """
def test_any_order(triggers):
    triggers.assert_any_order(CONFIG, ["paid", "stockReserved", "cancelled"], runs={"t_ship": 1})
""",
        "--tb=short",
    )
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        [
            "test_a_failed_proof_is_short.py:*: in test_any_order",
            "E*AssertionError: t_ship ran never, expected once, when the events come like this:",
            "E*    s = triggers.session(CONFIG)",
            "E*    s.fire('paid')",
            "E*    s.fire('cancelled')",
            "E*    s.fire('stockReserved')",
            "E*    assert s.ran('t_ship') == 1",
            "E*t_ship#0: abandoned: cancelled fired*",
        ]
    )
    ran.stdout.no_fnmatch_line("*any_order.py:*")


def test_another_fixture_of_the_name(project: pytest.Pytester) -> None:
    project.makeconftest(
        "import pytest\n@pytest.fixture\ndef triggers():\n    return ['a list of my own']\n"
    )
    ran = run(
        project,
        """
def test_mine(triggers):
    assert triggers == ["a list of my own"]

def test_fails(triggers):
    assert not triggers
""",
    )
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.no_fnmatch_line("*- Triggers -*")
    ran.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_without_the_plugin(project: pytest.Pytester) -> None:
    ran = run(project, "def test_it(triggers): ...\n", "-p", "no:triggers")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["E*fixture 'triggers' not found"])


def test_on_other_storages(project: pytest.Pytester) -> None:
    ran = run(
        project,
        """
import pytest

@pytest.mark.parametrize("triggers", ["memory", "sqlite"], indirect=True)
def test_ship(triggers):
    triggers.assert_any_order(CONFIG, ["paid", "stockReserved"], runs={"t_ship": 1})
    assert triggers.place.store.key == triggers.place_name
""",
    )
    ran.assert_outcomes(passed=2)


def test_in_several_processes(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    project.makepyfile(
        CONFIG
        + """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_ship(triggers, number):
    s = triggers.session(CONFIG)
    s.fire("paid")
    assert s.ran("t_ship") == (1 if number == 3 else 0)
"""
    )
    ran = project.runpytest_subprocess("-p", "no:django", "-p", "no:cacheprovider", "-n", "1")
    ran.assert_outcomes(passed=3, failed=1)
    ran.stdout.fnmatch_lines(["*- Triggers -*", "Session session 1: 1 event*"])


def test_a_project_that_does_not_use_it_loads_nothing_of_ours(tmp_path: Path) -> None:
    test = tmp_path / "test_nothing.py"
    test.write_text(
        """
import sys

def test_it():
    ours = {name for name in sys.modules if name.startswith(("triggers", "pluggy.", "msgspec"))}
    print(sorted(each for each in ours if not each.startswith("pluggy")))
"""
    )
    options = ["-q", "-s", "-p", "no:django", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [each for each in done.stdout.splitlines() if each.startswith("[")]
    loaded = [
        *("triggers_core", "triggers_core.testing"),
        *("triggers_core.testing.pytest_plugin", "triggers_core.testing.storage_option"),
    ]
    assert line.rstrip(".") == str(loaded)
