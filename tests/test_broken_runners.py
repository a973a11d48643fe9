"""For every promise of the runner contract, a runner that breaks it and is found out by name."""

from __future__ import annotations

from pathlib import Path

import broken_runners
import pytest
from broken_suites import Findings, find_out

from triggers_core.testing import RunnerContract
from triggers_core.testing.suite import promise_of

FILE = Path(__file__).with_name("broken_runners.py")

_THE_SUITE = "it is about what the suite says of the runner: see test_contract_suites"
UNBROKEN = {
    "the suite is whole": _THE_SUITE,
    "bodies run here or the suite says why not": _THE_SUITE,
    "there is a bound or the suite says why not": _THE_SUITE,
}
"""Promise → why no runner here breaks it."""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    temporary = tmp_path_factory.mktemp("broken")
    return find_out(RunnerContract, FILE, broken_runners.BREAKS, temporary)


@pytest.mark.parametrize("suite", broken_runners.BREAKS)
def test_what_a_runner_breaks_is_named(findings: Findings, suite: str) -> None:
    expected = set(broken_runners.BREAKS[suite])
    assert findings.failed[suite] == expected
    for promise in expected:
        assert promise in findings.said[suite, promise]


def test_every_promise_is_broken_by_some_runner(findings: Findings) -> None:
    every = {promise_of(each) for each in RunnerContract.promises}
    broken = {promise for each in findings.failed.values() for promise in each}
    assert every - broken == set(UNBROKEN)


def test_with_nothing_broken_it_keeps_every_promise(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = find_out(RunnerContract, FILE, {"TestWhole": ()}, tmp_path_factory.mktemp("whole"))
    assert whole.failed == {}
