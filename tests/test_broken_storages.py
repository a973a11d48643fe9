"""For every promise of the storage contract, a storage that breaks it and is found out by name."""

from __future__ import annotations

from pathlib import Path

import broken_storages
import pytest
from broken_suites import Findings, find_out

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


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    temporary = tmp_path_factory.mktemp("broken")
    return find_out(StorageContract, FILE, broken_storages.BREAKS, temporary)


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
