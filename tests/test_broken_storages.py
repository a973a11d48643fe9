"""For every promise of the storage contract, a storage that breaks it and is found out by name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import broken_storages
import pytest

from triggers_core.testing import StorageContract
from triggers_core.testing.suite import promise_of

FILE = Path(__file__).with_name("broken_storages.py")

_JOINED = "no storage of the core can be joined; the contract of triggers-postgres runs these"
_THE_SUITE = "it is about what the suite says of the store: see test_contract_suites"
_SAVEPOINTS = "it takes a database with transactions of its own to break it: none is written yet"
UNBROKEN = {
    "what coroutines join is stored with the transaction": _JOINED,
    "what is joined is gone with the transaction": _JOINED,
    "what is joined is stored with the transaction": _JOINED,
    "what is refused within leaves the transaction usable": _JOINED,
    "a commit that fails while it is written is whole or absent": _SAVEPOINTS,
    "callbacks of another thread are its own": _SAVEPOINTS,
    "the suite is whole": _THE_SUITE,
    "sessions outlive the store or the suite says why not": _THE_SUITE,
}
"""Promise → why no storage here breaks it."""


class Findings:
    """Runs what is not found out yet, and notes what fails, and in which words."""

    def __init__(self) -> None:
        self.failed: dict[str, set[str]] = defaultdict(set)
        self.said: dict[tuple[str, str], str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Function) -> None:
        promise = promise_of(item.originalname)
        if not broken_storages.BREAKS[item.cls.__name__] and any(
            promise in each for each in self.failed.values()
        ):
            pytest.skip("it is found out already")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.when != "setup":  # a store that cannot be made breaks nothing
            _, suite, test = report.nodeid.split("::")
            promise = promise_of(test.partition("[")[0])
            self.failed[suite].add(promise)
            self.said[suite, promise] = "\n".join(text for _, text in report.sections)


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    findings = Findings()
    names = {promise_of(each): each for each in StorageContract.promises}
    wanted = [
        f"{FILE}::{suite}" + (f"::{names[promise]}" if promise else "")
        for suite, promises in broken_storages.BREAKS.items()
        for promise in promises or ("",)
    ]
    # Warnings about what another test has left would be blamed on the one that runs.
    ignored = ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
    ignored += ("pytest.PytestUnhandledThreadExceptionWarning", "pytest.PytestAssertRewriteWarning")
    options = ["-qq", "-p", "no:cacheprovider", "--tb=no", *(f"-Wignore::{w}" for w in ignored)]
    temporary = f"--basetemp={tmp_path_factory.mktemp('broken')}/inner"
    pytest.main([*options, temporary, *wanted], plugins=[findings])
    return findings


@pytest.mark.parametrize("suite", [name for name, of in broken_storages.BREAKS.items() if of])
def test_what_a_storage_breaks_is_named(findings: Findings, suite: str) -> None:
    expected = set(broken_storages.BREAKS[suite])
    assert findings.failed[suite] == expected
    for promise in expected:
        assert promise in findings.said[suite, promise]


def test_every_promise_is_broken_by_some_storage(findings: Findings) -> None:
    every = {promise_of(each) for each in StorageContract.promises}
    broken = {promise for each in findings.failed.values() for promise in each}
    assert every - broken == set(UNBROKEN)
