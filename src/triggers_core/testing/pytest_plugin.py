"""The pytest plugin of Triggers: the fixture `triggers`, its options, and reports of contracts.

pytest loads it wherever triggers-core is installed, so it imports nothing of ours before a test
asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from triggers_core.testing.kit import Triggers
    from triggers_core.testing.suite import Suite

pytest_plugins: list[str] = ["triggers_core.testing.storage_option"]

_LINES = 8  # of an assertion's explanation, that pytest shows; here with the first one


@pytest.fixture
def triggers(request: pytest.FixtureRequest) -> Iterator[Triggers]:
    """An application of the test's own, with a virtual clock: see *Testing workflows*."""
    from triggers_core.testing.kit import Triggers  # loaded by the first test that asks for it
    from triggers_core.testing.storage_option import storage_of

    with Triggers(storage_of(request)) as bench:
        yield bench


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say of counts and statuses what they are about, and why they are what they are."""
    for value in (left, right):
        told = getattr(type(value), "triggers_told", None)
        if told is not None:
            first, *why = told(value)
            return [f"{left!r} {op} {right!r}: {first}", *why[: _LINES - 1]]
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failed test what became of its sessions."""
    report = yield
    if call.when == "call" and report.failed:
        bench = getattr(item, "funcargs", {}).get("triggers")
        told = getattr(type(bench), "report", None)
        if type(bench).__module__.startswith("triggers_core.testing.kit") and told is not None:
            text = told(bench)
            report.sections += [("Triggers", text)] if text else []
    return report


# -- contract suites ------------------------------------------------------------------------------


def _suite() -> type[Suite] | None:
    """The base of the suites, if this process has imported any."""
    module = sys.modules.get("triggers_core.testing.suite")
    return None if module is None else module.Suite


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> Any:
    """Refuse a contract of which nothing would be collected."""
    suite = _suite()
    if suite is not None and isinstance(obj, type) and issubclass(obj, suite):
        from triggers_core.testing.report import check_collectable

        check_collectable(collector, name, obj)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which tests are promises of a contract, before options leave some out."""
    if _suite() is not None:
        from triggers_core.testing.report import mark_promises

        mark_promises(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write a line for each contract."""
    reports = (each for reports in terminalreporter.stats.values() for each in reports)
    if any(getattr(each, "user_properties", ()) for each in reports):
        from triggers_core.testing.report import write

        write(terminalreporter)
