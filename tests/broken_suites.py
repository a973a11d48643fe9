"""What finds out suites of a contract that are run on something broken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from triggers_core.testing.suite import Suite, promise_of


class Findings:
    """Runs what is not found out yet, and notes what fails, and in which words.

    :param breaks: name of a suite → the promises that fail in it; none where it is so broken that
        it fails whatever is left.
    """

    def __init__(self, breaks: Mapping[str, tuple[str, ...]]) -> None:
        self.breaks = breaks
        self.failed: dict[str, set[str]] = defaultdict(set)
        self.said: dict[tuple[str, str], str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Function) -> None:
        promise = promise_of(item.originalname)
        if not self.breaks[item.cls.__name__] and any(
            promise in each for each in self.failed.values()
        ):
            pytest.skip("it is found out already")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.when != "setup":  # what cannot be made breaks nothing
            _, suite, test = report.nodeid.split("::")
            promise = promise_of(test.partition("[")[0])
            self.failed[suite].add(promise)
            self.said[suite, promise] = "\n".join(text for _, text in report.sections)


def find_out(
    contract: type[Suite], file: Path, breaks: Mapping[str, tuple[str, ...]], temporary: Path
) -> Findings:
    """Run the promises that the suites of a file break.

    :param file: derives the suites from the contract, each on something broken.
    """
    findings = Findings(breaks)
    names = {promise_of(each): each for each in contract.promises}
    wanted = [
        f"{file}::{suite}" + (f"::{names[promise]}" if promise else "")
        for suite, promises in breaks.items()
        for promise in promises or ("",)
    ]
    # Warnings about what another test has left would be blamed on the one that runs.
    ignored = ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
    ignored += ("pytest.PytestUnhandledThreadExceptionWarning", "pytest.PytestAssertRewriteWarning")
    options = ["-qq", "-p", "no:cacheprovider", "--tb=no", *(f"-Wignore::{w}" for w in ignored)]
    pytest.main([*options, f"--basetemp={temporary}/inner", *wanted], plugins=[findings])
    return findings
